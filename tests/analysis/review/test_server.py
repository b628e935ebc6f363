"""The routes: what the page is told, that blind sections stay blind, and that no other file is readable."""

import http.client
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from review_study import BLIND, PLAN, SETTING, copied_study, drawn_square, original, serving

from analysis.review.answers import read_journals
from analysis.review.worklist import ReviewPlan
from bccdist.configuration import PHANTOM_WARNING, PHANTOM_WEIGHTS_WARNING
from bccdist.files import write_text
from bccdist.paths import StudyPaths
from bccdist.sections.origins import keep_origin, origin_now
from bccdist.study import manifest_of_study

BLIND_SLIDE = BLIND.split("/")[0]


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return copied_study(tmp_path)


@pytest.fixture
def client(paths: StudyPaths) -> Iterator[httpx.Client]:
    with serving(paths) as client:
        yield client


def section(client: httpx.Client, key: str) -> dict[str, Any]:
    sections = client.get("/api/sections").json()["sections"]
    return next(each for each in sections if each["id"] == key)


def answer(client: httpx.Client, key: str, said: str = "Tumor", **changes: Any) -> httpx.Response:
    viewed = {"setting": SETTING, "psi": "psi_4", "t_p": 0.5, "heatmap": True}
    content = {"id": key, "answer": said, "comment": "", "seconds": 1.5, "viewed": viewed, **changes}
    return client.post("/api/answers", json=content)


def heatmap_pixels(client: httpx.Client, slide_id: str) -> np.ndarray[Any, Any]:
    got = client.get(f"/api/heatmap/{SETTING}/{slide_id}/psi_4", params={"max_px": 2000})
    return np.asarray(Image.open(io.BytesIO(got.content)))


