"""What a whole study needs of its manifest: found out before its first job, and by the doctor."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from bccdist.configuration import ShardConfig
from bccdist.errors import AnnotationError, SlideError
from bccdist.parts import Kind, Label, Part
from bccdist.slides.manifest import Manifest, SectionRecord, SlideRecord
from bccdist.stages.table import SELECTION, SHARDS, TEST_HEATMAPS

TumorIn = Callable[[SlideRecord], bool]
"""Whether a slide's annotation holds Tumornest."""


def lacks_of_manifest(
    manifest: Manifest, tumor_in: TumorIn, *, labels: Iterable[SectionRecord] | None = None
) -> list[str]:
    """What a manifest lacks for a whole study, a sentence each; nothing if it lacks nothing.

    Args:
        manifest: of the study.
        tumor_in: looks into the annotation of a slide; of each part it is asked until one slide has tumor.
        labels: sections whose labels take the place of the manifest's.
    """
    return [*_lacking_tumor(manifest, tumor_in), *_lacking_labels(manifest, labels), *_lacking_test(manifest)]


def _lacking_tumor(manifest: Manifest, tumor_in: TumorIn) -> Iterator[str]:
    uses = {Part.TRAINING: "nothing could be learned", Part.VALIDATION_1: "no epoch could be told to be the best"}
    for part in SHARDS.parts:
        slides = manifest.slides_of([part])
        if not slides:
            yield f"no slide is in {part}, so {uses[part]}: add some to slides.csv"
        elif not any(map(tumor_in, slides)):
            yield (
                f"none of the {len(slides)} slide(s) of {part} has an annotation that can be read and holds "
                f"Tumornest, so {uses[part]}: `python jobs/doctor.py {manifest.path}` says what is wrong with each"
            )


def _lacking_labels(manifest: Manifest, labels: Iterable[SectionRecord] | None) -> Iterator[str]:
    slide_ids = {slide.slide_id for slide in manifest.slides_of(SELECTION.parts)}
    found = {row.label for row in (manifest.sections if labels is None else labels) if row.slide_id in slide_ids}
    for label in Label:
        if label not in found:
            yield (
                f"no section of {' or '.join(SELECTION.parts)} is labelled {label}, so no thresholds could be chosen: "
                "label some in sections.csv, which `python jobs/find_sections.py` begins"
            )


def _lacking_test(manifest: Manifest) -> Iterator[str]:
    if not manifest.slides_of(TEST_HEATMAPS.parts):
        yield f"no slide is in {' or '.join(TEST_HEATMAPS.parts)}, so there would be nothing to report on"


def reading_annotations(manifest: Manifest, config: ShardConfig) -> TumorIn:
    """Looks for Tumornest in the annotation files themselves; one that cannot be read holds none."""

    def tumor_in(record: SlideRecord) -> bool:
        from bccdist.slides.annotations import read_annotations
        from bccdist.slides.slide import Slide

        try:
            with Slide(
                record.path, target_mpp=config.target_mpp, tolerance=config.mpp_tolerance, mpp=record.mpp
            ) as slide:
                return read_annotations(record.annotations, slide, manifest.kinds).areas_um2[Kind.TUMORNEST] > 0
        except (SlideError, AnnotationError):
            return False

    return tumor_in


def listed(lacks: Sequence[str]) -> str:
    """What is lacking, one below the other."""
    return "\n".join(f"  - {lack}" for lack in dict.fromkeys(lacks))
