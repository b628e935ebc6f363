"""The audit's page: findings with pictures, decisions that stay, and corrected annotations to build shards from."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from audit_study import RIGHT, SETTING, WRONG, kinds_marked, write_audited_study
from PIL import Image
from review_study import listening
from small_study import SmallStudy

from analysis.review.audit.decisions import Decided, keep, read_decisions
from analysis.review.audit.export import export_audit
from analysis.review.audit.server import make_app
from analysis.review.audit.session import AuditedStudy, AuditSession
from analysis.review.gate import Access
from bccdist.errors import ConfigurationError, EventLogError, LedgerError
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import read_manifest
from bccdist.study import manifest_of_study
from jobs.review import ReviewArguments, main


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    return write_audited_study(tmp_path_factory.mktemp("audit"))


@pytest.fixture
def small(original: SmallStudy, tmp_path: Path) -> SmallStudy:
    return original.copied_to(tmp_path)


@pytest.fixture
def client(small: SmallStudy) -> Iterator[httpx.Client]:
    session = AuditSession(StudyPaths(small.root), SETTING, "anna")
    app = make_app(session, Access(port=0, names=frozenset({"127.0.0.1"})))
    with listening(app) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield client


def of_reason(client: httpx.Client, reason: str, kind: str | None = None) -> str:
    findings = client.get("/api/audit").json()["findings"]
    (found,) = [each["id"] for each in findings if (each["reason"], each["kind"]) == (reason, kind)]
    return str(found)


def decide(client: httpx.Client, row: str, decision: str, kind: str | None = None) -> httpx.Response:
    content = {"id": row, "decision": decision} | ({"kind": kind} if kind else {})
    return client.post("/api/audit/decisions", json=content)


def test_the_errors_come_first_with_their_reasons(client: httpx.Client) -> None:
    told = client.get("/api/audit").json()
    first = told["findings"][:3]
    assert {each["slide_id"] for each in first} == {WRONG}
    assert sorted(each["reason"] for each in first) == ["kind swapped", "kind swapped", "nest left out"]
    assert {each["reason"] for each in told["findings"][3:]} == {"agrees"}
    assert [each["rank"] for each in told["findings"]] == list(range(1, len(told["findings"]) + 1))
    assert client.get("/").headers["content-type"].startswith("text/html")
    assert client.get("/static/audit.js").status_code == 200


def test_a_crop_shows_the_tissue_and_what_is_marked_on_it(client: httpx.Client) -> None:
    row = of_reason(client, "nest left out")
    plain, marked = (
        np.asarray(Image.open(io.BytesIO(client.get(f"/api/audit/crops/{row}", params={"marked": mark}).content)))
        for mark in ("no", "yes")
    )
    assert plain.shape == marked.shape
    assert max(plain.shape) <= 562
    is_turquoise = (marked == (0, 224, 224)).all(axis=2)
    assert is_turquoise.sum() > 200
    assert not (plain == (0, 224, 224)).all(axis=2).any()
    rows, cols = np.nonzero(is_turquoise)
    assert abs(rows.mean() / len(marked) - 0.5) < 0.1, "the finding lies in the middle of its crop"
    assert abs(cols.mean() / marked.shape[1] - 0.5) < 0.1


def test_decisions_stay_and_a_skip_takes_them_back(client: httpx.Client, small: SmallStudy) -> None:
    row = of_reason(client, "nest left out")
    assert decide(client, row, "fix", "Tumornest").json()["said"]["kind"] == "Tumornest"
    assert decide(client, row, "accept").status_code == 200
    (said,) = [each["said"] for each in client.get("/api/audit").json()["findings"] if each["id"] == row]
    assert said["decision"] == "accept"
    decide(client, row, "skip")
    assert all(each["said"] is None for each in client.get("/api/audit").json()["findings"])
    kept = read_decisions(StudyPaths(small.root), SETTING, AuditedStudy(StudyPaths(small.root), SETTING).digest)[0]
    assert [(each.reviewer, each.decision) for each in kept] == [("anna", "fix"), ("anna", "accept"), ("anna", "skip")]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({"id": "train-0/outline-99", "decision": "accept"}, 404),
        ({"id": ["a"], "decision": "accept"}, 404),
        ({"id": "train-0/outline-0", "decision": "maybe"}, 400),
        ({"id": "train-0/outline-0", "decision": "fix"}, 400),
        ({"id": "train-0/outline-0", "decision": "fix", "kind": "Bone"}, 400),
        ({"id": "train-0/outline-0", "decision": "accept", "more": 1}, 400),
    ],
)
def test_what_is_no_decision_is_refused_and_not_kept(
    client: httpx.Client, small: SmallStudy, content: dict[str, object], status: int
) -> None:
    assert client.post("/api/audit/decisions", json=content).status_code == status
    assert not list(StudyPaths(small.root).review.glob("audit-*"))


def test_fixes_become_an_annotation_that_the_manifest_takes_and_all_else_stands(
    client: httpx.Client, small: SmallStudy, tmp_path: Path
) -> None:
    decide(client, of_reason(client, "nest left out"), "fix", "Tumornest")
    decide(client, of_reason(client, "kind swapped", "Normal"), "fix", "Tumornest")
    decide(client, of_reason(client, "kind swapped", "Tumornest"), "fix", "none")
    before = kinds_marked(small.manifest, WRONG)
    main(ReviewArguments(study=small.root, audit=SETTING, export=tmp_path / "out"))
    after = kinds_marked(tmp_path / "out" / "slides.csv", WRONG)
    assert after["Stroma"] == pytest.approx(before["Stroma"], rel=1e-3)
    assert after["Normal"] == 0
    nest = (400 / 2) * (340 / 2) / (1300 * 900)
    assert after["Tumornest"] == pytest.approx(before["Normal"] + nest, rel=0.1)
    (tmp_path / "out").rename(tmp_path / "moved")
    assert kinds_marked(tmp_path / "moved" / "slides.csv", WRONG) == after
    (tmp_path / "moved").rename(tmp_path / "out")
    records = [read_manifest(path).slide(RIGHT) for path in (small.manifest, tmp_path / "out" / "slides.csv")]
    assert records[0].annotations[0].resolve() == records[1].annotations[0].resolve()
    assert (tmp_path / "out" / "sections.csv").read_bytes() == (small.data / "sections.csv").read_bytes()
    assert (tmp_path / "out" / "decisions.csv").read_text().count("fix") == 3


def test_where_reviewers_differ_nothing_is_changed_and_it_is_said(
    client: httpx.Client, small: SmallStudy, tmp_path: Path
) -> None:
    paths, study = StudyPaths(small.root), AuditedStudy(StudyPaths(small.root), SETTING)
    left_out, normal = of_reason(client, "nest left out"), of_reason(client, "kind swapped", "Normal")
    decide(client, left_out, "fix", "Tumornest")
    decide(client, normal, "fix", "Tumornest")
    about = {"at": "2026-01-01T00:00:00+00:00", "setting": SETTING, "audit": study.digest, "id": left_out}
    keep(paths, Decided(reviewer="ben", decision="accept", **about))
    keep(paths, Decided(reviewer="ben", decision="fix", kind="Tumornest", **(about | {"audit": "an older one"})))
    text = export_audit(small.root, SETTING, tmp_path / "out")
    assert "1 fixed on 1 slide(s)" in text
    assert f"NOT CHANGED: reviewers differ on 1 ({left_out})" in text
    assert "1 decision(s) were about an earlier audit" in text
    found = client.get("/api/audit").json()
    assert found["num_earlier"] == 1
    assert [each["said"]["decision"] for each in found["findings"] if each["said"]] == ["fix", "fix"]


def test_without_a_fix_or_into_a_folder_with_a_manifest_nothing_is_written(small: SmallStudy, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing of this audit was fixed"):
        export_audit(small.root, SETTING, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="is there already"):
        export_audit(small.root, SETTING, small.data)
    with pytest.raises(ConfigurationError, match="--export-hard"):
        main(ReviewArguments(study=small.root, audit=SETTING, export_hard=tmp_path / "out"))
    with pytest.raises(LedgerError, match=r"run `python jobs/launch_audit.py` to its end"):
        export_audit(small.root, "unet", tmp_path / "out")


def test_a_slide_that_left_the_manifest_and_a_damaged_journal_are_named(small: SmallStudy) -> None:
    paths = StudyPaths(small.root)
    paths.audit_journal("anna").parent.mkdir()
    paths.audit_journal("anna").write_text('{"event": "decision", "setting": "x"}\n')
    with pytest.raises(EventLogError, match=r"audit-anna\.jsonl"):
        AuditedStudy(paths, SETTING).decisions()
    manifest = manifest_of_study(small.root).path
    manifest.write_text("".join(line for line in manifest.read_text().splitlines(keepends=True) if WRONG not in line))
    manifest.with_name("sections.csv").unlink()
    with pytest.raises(LedgerError, match="slide train-0 is not in the manifest any more"):
        AuditedStudy(paths, SETTING)