def test_the_page_and_its_modules_are_served(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert client.get("/static/review.js").headers["content-type"].startswith("text/javascript")
    nowhere = client.get("/static/nowhere.js")
    assert (nowhere.status_code, nowhere.json()) == (404, {"error": "Not Found"})


def test_the_study_is_described_with_its_warning(client: httpx.Client) -> None:
    study = client.get("/api/study").json()
    assert (study["reviewer"], study["headline"], study["order"]) == ("anna", SETTING, "distance")
    assert (study["phantom"], study["warning"]) == (True, PHANTOM_WARNING)
    assert [each["setting"] for each in study["settings"]] == ["unet", "resnet34_ds", "resnet34_linear"]
    assert study["settings"][1]["psis"] == ["psi_0", "psi_1", "psi_2", "psi_3", "psi_4"]
    assert study["settings"][2]["final"] == "merged"


def test_a_network_of_phantoms_is_named_beside_real_slides(paths: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bccdist.slides.manifest.PHANTOM_SCANNER", "no scanner of these slides")
    for path in paths.ledger.rglob("*.parquet"):
        table = pq.read_table(path)
        place = table.schema.get_field_index("phantom")
        real = pa.array([False] * table.num_rows)
        pq.write_table(table.set_column(place, table.schema.field(place), real), path)
    pd.read_parquet(paths.selection).assign(phantom_weights=True).to_parquet(paths.selection)
    with serving(paths) as client:
        study = client.get("/api/study").json()
    assert (study["phantom"], study["warning"]) == (False, PHANTOM_WEIGHTS_WARNING)


def test_thresholds_of_before_are_said_to_be_so(paths: StudyPaths) -> None:
    keep_origin(paths.origin("selection"), origin_now(paths, manifest_of_study(paths.root)), made=paths.selection)
    write_text(paths.labels, "slide_id,section_id,label\nval1-0,val1-0-left,Normal\n")
    with serving(paths) as client:
        told = client.get("/api/study").json()["warning"]
    assert told.startswith(PHANTOM_WARNING)
    assert (
        "Verdicts are by thresholds that are out of date (unet, resnet34_ds, resnet34_linear: labels.csv has" in told
    )


def test_a_section_that_is_not_blind_shows_label_and_verdicts(client: httpx.Client) -> None:
    assert not section(client, "test-1/test-1-right")["revealed"], "another one of its slide is blind"
    answer(client, BLIND)
    shown = section(client, "test-1/test-1-right")
    assert (shown["label"], shown["prefilled"], shown["revealed"], shown["blind"]) == ("Normal", "Tumor", True, False)
    assert shown["verdicts"]["unet"]["verdict"] == "Normal"
    assert set(shown["verdicts"]["unet"]) == {"verdict", "area_um2", "area_factor", "flip_shift"}
    assert 0 < shown["verdicts"]["unet"]["flip_shift"] <= 1
    assert shown["box_level0_px"] == [1100, 0, 1100, 1280]


def test_a_blind_section_says_nothing_before_its_answer_and_all_after_it(client: httpx.Client) -> None:
    hidden = section(client, BLIND)
    assert hidden["blind"]
    assert not hidden["revealed"]
    assert not {"label", "prefilled", "verdicts"} & set(hidden)
    revealed = answer(client, BLIND).json()["section"]
    assert (revealed["revealed"], revealed["prefilled"], revealed["label"]) == (True, "Tumor", "Tumor")
    assert section(client, BLIND) == revealed


def test_the_number_of_a_blind_section_never_leaves_the_server_before_its_answer(client: httpx.Client) -> None:
    hidden = {each["id"]: json.dumps(each) for each in client.get("/api/sections").json()["sections"]}[BLIND]
    assert "shift" not in hidden
    assert "factor" not in hidden
    assert "flip_shift" in json.dumps(answer(client, BLIND).json())


def test_a_verdict_that_no_shift_changes_is_null_for_the_page(paths: StudyPaths) -> None:
    for path in paths.ledger.rglob("*val1-0*.parquet"):
        table = pq.read_table(path)
        place = table.schema.get_field_index("largest_region_px")
        field = table.schema.field(place)
        pq.write_table(table.set_column(place, field, pa.array([[0] * 256] * len(table), field.type)), path)
    with serving(paths) as client:
        shown = section(client, "val1-0/val1-0-left")["verdicts"][SETTING]
    assert (shown["verdict"], shown["area_factor"], shown["flip_shift"]) == ("Normal", 0, None)


def test_nothing_of_a_slide_with_a_blind_section_is_in_the_overlays_before_its_answer(client: httpx.Client) -> None:
    def kinds() -> set[str]:
        found = client.get(f"/api/annotations/{BLIND_SLIDE}").json()["features"]
        return {each["properties"]["kind"] for each in found}

    def region_sections() -> set[str]:
        found = client.get(f"/api/regions/{SETTING}/{BLIND_SLIDE}").json()["features"]
        return {each["properties"]["section_id"] for each in found}

    half = 550
    assert not heatmap_pixels(client, BLIND_SLIDE).any()
    assert (kinds(), region_sections()) == (set(), set())
    answer(client, BLIND, "unsure")
    assert not heatmap_pixels(client, BLIND_SLIDE).any()
    answer(client, BLIND, "Normal")
    assert heatmap_pixels(client, BLIND_SLIDE)[:, :half].max() == 230
    assert heatmap_pixels(client, BLIND_SLIDE)[:, half:].any()
    assert (kinds(), region_sections()) == ({"Tumornest", "Stroma", "Normal"}, {"test-1-left", "test-1-right"})


def test_unsure_reveals_nothing_and_a_later_answer_is_a_blind_one(client: httpx.Client, paths: StudyPaths) -> None:
    hidden = section(client, BLIND)
    said = answer(client, BLIND, "unsure").json()["section"]
    assert said == {**hidden, "answer": "unsure", "answered_at": said["answered_at"], "given_as": "answer"}
    assert section(client, BLIND) == said
    assert answer(client, BLIND, "Tumor", seconds=3).json()["section"]["revealed"]
    # Once seen it stays seen, whatever is said later.
    assert answer(client, BLIND, "unsure", seconds=3).json()["section"]["revealed"]
    given = [(each.answer, each.is_blind, each.was_shown, each.prefilled) for each in read_journals(paths)[0].answers]
    assert given == [
        ("unsure", True, False, ""),
        ("Tumor", True, False, ""),
        ("unsure", True, True, "Tumor"),
    ]


def test_answers_within_half_a_second_of_the_last_are_marked(client: httpx.Client, paths: StudyPaths) -> None:
    keys = ["test-0/test-0-left", "test-0/test-0-right", "test-1/test-1-right"]
    for key in keys:
        answer(client, key)
    # What waited for the server comes at once, and the page says how it was given.
    for key, since_s in zip(keys, (None, 0.49, 0.51), strict=True):
        answer(client, key, "Normal", since_last_s=since_s)
    marks = [each.is_hasty for each in read_journals(paths)[0].answers]
    assert marks == [False, True, True, False, True, False]
    assert section(client, keys[1])["hasty"]


def test_the_rest_of_a_slide_is_confirmed_where_a_verdict_was_shown(client: httpx.Client, paths: StudyPaths) -> None:
    assert answer(client, "test-0/test-0-left", "Tumor", given_as="rest of the slide").status_code == 200
    for key, said in ((BLIND, "Tumor"), ("test-0/test-0-right", "Tumor"), ("test-2/test-2-left", "Tumor")):
        got = answer(client, key, said, given_as="rest of the slide")
        assert (got.status_code, "only where a verdict was shown" in got.json()["error"]) == (400, True)
    assert answer(client, "test-0/test-0-right", given_as="decision").status_code == 400
    (given,) = read_journals(paths)[0].answers
    assert (given.given_as, given.is_hasty) == ("rest of the slide", False)


def test_another_reviewers_answer_reveals_nothing(paths: StudyPaths) -> None:
    with serving(paths, "anna") as anna, serving(paths, "bert") as bert:
        answer(anna, BLIND)
        assert section(anna, BLIND)["revealed"]
        assert not section(bert, BLIND)["revealed"]
        assert section(bert, BLIND)["answer"] is None


def test_two_reviewers_at_once_do_not_overwrite_each_other(paths: StudyPaths) -> None:
    with serving(paths, "anna") as anna, serving(paths, "bert") as bert:
        for number in range(10):
            answer(anna, "test-0/test-0-left", "Tumor", comment=str(number))
            answer(bert, "test-0/test-0-left", "Normal", comment=str(number))
        pair = bert.get("/api/agreement").json()["pairs"][0]
        assert (pair["one"], pair["other"], pair["num"], pair["agreement"]) == ("anna", "bert", 1, 0.0)
    anna_said, bert_said = read_journals(paths)
    assert [each.comment for each in anna_said.answers] == [str(number) for number in range(10)]
    assert {each.answer for each in bert_said.answers} == {"Normal"}


def test_an_answer_is_found_again_after_a_restart_and_the_last_one_counts(paths: StudyPaths) -> None:
    with serving(paths) as client:
        answer(client, "test-0/test-0-left", "Normal", comment="first")
        answer(client, "test-0/test-0-left", "Tumor", comment="<b>second</b>")
    with serving(paths) as client:
        found = section(client, "test-0/test-0-left")
        assert (found["answer"], found["comment"]) == ("Tumor", "<b>second</b>")
        assert found["answered_at"].startswith("20")
        assert client.get("/api/progress").json() == {
            "total": 10,
            "answered": 1,
            "by_part": {"Test": {"total": 6, "answered": 1}, "Validation I": {"total": 4, "answered": 0}},
        }


def test_the_journal_keeps_what_may_have_led_the_answer(client: httpx.Client, paths: StudyPaths) -> None:
    answer(client, BLIND, "Normal", seconds=12.25)
    answer(client, BLIND, "Tumor")
    answer(client, "test-1/test-1-right", "Normal")
    blind, corrected, led = read_journals(paths)[0].answers
    assert (blind.is_blind, blind.was_shown, blind.prefilled, blind.prediction) == (True, False, "", "Tumor")
    assert (blind.seconds, blind.label_before, blind.viewed["psi"]) == (12.25, "Tumor", "psi_4")
    assert (corrected.was_shown, corrected.prefilled) == (True, "Tumor")
    assert (led.is_blind, led.was_shown, led.prefilled, led.label_before) == (False, True, "Tumor", "Normal")
    assert (led.setting, led.epoch, led.weights_digest) == (SETTING, 2, "000000000001")


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"id": "test-1/nowhere"}, 404, "no section under review"),
        ({"id": "../../etc/passwd"}, 404, "no section under review"),
        ({"id": 7}, 404, "no section"),
        ({"id": ["a"]}, 404, "no section"),
        ({"id": {"a": {}}}, 404, "no section"),
        ({"id": None}, 404, "no section"),
        ({"entry": ["a"]}, 400, "entry"),
        ({"entry": ""}, 400, "entry"),
        ({"entry": "x" * 101}, 400, "entry"),
        ({"seconds": 10**400}, 400, "seconds"),
        ({"seconds": True}, 400, "seconds"),
        ({"viewed": {"t_p": 10**400}}, 400, "viewed"),
        ({"viewed": [["a"]]}, 400, "viewed"),
        ({"answer": "Cat"}, 400, "expected one of Tumor, Normal, unsure"),
        ({"answer": ["Tumor"]}, 400, "expected one of"),
        ({"comment": "x" * 4001}, 400, "comment"),
        ({"comment": 3}, 400, "comment"),
        ({"seconds": -1}, 400, "seconds"),
        ({"seconds": "long"}, 400, "seconds"),
        ({"viewed": {"screen": 1}}, 400, "viewed"),
        ({"viewed": {"t_p": "high"}}, 400, "viewed"),
        ({"more": 1}, 400, "unknown fields"),
        ({"since_last_s": -0.1}, 400, "since_last_s"),
        ({"since_last_s": "soon"}, 400, "since_last_s"),
        ({"given_as": "guess"}, 400, "given_as"),
        ({"batch": 1}, 400, "batch"),
        ({"batch": "x" * 101}, 400, "batch"),
        ({"comment": "a\0b"}, 400, "'a\\x00b' holds the character NUL"),
        ({"viewed": {"psi": "\0"}}, 400, "holds the character NUL"),
        ({"\0": 1}, 400, "holds the character NUL"),
    ],
)
def test_what_is_no_answer_is_refused_and_not_kept(
    client: httpx.Client, paths: StudyPaths, changes: dict[str, Any], status: int, says: str
) -> None:
    got = answer(client, **{"key": "test-0/test-0-left", **changes})
    assert (got.status_code, says in got.json()["error"]) == (status, True)
    assert read_journals(paths)[0].answers == []


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{", b'{"id": NaN}', b"\xff", b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000),
        # Half of a character of two halves, as a text field that counts halves may cut it; and beyond all floats.
        *(b'{"id": "a", "id": "b"}', b'{"viewed": {"psi": "a", "t_p": 1, "psi": "a"}}'),
        *(b'{"comment": "\\ud83d"}', b'{"viewed": {"psi": "\\udc00"}}', b'{"\\ud83d": 1}', b'{"seconds": 1e999}'),
    ],
)
def test_what_is_no_json_object_is_refused(client: httpx.Client, body: bytes) -> None:
    got = client.post("/api/answers", content=body, headers={"content-type": "application/json"})
    assert got.status_code == 400


