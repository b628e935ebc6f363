"""An array on a real Slurm reads slides from servers: the rows of local files, and no credential stays anywhere."""

import base64
import secrets
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from cohort import write_model_file, write_slides
from mini_cluster import MiniCluster, job_ids
from model_study import EPOCH, SETTING
from object_store import bucket
from range_server import Request, serving
from slurm_study import SITE

from bccdist.paths import StudyPaths

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
IN_BUCKET, ON_WEB = ("a", "b"), "c"
KEY, PASSWORD = (secrets.token_hex(12) for _ in range(2))
"""Of the bucket and of the web server; drawn, as this file may be part of the code that a study keeps."""


@pytest.fixture
def addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A slides.csv in a bucket, of slides beside it and of one on a web server that wants a password: its address."""
    import fsspec

    slides = write_slides(tmp_path / "slides", *IN_BUCKET, ON_WEB)
    said = f"Basic {base64.b64encode(f'reader:{PASSWORD}'.encode()).decode()}"

    def refuse_strangers(request: Request) -> bool:
        if request.headers.get("Authorization") == said:
            return False
        request.answer(401)
        return True

    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login reader password {PASSWORD}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with bucket("lab-slides", key=KEY) as address, serving(slides) as server:
        server.fault = refuse_strangers
        lines = ["slide_id,path", *(f"{name},{name}.tif" for name in IN_BUCKET), f"{ON_WEB},{server.url}/{ON_WEB}.tif"]
        files = fsspec.filesystem("s3")
        files.pipe_file("lab-slides/set/slides.csv", "\n".join(lines).encode())
        for name in IN_BUCKET:
            files.put_file(str(slides / f"{name}.tif"), f"lab-slides/set/{name}.tif")
        yield f"{address}/set/slides.csv"


def holders_of(text: str, folder: Path) -> set[str]:
    """The files below a folder, and the members of its archives, that hold a text."""
    found = set()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        found |= {name} if text.encode() in path.read_bytes() else set()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found |= {f"{name}!{each}" for each in archive.namelist() if text.encode() in archive.read(each)}
    return found


def test_an_array_reads_slides_at_addresses_as_local_ones_and_leaves_no_credential(
    mini_cluster: MiniCluster, addresses: str, tmp_path: Path
) -> None:
    model = write_model_file(tmp_path).path
    local, remote = (StudyPaths(tmp_path / name) for name in ("local", "remote"))
    said = ""
    for cohort, slides in ((local, tmp_path / "slides"), (remote, addresses)):
        words = ("--model", model, "--slides", slides, "--out", cohort.root, *SITE)
        said += (here := mini_cluster.launch("jobs/launch_apply.py", *words))
        ids = job_ids(here)
        mini_cluster.wait_for_outcome(ids[f"infer-{SETTING}-test"], "COMPLETED", "COMPLETED")
        mini_cluster.wait_until_gone(*ids.values())
    for name in (*IN_BUCKET, ON_WEB):
        here, there = (
            pd.read_parquet(each.ledger_rows(SETTING, EPOCH, name)).drop(columns=["read_s", "network_s"])
            for each in (local, remote)
        )
        assert len(here)
        pd.testing.assert_frame_equal(here, there, check_exact=True)
    # The search finds what is there: the address without secrets, and words of an archive of code.
    assert holders_of("lab-slides/set/a.tif", remote.root)
    assert any("!" in name for name in holders_of("def infer_slides", remote.root))
    for secret in (KEY, PASSWORD):
        assert secret not in said
        assert holders_of(secret, remote.root) == set()
