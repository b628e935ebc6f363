"""A sealed file is used with the bytes that were written, or not at all; one of before is used and named aloud."""

import json
import random
from pathlib import Path

import pytest
from damage import assert_never_used

from bccdist import seals
from bccdist.errors import LedgerError
from bccdist.seals import BLANK_SEAL, read_sealed, read_sealed_json, seal, sealed, write_sealed_json

_ADVICE = "make it again"


def _read(path: Path) -> bytes:
    return read_sealed(path, error=LedgerError, advice=_ADVICE)


def _read_json(path: Path) -> dict[str, object]:
    return read_sealed_json(path, error=LedgerError, advice=_ADVICE)


def _bytes(num: int) -> bytes:
    return random.Random(num).randbytes(num)


@pytest.mark.parametrize("where", [0, 5000, 10_000], ids=["begin", "middle", "end"])
def test_sealed_bytes_come_back(tmp_path: Path, where: int) -> None:
    path, data = tmp_path / "a.bin", _bytes(10_000)
    path.write_bytes(data[:where] + BLANK_SEAL.encode() + data[where:])
    seal(path)
    read = _read(path)
    assert read[:where] + read[where + len(BLANK_SEAL) :] == data
    assert read != data[:where] + BLANK_SEAL.encode() + data[where:]


def test_every_flipped_bit_is_an_error_that_names_file_and_cure(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    whole = sealed(_bytes(50) + BLANK_SEAL.encode() + _bytes(51))
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(LedgerError, match=r"a\.bin: damaged .*make it again"):
                _read(path)


@pytest.mark.parametrize("size", [3 << 20, (1 << 20) + 40, (2 << 20) - 1])
def test_a_seal_is_found_at_both_ends_of_large_files(tmp_path: Path, size: int) -> None:
    path, data = tmp_path / "a.bin", _bytes(size)
    for whole in (BLANK_SEAL.encode() + data, data + BLANK_SEAL.encode()):
        path.write_bytes(whole)
        seal(path)
        _read(path)
        damaged = bytearray(path.read_bytes())
        damaged[size // 2] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(LedgerError, match="damaged"):
            _read(path)


def test_equal_bytes_have_equal_seals(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"a" + BLANK_SEAL.encode())
    seal(path)
    assert path.read_bytes() == sealed(b"a" + BLANK_SEAL.encode())


def test_without_a_place_for_it_there_is_no_seal(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no blank seal"):
        seal(tmp_path / "a.bin")
    with pytest.raises(ValueError, match="no blank seal"):
        sealed(b"nothing")


def test_a_seal_that_nobody_filled_is_damage(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(BLANK_SEAL.encode())
    with pytest.raises(LedgerError, match="damaged"):
        _read(tmp_path / "a.bin")


def test_a_file_of_before_is_read_and_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.bin").write_bytes(b"of before")
    assert _read(tmp_path / "a.bin") == _read(tmp_path / "a.bin") == b"of before"
    assert [f"{tmp_path / 'a.bin'}: it holds no SHA-256" in text for text in caplog.messages] == [True]


def test_json_is_plain_json_with_one_more_key(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed_json(path, {"b": 1.5, "a": ["x"]})
    assert _read_json(path) == {"a": ["x"], "b": 1.5}
    assert list(json.loads(path.read_text())) == ["a", "b", seals.SEAL_KEY]


@pytest.mark.parametrize("seed", range(4))
def test_damaged_json_is_never_used(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.json"
    write_sealed_json(path, {"thresholds": [0.125 * step for step in range(200)], "name": "b"})
    assert assert_never_used(path, lambda: _read_json(path), seed=seed) > 50


@pytest.mark.parametrize("text", ["[1]", "3", '"a"'])
def test_json_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(LedgerError, match="expected an object"):
        _read_json(tmp_path / "a.json")