def test_a_slide_says_what_deep_zoom_needs(client: httpx.Client) -> None:
    slide = client.get("/api/slides/test-0").json()
    assert slide == {
        "slide_id": "test-0",
        "width": 2200,
        "height": 1280,
        "mpp": pytest.approx(0.46),
        "tile_px": 254,
        "overlap": 1,
        "min_level": 0,
        "max_level": 12,
        "file": "test-0.tif",
        "error": None,
        "profile": None,
        "profile_fault": None,
    }


def test_tiles_are_jpegs_and_there_are_none_beyond_the_slide(client: httpx.Client) -> None:
    got = client.get("/tiles/test-0/12/8_5.jpeg")
    assert (got.status_code, got.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(got.content)).size == (2200 - 8 * 254 + 1, 1280 - 5 * 254 + 1)
    for place in ("12/9_0", "13/0_0", "99/0_0", "12/-1_0", "12/0_0x", "12/0"):
        assert client.get(f"/tiles/test-0/{place}.jpeg").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/tiles/../../../../etc/passwd",
        "/tiles/..%2f..%2f..%2fetc%2fpasswd/1/0_0.jpeg",
        "/tiles/test-0%2f..%2ftest-1/1/0_0.jpeg",
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/%2e%2e/review/answers.py",
        "/static//etc/passwd",
        "/api/slides/..%2f..%2fstudy.json",
        "/api/slides/train-0",
        "/api/slides/test-0%00",
        "/tiles/train-0/8/0_0.jpeg",
        "/api/annotations/train-0",
        "/api/annotations/%2fetc%2fpasswd",
        f"/api/heatmap/{SETTING}/train-0/psi_4",
        f"/api/heatmap/..%2f..%2f{SETTING}/test-0/psi_4",
        f"/api/heatmap/{SETTING}/test-0/..%2fcoverage",
        f"/api/heatmap/{SETTING}/test-0/coverage",
        f"/api/regions/{SETTING}/..%2ftest-0",
        "/api/regions/vgg/test-0",
        "/review/journal-anna.jsonl",
        "/study.json",
    ],
)
def test_no_file_but_the_slides_under_review_can_be_asked_for(paths: StudyPaths, path: str) -> None:
    """Sent as it is: a client library would tidy the dots away."""
    with serving(paths) as client:
        host, port = client.base_url.host, client.base_url.port
        connection = http.client.HTTPConnection(host, port, timeout=20)
        connection.request("GET", path)
        got = connection.getresponse()
        body = got.read()
        connection.close()
    assert got.status == 404
    assert b"root:" not in body
    assert str(paths.root).encode() not in body


