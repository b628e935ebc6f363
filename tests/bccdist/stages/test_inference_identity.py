"""Done work is recognised by what it was made from, and other work is refused by name."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bccdist.configuration import InferConfig
from bccdist.errors import ConfigurationError, LedgerError
from bccdist.heatmaps.method import Method
from bccdist.parts import Label, Part
from bccdist.sections.ledger import write_rows
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SectionRecord, SlideRecord
from bccdist.stages.inference_identity import InferenceIdentity, are_rows_done, inference_digest, sections_digest

_RECORD = SlideRecord(slide_id="a", part=Part.TEST, path=Path("a.tif"))
_SECTION = SectionRecord(slide_id="a", section_id="a-0", label=Label.TUMOR, box_level0_px=Box(0, 0, 9, 9))
_IDENTITY = InferenceIdentity(weights_digest="w", config_digest="c", slide_fingerprint="f", sections_digest="s")


def test_all_that_shapes_a_heatmap_is_in_the_digest() -> None:
    def digest(record: SlideRecord = _RECORD, *, target_mpp: float = 0.92, tolerance: float = 0.1, **how: Any) -> str:
        method = Method.of(InferConfig(**how), torch.device("cpu")).names_heatmap
        return inference_digest(method, record, target_mpp=target_mpp, mpp_tolerance=tolerance)

    others = [
        digest(target_mpp=1.0),
        digest(tolerance=0.2),
        digest(replace(_RECORD, mpp=0.5)),
        digest(precision="bf16"),
        digest(blending="hann"),
        digest(exit="psi_0"),
        digest(tiling="dense", halo_px=64),
        digest(tiling="dense", halo_px=96),
    ]
    assert len({digest(), *others}) == 1 + len(others)
    assert digest(batch=64, engine="eager") == digest()
    # Dense patches do not overlap, so there is nothing to blend.
    assert digest(tiling="dense", halo_px=64, blending="hann") == digest(tiling="dense", halo_px=64)


def test_a_changed_label_or_box_is_another_digest() -> None:
    digest = sections_digest(_RECORD, [_SECTION])
    assert sections_digest(_RECORD, [replace(_SECTION)]) == digest
    assert sections_digest(_RECORD, [replace(_SECTION, label=Label.NORMAL)]) != digest
    assert sections_digest(_RECORD, [replace(_SECTION, box_level0_px=Box(0, 0, 9, 8))]) != digest
    assert sections_digest(replace(_RECORD, part=Part.TRAINING), [_SECTION]) != digest


def test_rows_are_done_for_their_own_identity(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert not are_rows_done(path, _IDENTITY)
    write_rows(path, [], metadata=_IDENTITY.as_metadata)
    assert are_rows_done(path, _IDENTITY)
    assert not are_rows_done(path, replace(_IDENTITY, sections_digest="corrected"))


@pytest.mark.parametrize("older", [b"bccdist.schema_version", b"bccdist.section_method"])
def test_rows_of_an_older_schema_or_section_method_are_not_done(tmp_path: Path, older: bytes) -> None:
    path = tmp_path / "a.parquet"
    write_rows(path, [], metadata=_IDENTITY.as_metadata)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, older: b"1"}), path)
    assert not are_rows_done(path, _IDENTITY)
    with pytest.raises(ConfigurationError, match="config_digest"):
        are_rows_done(path, replace(_IDENTITY, config_digest="other"))


@pytest.mark.parametrize("name", [name for name in asdict(_IDENTITY) if name != "sections_digest"])
def test_rows_of_something_else_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.parquet"
    write_rows(path, [], metadata=_IDENTITY.as_metadata)
    other = InferenceIdentity(**{**asdict(_IDENTITY), name: "other"})
    with pytest.raises(ConfigurationError, match=f"{name}: there {asdict(_IDENTITY)[name]}, here other"):
        are_rows_done(path, other)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"slide_id": ["a"]}), tmp_path / "foreign.parquet")
    with pytest.raises(LedgerError, match="remove it"):
        are_rows_done(tmp_path / "foreign.parquet", _IDENTITY)


@pytest.mark.parametrize("place", [10, -200, -1])
def test_damaged_rows_are_named_and_not_done(tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.parquet"
    write_rows(path, [], metadata=_IDENTITY.as_metadata)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert not are_rows_done(path, _IDENTITY)
    assert f"{path}: damaged" in caplog.text
