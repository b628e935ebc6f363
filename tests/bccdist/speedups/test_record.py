"""A speed-up record comes back from its file, and belongs to its weights."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from damage import assert_never_used, damages
from speedup_records import RECORD

from bccdist.errors import ConfigurationError
from bccdist.files import read_json
from bccdist.seals import write_sealed_json
from bccdist.speedups.record import int8_digest, read_speedups, write_speedups


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    write_speedups(path, RECORD)
    assert read_speedups(path, weights_digest="w") == RECORD


def test_a_record_of_other_weights_or_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    write_speedups(path, RECORD)
    with pytest.raises(ConfigurationError, match="weights w, expected version 4 and other"):
        read_speedups(path, weights_digest="other")
    write_sealed_json(path, {**read_json(path), "schema_version": 0})
    with pytest.raises(ConfigurationError, match="version 0"):
        read_speedups(path, weights_digest="w")


def test_an_int8_model_is_named_by_both_of_its_files(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text("graph")
    with pytest.raises(ConfigurationError, match=r"model\.bin: no int8 model there"):
        int8_digest(path)
    path.with_suffix(".bin").write_text("weights")
    before = int8_digest(path)
    path.with_suffix(".bin").write_text("other weights")
    assert int8_digest(path) != before


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_record_is_never_used(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "epoch-003-cpu.json"
    write_speedups(path, RECORD)
    assert assert_never_used(path, lambda: read_speedups(path, weights_digest="w"), seed=seed) > 50


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_each_damage_in_an_int8_model_gives_it_another_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "epoch-003-whole-int8.xml"
    for file in (path, path.with_suffix(".bin")):
        file.write_bytes(random.Random(3).randbytes(3000))
    before, damaged = int8_digest(path), path.with_suffix(suffix)
    for content in damages(damaged.read_bytes(), seed=1, num=60):
        damaged.write_bytes(content)
        assert int8_digest(path) != before


def test_as_many_slides_as_a_confidence_needs_are_not_too_few() -> None:
    def told(num: int) -> str:
        return replace(
            RECORD, ways=tuple(replace(way, slide_levels=(1,) * num) for way in RECORD.ways)
        ).why_too_few_slides(0.95)

    assert told(19) == ""
    assert "18 slides" in told(18)
    assert "at most 0.947" in told(18)
