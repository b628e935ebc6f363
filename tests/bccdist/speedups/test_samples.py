"""What is made of patches of tissue before ways are measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from heatmap_slides import MPP, pink_picture, write_slide
from speedup_records import MACHINE, RECORD

from bccdist.files import write_text
from bccdist.parts import Label, Part
from bccdist.paths import RunPaths
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SectionRecord, SlideRecord
from bccdist.slides.slide import Slide
from bccdist.speedups.record import int8_digest, write_speedups
from bccdist.speedups.samples import halo_of, int8_origin, kept_int8_models, sample_patches

_LARGE, _SMALL = Box(100, 100, 1500, 1500), Box(2100, 100, 600, 600)


def test_the_halo_holds_the_widest_field() -> None:
    assert halo_of({"psi_0": {"99": 90, "99.9": 157}, "psi_4": {"99": 37, "99.9": 72}}) == 160
    assert halo_of({"psi_4": {"99": 1, "99.9": 64}}) == 64
    assert halo_of({"psi_4": {"99": 256, "99.9": 256}}) == 256


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[SlideRecord]:
    """Two slides, each with a large and a small section; the second is greyer, and the large ones grow dark."""
    folder = tmp_path_factory.mktemp("slides")
    records = []
    for number, slide_id in enumerate(("a", "b")):
        picture = pink_picture(2900, 1800, islands=[tuple(_LARGE), tuple(_SMALL)])
        shade = np.linspace(10, 90, _LARGE.height, dtype=np.uint8)[:, None, None]
        picture[_LARGE.slices()] -= shade
        for box in (_LARGE, _SMALL):
            picture[..., 1][box.slices()] += np.uint8(20 * number)
        path = write_slide(folder / f"{slide_id}.tif", picture)
        records.append(SlideRecord(slide_id=slide_id, part=Part.VALIDATION_1, path=path))
    return records


def _open(record: SlideRecord) -> Slide:
    return Slide(record.path, target_mpp=MPP, mpp=record.mpp)


def _sections(slide_id: str) -> list[SectionRecord]:
    labels = {"tumor": (Label.TUMOR, _SMALL), "normal": (Label.NORMAL, _LARGE)}
    return [
        SectionRecord(slide_id=slide_id, section_id=f"{slide_id}-{name}", label=label, box_level0_px=box)
        for name, (label, box) in labels.items()
    ]


def test_samples_are_spread_over_labels_and_slides_however_large_they_are(records: list[SlideRecord]) -> None:
    samples = sample_patches(records, _open, 16, sections=_sections)
    assert samples.shape == (16, 512, 512, 3)
    assert torch.equal(samples, sample_patches(records, _open, 16, sections=_sections))
    # Only the small sections have their pink unshaded.
    are_small = (samples[..., 0] == 200).any(dim=2).any(dim=1)
    assert int(are_small.sum()) == 8
    of_second = (samples[are_small][..., 1] == 140).any(dim=2).any(dim=1)
    assert of_second.tolist() == [False] * 4 + [True] * 4
    dark = samples[~are_small].float().mean(dim=(1, 2, 3))
    assert float(dark.max() - dark.min()) > 40


def test_all_patches_are_taken_where_there_are_not_as_many_and_no_labels_are_needed(
    records: list[SlideRecord],
) -> None:
    few = sample_patches(records[:1], _open, 10_000)
    assert 20 < len(few) < 100
    assert len(sample_patches(records, _open, 7)) == 7


def test_int8_models_of_another_machine_are_taken_where_a_record_vouches_for_them(tmp_path: Path) -> None:
    run, origin = RunPaths(tmp_path), int8_origin(torch.zeros(1, 2, 2, 3, dtype=torch.uint8))
    assert origin != int8_origin(torch.ones(1, 2, 2, 3, dtype=torch.uint8))
    for end in (".xml", ".bin"):
        write_text(run.int8_model(3, "whole").with_suffix(end), end)
    digests = {"whole": int8_digest(run.int8_model(3, "whole"))}
    record = replace(RECORD, int8_sha256=digests, int8_origin=origin)
    write_speedups(run.speedups(3, MACHINE.key), record)

    def kept(origin: str, weights: str = "w") -> dict[str, str]:
        return kept_int8_models(run, 3, weights_digest=weights, origin=origin)

    assert kept(origin) == digests
    assert kept("other patches") == kept(origin, "other weights") == {}
    write_text(run.int8_model(3, "whole").with_suffix(".bin"), "damaged")
    assert kept(origin) == {}