def test_a_heatmap_says_what_it_covers(client: httpx.Client) -> None:
    box = {"x": 1390.5, "y": 400, "width": 100, "height": 50.2}
    got = client.get(f"/api/heatmap/{SETTING}/test-0/psi_2", params=box)
    assert got.headers["content-type"] == "image/png"
    x, y, width, height = map(float, got.headers["x-box"].split(","))
    assert (x, y) == (1384, 400)
    assert (x + width) >= 1490.5
    assert (y + height) >= 450.2
    assert Image.open(io.BytesIO(got.content)).size == (width / 8, height / 8)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("x=1", 400),
        ("x=1&y=1&width=0&height=5", 400),
        ("max_px=nan", 400),
        ("x=a&y=1&width=2&height=2", 400),
        ("x=9000&y=1&width=2&height=2", 400),
    ],
)
def test_a_wrong_box_is_refused(client: httpx.Client, query: str, status: int) -> None:
    assert client.get(f"/api/heatmap/{SETTING}/test-0/psi_4?{query}").status_code == status


def test_a_slide_without_a_heatmap_says_so_in_one_sentence(client: httpx.Client) -> None:
    got = client.get(f"/api/heatmap/{SETTING}/test-2/psi_4")
    assert got.status_code == 500
    assert "no heatmap there" in got.json()["error"]
    assert client.get(f"/api/regions/{SETTING}/test-2").json()["features"] == []


