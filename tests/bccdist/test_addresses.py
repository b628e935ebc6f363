"""An address is whole for who opens it, and shown without its secrets; one that is none is told in one line."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from bccdist.addresses import Address, doubt_on_path, is_address, parse_address, without_secrets

SECRETS = (
    "https://reader:Hidden1@host.example:8443/a/slide.svs",
    "https://host.example/a/slide.svs?X-Amz-Signature=Hidden1&X-Amz-Credential=Hidden1",
    "https://host.example/a/slide.svs#token=Hidden1",
    "s3://key:Hidden1@bucket/slide.svs",
    "zip://inner.svs::https://reader:Hidden1@host.example/a.zip?sig=Hidden1",
    "https://user%40lab:Hidden1%2F@host.example/a/slide.svs",
)


@pytest.mark.parametrize("whole", SECRETS)
def test_an_address_is_shown_without_its_secrets(whole: str) -> None:
    address = parse_address(whole)
    shown = [str(address), repr(address), f"{address}", address.name, address.host, without_secrets(f"at {whole}: no")]
    assert not [text for text in shown if "Hidden1" in text]
    assert address.whole == whole


@pytest.mark.parametrize("whole", ["https://u:Hid/den1@host/x.svs", "https://u:Hid?den1@host/x.svs"])
def test_a_password_that_hides_the_host_is_refused_and_not_told(whole: str) -> None:
    with pytest.raises(ValueError, match="%2F") as caught:
        parse_address(whole)
    assert "den1" not in str(caught.value)
    assert "den1" not in without_secrets(f"{whole} is wrong")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("htps://host/a.svs", "did you mean https"),
        ("s4://bucket/a.svs", "not known; such as|did you mean s3"),
        ("https:///a.svs", "names no host"),
        ("file:///data/a.svs", "a file of this machine"),
    ],
)
def test_what_no_library_knows_is_one_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bccdist.addresses.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"needs the package s3fs; `pip install 'bccdist\[remote\]'`"):
        parse_address("s3://bucket/a.svs")


@pytest.mark.parametrize(
    ("text", "package"), [("gs://bucket/a.svs", "gcsfs"), ("az://box/a.svs", "adlfs"), ("abfs://box/a.svs", "adlfs")]
)
def test_the_package_of_another_store_is_named_where_it_is_missing(
    text: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if it were not installed, wherever the test runs.
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(import_module("fsspec.registry"), "registry", {})
    with pytest.raises(ValueError, match=f"'{text}' needs a package that is not installed: .*{package}") as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["https:/host/a.svs", "s3:bucket/a.svs"])
def test_lost_slashes_are_told(text: str) -> None:
    assert not is_address(text)
    assert "://" in doubt_on_path(text)


@pytest.mark.parametrize("text", ["//host/a.svs", "data.example.org/slides/a.svs", "bucket.s3.amazonaws.com/a.svs"])
def test_a_path_that_begins_with_a_host_may_be_an_address(text: str) -> None:
    assert "give its protocol" in doubt_on_path(text)


@pytest.mark.parametrize("text", ["slides/a.svs", "a.svs", "/data/a.svs", "../b/c.tif", "v1.0/a.svs"])
def test_plain_paths_raise_no_doubt(text: str) -> None:
    assert doubt_on_path(text) == ""


def test_a_relative_name_lies_beside_its_table_without_the_tables_signature() -> None:
    base = parse_address("https://host.example/sets/one/slides.csv?sig=Hidden1")
    assert base.beside("wsi/a.svs") == Address("https://host.example/sets/one/wsi/a.svs")
    assert base.beside("wsi/../b.svs") == Address("https://host.example/sets/one/b.svs")


@pytest.mark.parametrize("text", ["../a.svs", "../../a.svs", "x/../../a.svs", "/etc/a.svs"])
def test_a_relative_name_may_not_leave_its_tables_folder(text: str) -> None:
    base = parse_address("https://host.example/sets/one/slides.csv")
    with pytest.raises(ValueError, match="leads out of the folder"):
        base.beside(text)


def test_name_and_suffix_are_those_of_the_file() -> None:
    address = parse_address("s3://bucket/a%20b/one.two.NDPI?versionId=3")
    assert (address.name, address.suffix) == ("one.two.NDPI", Path("x.NDPI").suffix)
