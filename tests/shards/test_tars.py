"""Tars are byte for byte what WebDataset's own writer makes, and their offsets point at the members."""

from pathlib import Path

import webdataset

from bccdist.files import sha256_of_file
from shards.patches import CodedPatch
from shards.tars import TAR_MODE, TAR_OWNER, members_of, write_tar

EXTENSIONS = {"image": "jpg", "mask": "mask.png", "json": "json"}


def _sample(key: str) -> CodedPatch:
    members = {"mask.png": b"mask of " + key.encode(), "jpg": b"image of " + key.encode(), "json": b"{}"}
    return CodedPatch(key=key, members=members, row={"key": key})


def test_tar_equals_that_of_webdatasets_writer(tmp_path: Path) -> None:
    keys = ["a_x000000_y000000", "a_x000512_y000000", *("s" * length for length in range(88, 98)), "pr\u00e4parat"]
    samples = [*map(_sample, keys), CodedPatch(key="large", members={"jpg": bytes(range(256)) * 5000}, row={})]
    _, sha256 = write_tar(tmp_path / "ours.tar", samples, {"image": "jpg"})
    with webdataset.TarWriter(
        str(tmp_path / "theirs.tar"), user=TAR_OWNER, group=TAR_OWNER, mode=TAR_MODE, mtime=0, encoder=False
    ) as writer:
        for sample in samples:
            writer.write({"__key__": sample.key, **sample.members})
    assert (tmp_path / "ours.tar").read_bytes() == (tmp_path / "theirs.tar").read_bytes()
    assert sha256 == sha256_of_file(tmp_path / "ours.tar")


def test_offsets_point_at_the_members_even_of_long_names(tmp_path: Path) -> None:
    samples = [_sample("s" * length) for length in (20, 120)]
    rows, _ = write_tar(tmp_path / "a.tar", samples, EXTENSIONS)
    content = (tmp_path / "a.tar").read_bytes()
    for sample, row in zip(samples, rows, strict=True):
        for name, extension in EXTENSIONS.items():
            expected = sample.members[extension]
            assert content[row[f"{name}_offset"] :].startswith(expected)
            assert members_of(tmp_path / "a.tar")[f"{sample.key}.{extension}"] == (
                row[f"{name}_offset"],
                len(expected),
            )