def test_a_heatmap_of_other_weights_is_refused(paths: StudyPaths) -> None:
    heatmap = paths.heatmap(SETTING, 2, "test-0")
    heatmap.unlink()
    heatmap.hardlink_to(paths.heatmap("unet", 2, "test-0"))
    with serving(paths) as client:
        got = client.get(f"/api/heatmap/{SETTING}/test-0/psi_4")
        assert str(paths.root) not in got.text
        assert "made with the weights 000000000000, but 000000000001 were chosen" in got.json()["error"]


def test_a_broken_slide_shows_an_error_tile_and_the_server_lives(tmp_path: Path, paths: StudyPaths) -> None:
    text = original().manifest.path.read_text().replace("test-0.tif", "broken.tif")
    data = tmp_path / "data"
    data.mkdir()
    for file in original().manifest.path.parent.iterdir():
        (data / file.name).hardlink_to(file)
    for name in ("slides.csv", "broken.tif"):
        (data / name).unlink(missing_ok=True)
    (data / "slides.csv").write_text(text)
    (data / "broken.tif").write_bytes(b"II*\0 nothing of use")
    paths.study.write_text(json.dumps({"manifest": str(data / "slides.csv"), "phantom": True}))
    with serving(paths) as client:
        slide = client.get("/api/slides/test-0").json()
        assert slide["error"].startswith("broken.tif: OpenSlide cannot open it")
        assert slide["mpp"] is None
        got = client.get("/tiles/test-0/8/0_0.jpeg")
        assert (got.status_code, got.headers["content-type"]) == (200, "image/jpeg")
        assert "broken.tif" in got.headers["x-tile-error"]
        assert got.headers["cache-control"] == "no-store"
        assert client.get("/api/annotations/test-0").status_code == 400
        assert client.post("/api/regions/test-0", json={"added": []}).status_code == 400
        assert client.get("/tiles/test-1/8/0_0.jpeg").headers.get("x-tile-error") is None
        heat = client.get(f"/api/heatmap/{SETTING}/test-0/psi_4")
        assert "cannot open it" in heat.json()["error"], "where its tissue ends is not known"
        assert client.get(f"/api/heatmap/{SETTING}/test-1/psi_4").status_code == 200


