"""What a manifest holds of a part is counted as in the paper's Table 1."""

from pathlib import Path

from bccdist.parts import Label, Part
from bccdist.slides.manifest import Manifest, SectionRecord, SlideRecord
from bccdist.slides.part_totals import totals_of


def test_totals_are_those_of_table_1(tmp_path: Path) -> None:
    slides = [
        SlideRecord(slide_id="a", part=Part.TRAINING, path=Path("a"), annotations=(Path("x"),)),
        SlideRecord(slide_id="b", part=Part.TRAINING, path=Path("b")),
        SlideRecord(slide_id="c", part=Part.TEST, path=Path("c")),
    ]
    labels = {"a": [Label.TUMOR, None], "b": [Label.NORMAL, Label.NORMAL], "c": [Label.TUMOR]}
    sections = [
        SectionRecord(slide_id=name, section_id=f"{name}-{number}", label=label)
        for name, of_slide in labels.items()
        for number, label in enumerate(of_slide)
    ]
    manifest = Manifest(path=tmp_path / "slides.csv", slides=tuple(slides), sections=tuple(sections))
    totals = totals_of(manifest, Part.TRAINING)
    assert (totals.num_slides, totals.num_annotated) == (2, 1)
    assert (totals.num_tumor, totals.num_normal, totals.num_unlabelled) == (1, 2, 1)
