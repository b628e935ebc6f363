"""A manifest may name addresses, and may lie on a server itself; what leads elsewhere is one clear line."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from range_server import RangeServer, serving

from bccdist.addresses import Address, parse_address
from bccdist.errors import ManifestError, RemoteError
from bccdist.slides.fetched_manifest import fetched_manifest
from bccdist.slides.manifest import read_manifest
from bccdist.slides.manifest_text import slides_csv

HEADER = "slide_id,part,path,annotation\n"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    (folder / "set").mkdir(parents=True)
    for name in ("a.svs", "b.svs", "a.geojson"):
        (folder / "set" / name).write_bytes(name.encode())
    with serving(folder) as state:
        yield state


def written(tmp_path: Path, rows: str) -> Path:
    path = tmp_path / "slides.csv"
    path.write_text(HEADER + rows)
    return path


def test_addresses_stand_in_place_of_paths(server: RangeServer, tmp_path: Path) -> None:
    at = f"{server.url}/set"
    manifest = read_manifest(written(tmp_path, f"a,train,{at}/a.svs?sig=Hidden1,{at}/a.geojson\nb,test,{at}/b.svs,\n"))
    assert manifest.slide("a").path == parse_address(f"{at}/a.svs?sig=Hidden1")
    assert manifest.slide("a").annotations == (parse_address(f"{at}/a.geojson"),)
    assert "Hidden1" not in slides_csv(manifest, tmp_path)
    assert "Hidden1" in slides_csv(manifest, tmp_path, with_secrets=True)
    local = tmp_path / "local"
    local.mkdir()
    for name in ("a.svs", "b.svs", "a.geojson"):
        (local / name).touch()
    same = read_manifest(written(local, "a,train,a.svs,a.geojson\nb,test,b.svs,\n"))
    # What a study knows its manifest by does not hang on where the files lie.
    assert same.digest == manifest.digest


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("{url}/set/none.svs?sig=Hidden1", "not there: the server answered 404"),
        ("htps://host/a.svs?sig=Hidden1", "did you mean https"),
        ("data.example.org/a.svs", "give its protocol"),
        ("https:/host/a.svs", "has :// after"),
        ("//host/a.svs", "give its protocol"),
    ],
)
def test_each_wrong_address_is_one_line(server: RangeServer, tmp_path: Path, name: str, says: str) -> None:
    path = written(tmp_path, f"a,test,{name.format(url=server.url)},\n")
    with pytest.raises(ManifestError, match=says) as caught:
        read_manifest(path)
    assert len(str(caught.value).splitlines()) == 2
    assert "Hidden1" not in str(caught.value)


def test_an_address_in_a_wrong_column_is_told_without_its_secret(tmp_path: Path) -> None:
    path = written(tmp_path, "https://u:Hidden1@host/a.svs,test,a.svs,\nb,https://h/a?sig=Hidden1,b.svs,\n")
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert "Hidden1" not in str(caught.value)


def test_one_address_under_two_names_is_one_file(server: RangeServer, tmp_path: Path) -> None:
    at = f"{server.url}/set/a.svs"
    with pytest.raises(ManifestError, match="are one file"):
        read_manifest(written(tmp_path, f"a,test,{at},\nb,val2,{at},\n"))


def test_paths_of_a_manifest_on_a_server_are_seen_from_its_address(server: RangeServer, tmp_path: Path) -> None:
    (server.folder / "set" / "slides.csv").write_text(HEADER + "a,train,a.svs,a.geojson\nb,test,./b.svs,\n")
    (server.folder / "set" / "sections.csv").write_text("slide_id,section_id,label\nb,b-1,Tumor\n")
    given = parse_address(f"{server.url}/set/slides.csv?sig=Hidden1")
    manifest = read_manifest(fetched_manifest(given, tmp_path / "here"))
    assert [slide.path for slide in manifest.slides] == [
        Address(f"{server.url}/set/a.svs"),
        Address(f"{server.url}/set/b.svs"),
    ]
    assert manifest.sections[0].section_id == "b-1"
    (server.folder / "set" / "sections.csv").unlink()
    fetched_manifest(given, tmp_path / "here")
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["slides.csv"]


@pytest.mark.parametrize("path", ["../a.svs", "../../a.svs", "/etc/a.svs", "sub/../../a.svs"])
def test_a_manifest_on_a_server_may_not_lead_out_of_its_folder(server: RangeServer, tmp_path: Path, path: str) -> None:
    (server.folder / "set" / "slides.csv").write_text(HEADER + f"a,test,{path},\n")
    with pytest.raises(ManifestError, match="leads out of the folder") as caught:
        fetched_manifest(parse_address(f"{server.url}/set/slides.csv"), tmp_path / "here")
    assert str(caught.value).startswith(f"{server.url}/set/slides.csv: 1 fault(s)")
    assert not (tmp_path / "here").exists()


def test_a_manifest_that_is_not_on_its_server_is_told(server: RangeServer, tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="not there"):
        fetched_manifest(parse_address(f"{server.url}/none/slides.csv"), tmp_path / "here")