def test_drawn_regions_are_kept_and_found_again(paths: StudyPaths) -> None:
    with serving(paths) as client:
        assert client.get("/api/regions/test-0").json()["features"] == []
        first, second = drawn_square(1, 1, 9), drawn_square(100, 100, 50, "Normal")
        client.post("/api/regions/test-0", json={"added": [first]})
        got = client.post("/api/regions/test-0", json={"added": [second], "removed": [first["id"]]})
        assert [each["id"] for each in got.json()["added"]] == [second["id"]]
    with serving(paths) as client:
        (found,) = client.get("/api/regions/test-0").json()["features"]
        assert (found["id"], found["properties"]) == (second["id"], {"kind": "Normal"})
    assert len(read_journals(paths)[0].steps) == 2


@pytest.mark.parametrize(
    "content",
    [
        {"added": "all"},
        {"added": [drawn_square(90_000, 1, 5)]},
        {"added": [{**drawn_square(1, 1, 5), "id": ["a"]}]},
        {"added": [drawn_square(1, 1, 5), drawn_square(1, 1, 5)]},
        {"removed": "a"},
        {"removed": [7]},
        {"removed": ["a\nb"]},
        {"features": [drawn_square(1, 1, 5)]},
        {"entry": ["a"], "removed": ["a"]},
    ],
)
def test_what_are_no_regions_is_refused(client: httpx.Client, paths: StudyPaths, content: Any) -> None:
    assert client.post("/api/regions/test-0", json=content).status_code == 400
    assert read_journals(paths)[0].steps == []


@pytest.mark.parametrize("t_p", ["0", "1.01", "-1", "inf", "x"])
def test_a_threshold_that_is_none_is_refused(client: httpx.Client, t_p: str) -> None:
    assert client.get(f"/api/regions/{SETTING}/test-0?t_p={t_p}").status_code == 400


def test_a_disk_that_is_full_is_said_and_the_answer_is_not_counted(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        got = answer(client, "test-0/test-0-left")
    assert got.status_code == 507
    assert "No space left on device; this is not kept, nothing was said before it" in got.json()["error"]
    assert section(client, "test-0/test-0-left")["answer"] is None


def test_a_fault_that_nobody_foresaw_is_one_sentence(paths: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(paths) as client:
        monkeypatch.setattr("analysis.review.routes.agreement_report", lambda *_: 1 / 0)
        got = client.get("/api/agreement")
        assert (got.status_code, got.json()) == (
            500,
            {"error": "a fault of the server: ZeroDivisionError; see what it printed"},
        )
        # The connection ends with the fault; the server does not.
        assert httpx.get(client.base_url.join("/api/progress")).status_code == 200


def test_all_blind_hides_every_verdict(paths: StudyPaths) -> None:
    with serving(paths, plan=ReviewPlan(blind_share=1.0, seed=PLAN.seed)) as client:
        text = client.get("/api/sections").text
        assert "verdict" not in text
        assert "prefilled" not in text
        assert not heatmap_pixels(client, "test-0").any()
        assert client.get(f"/api/regions/{SETTING}/test-0").json()["features"] == []
        assert client.get("/api/annotations/test-0").json()["features"] == []


def test_what_is_sent_twice_is_kept_once(client: httpx.Client, paths: StudyPaths) -> None:
    """As a page does that got no answer: the server was killed, or the line was."""
    square = drawn_square(1, 1, 9)
    for _ in range(2):
        assert answer(client, "test-0/test-0-left", entry="a").status_code == 200
        assert client.post("/api/regions/test-0", json={"entry": "b", "added": [square]}).status_code == 200
        assert client.post("/api/withdrawals", json={"entry": "c", "id": "test-0/test-0-left"}).status_code == 200
        assert client.post("/api/undo", json={"entry": "d", "undone": "c"}).status_code == 200
    assert [step.entry for step in read_journals(paths)[0].steps] == ["a", "b", "c", "d"]
    assert section(client, "test-0/test-0-left")["answer"] == "Tumor"
    refused = answer(client, "test-0/test-0-right", entry="a")
    assert (refused.status_code, "was kept with other content" in refused.json()["error"]) == (409, True)


def test_an_answer_can_be_withdrawn_and_what_it_has_shown_stays_shown(client: httpx.Client, paths: StudyPaths) -> None:
    answer(client, BLIND, "Normal")
    answer(client, BLIND, "Tumor")
    withdrawn = client.post("/api/withdrawals", json={"id": BLIND}).json()["section"]
    assert (withdrawn["answer"], withdrawn["revealed"]) == (None, True)
    assert client.get("/api/progress").json()["answered"] == 0
    answer(client, BLIND, "Tumor")
    assert read_journals(paths)[0].answers[-1].was_shown


def test_undo_goes_back_any_number_of_steps_also_after_a_restart(paths: StudyPaths) -> None:
    key, square = "test-0/test-0-left", drawn_square(1, 1, 9)
    with serving(paths) as client:
        for number, said in enumerate(("Tumor", "Normal", "unsure")):
            answer(client, key, said, entry=f"answer {number}")
        client.post("/api/regions/test-0", json={"entry": "drawn", "added": [square]})
        client.post("/api/withdrawals", json={"entry": "withdrawn", "id": key})
    seen = []
    with serving(paths) as client:
        for undone in ("withdrawn", "drawn", "answer 2", "answer 1", "answer 0"):
            client.post("/api/undo", json={"undone": undone})
            num_drawn = len(client.get("/api/regions/test-0").json()["features"])
            seen.append((section(client, key)["answer"], num_drawn))
    assert seen == [("unsure", 1), ("unsure", 0), ("Normal", 0), ("Tumor", 0), (None, 0)]


def test_a_slide_with_two_blind_sections_opens_with_the_second_and_its_others_are_marked_by_it(
    paths: StudyPaths,
) -> None:
    plan = ReviewPlan(blind_share=1.0)
    left, right = "test-0/test-0-left", "test-0/test-0-right"
    with serving(paths, plan=plan) as client:
        assert section(client, left)["num_blind_left"] == 2
        assert not answer(client, left, "Tumor").json()["section"]["revealed"]
        # Nothing was shown so far: a correction is as blind as what it corrects.
        answer(client, left, "Normal")
        opened = answer(client, right, "Tumor").json()["sections"]
        assert [(each["id"], each["revealed"], each["num_blind_left"]) for each in opened] == [
            (each["id"], True, 0) for each in opened
        ]
        assert {each["id"] for each in opened} == {left, right}
        answer(client, left, "Tumor")
    with serving(paths, plan=plan) as client:
        assert section(client, right)["revealed"], "also after a restart"
    given = [(each.key, each.was_shown) for each in read_journals(paths)[0].answers]
    assert given == [(left, False), (left, False), (right, False), (left, True)]


def test_a_section_beside_a_blind_one_can_be_answered_and_counts_as_answered_unled(
    client: httpx.Client, paths: StudyPaths
) -> None:
    said = answer(client, "test-1/test-1-right", "Normal").json()["section"]
    assert (said["answer"], said["revealed"], "verdicts" in said) == ("Normal", False, False)
    (given,) = read_journals(paths)[0].answers
    assert (given.is_blind, given.was_shown, given.prefilled) == (False, False, "")


def test_by_distance_a_section_takes_its_place_once_its_slide_is_open(client: httpx.Client) -> None:
    def keys() -> list[str]:
        return [each["id"] for each in client.get("/api/sections").json()["sections"]]

    version, beside = client.get("/api/sections").json()["version"], "test-1/test-1-right"
    assert [keys().index(key) for key in (BLIND, beside, "test-2/test-2-left")] == [0, 7, 8]
    assert client.get("/api/history").json()["list"] == version
    answer(client, BLIND)
    assert keys().index(beside) == 1, "the nearest to the decision"
    assert client.get("/api/history").json()["list"] != version


def test_what_was_confirmed_together_is_taken_back_in_one_step_also_after_a_restart(paths: StudyPaths) -> None:
    keys = ["test-0/test-0-left", "test-0/test-0-right", "val1-0/val1-0-left"]
    with serving(paths) as client:
        answer(client, keys[2], "Normal", entry="before")
        prefilled = {key: section(client, key)["prefilled"] for key in keys[:2]}
        for key in keys[:2]:
            rest = {"given_as": "rest of the slide", "batch": "b", "entry": key.replace("/", "-")}
            assert answer(client, key, prefilled[key], **rest).status_code == 200
    with serving(paths) as client:
        steps = client.get("/api/history").json()["steps"]
        assert [each["batch"] for each in steps] == ["", "b", "b"]
        for _ in range(2):  # sent twice, kept once
            undone = client.post("/api/undo", json={"undone": steps[-1]["entry"], "entry": "undo"})
            assert {each["id"]: each["answer"] for each in undone.json()["sections"]} == dict.fromkeys(keys[:2])
        assert client.get("/api/progress").json()["answered"] == 1
        # Another one that is given as the rest, and not with these, is taken back alone.
        answer(client, keys[0], prefilled[keys[0]], given_as="rest of the slide", entry="alone")
        undone = client.post("/api/undo", json={"undone": "alone"}).json()["sections"]
        assert [each["id"] for each in undone] == keys[:1]


@pytest.mark.parametrize("undone", [None, 7, ["a"], "", "never"])
def test_what_is_no_step_cannot_be_undone(client: httpx.Client, paths: StudyPaths, undone: Any) -> None:
    assert client.post("/api/undo", json={"undone": undone}).status_code in (400, 404)
    assert client.post("/api/withdrawals", json={"id": undone}).status_code == 404
    assert read_journals(paths)[0].steps == []


def test_a_second_page_is_told_what_came_since(client: httpx.Client) -> None:
    answer(client, "test-0/test-0-left", entry="a")
    known = client.get("/api/history").json()
    assert (known["num"], [step["entry"] for step in known["steps"]]) == (1, ["a"])
    answer(client, BLIND, entry="b")
    client.post("/api/withdrawals", json={"entry": "c", "id": "test-0/test-0-left"})
    new = client.get(f"/api/history?since={known['num']}").json()
    assert [(step["kind"], step["entry"]) for step in new["steps"]] == [("answer", "b"), ("withdrawal", "c")]
    assert {each["id"]: each["answer"] for each in new["sections"]} == {
        BLIND: "Tumor",
        # The answer to a blind section opens its slide.
        "test-1/test-1-right": None,
        "test-0/test-0-left": None,
    }


def test_saving_outlines_writes_what_changed_and_not_all_again(client: httpx.Client, paths: StudyPaths) -> None:
    """Regions of real tissue have thousands of corners."""
    circle = 500 + 400 * np.stack([np.cos(np.linspace(0, 6.28, 1000)), np.sin(np.linspace(0, 6.28, 1000))], axis=1)
    ring = [*circle.tolist(), circle[0].tolist()]
    sizes = []
    for number in range(6):
        feature = {"id": f"{number}", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
        client.post("/api/regions/test-0", json={"added": [feature]})
        sizes.append(paths.review_journal("anna").stat().st_size)
    steps = np.diff(sizes)
    assert steps.max() < 1.1 * steps.min()
    assert len(client.get("/api/regions/test-0").json()["features"]) == 6
