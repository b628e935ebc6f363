"""What a whole study needs of its manifest: found out before its first job, and by the doctor."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from bccdist.addresses import Location
from bccdist.configuration import ShardConfig
from bccdist.errors import AnnotationError, RemoteError, ShardError, SlideError
from bccdist.log import LOG
from bccdist.parts import Kind, Label, Part
from bccdist.paths import StudyPaths
from bccdist.remote.files import is_there
from bccdist.slides.manifest import Manifest, SectionRecord, SlideRecord
from bccdist.stages.stage import Stage
from bccdist.stages.table import SELECTION, SHARDS, TEST_HEATMAPS

Read = TypeVar("Read")
LONGEST_LOOK_S = 60.0
"""How long a launch looks at the pixels of slides whose fingerprints are not kept."""
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


def lacks_of_pixels(manifest: Manifest, study: StudyPaths, *, within_s: float = LONGEST_LOOK_S) -> list[str]:
    """Slides of two parts with the same pixels, a sentence each; how many were not compared is told in the log.

    Kept fingerprints are taken where there are some. Of the other slides only those are read that share their size
    with another one, so that this is quick for hundreds of slides.

    Args:
        manifest: of the slides.
        study: may keep fingerprints, as may the folder beside slides.csv.
        within_s: slides whose turn would come later are not read.
    """
    from bccdist.slides.fingerprints import content_of, kept_beside, kept_fingerprint, size_of
    from bccdist.slides.leakage import pixel_leaks

    if len({slide.part for slide in manifest.slides}) < 2:
        return []
    end_s = time.monotonic() + within_s
    folders = [study.fingerprints, kept_beside(manifest.path)]
    kept = {slide.slide_id: kept_fingerprint(slide, folders) for slide in manifest.slides}
    contents = {slide_id: found.content for slide_id, found in kept.items() if found is not None}
    others = [slide for slide in manifest.slides if slide.slide_id not in contents]
    sizes = _read_each(others, size_of, end_s)
    counts = Counter([*sizes.values(), *(found.size_level0_px for found in kept.values() if found is not None)])
    alike = [slide for slide in others if slide.slide_id in sizes and counts[sizes[slide.slide_id]] > 1]
    contents |= _read_each(alike, content_of, end_s)
    num_left = len(others) - len(sizes) + sum(slide.slide_id not in contents for slide in alike)
    if num_left:
        report = manifest.path.with_name("doctor.json")
        LOG.warning(
            f"{num_left} of {len(manifest.slides)} slides could not be opened, or not in time, and were not compared "
            "with the others: whether their pixels are in two parts is looked at when the shard set is finished, or "
            f"before by `python jobs/doctor.py {manifest.path} --report {report}`"
        )
    leaks = pixel_leaks(manifest, contents)
    return [f"slide {leak.slide_id}: {leak.text}" for leak in leaks if leak.is_across_parts]


def _read_each(slides: Sequence[SlideRecord], read: Callable[[Location], Read], end_s: float) -> dict[str, Read]:
    """What is read of each slide by slide_id; without those that cannot be read, or not in time."""
    found = {}
    for slide in slides:
        if time.monotonic() > end_s:
            break
        with suppress(SlideError, RemoteError):
            found[slide.slide_id] = read(slide.path)
    return found


def lacks_of_files(manifest: Manifest, study: StudyPaths, stages: Iterable[Stage]) -> list[str]:
    """Slides and annotations that are not there and that a stage still needs, a sentence each.

    What has gone since all was made of it is not missed. Of a study that is not begun the manifest's check tells.
    """
    if not study.study.exists():
        return []
    needed = [record for stage in stages if stage.is_for_each_slide for record in _undone(stage, manifest, study)]
    files = {
        f"slide {record.slide_id}: {path} is not there, and not all is made of it yet": path
        for record in needed
        for path in (record.path, *(record.annotations if record.part.is_annotated else ()))
    }
    # Whether a remote one is still there, the job that reads it tells.
    return [text for text, path in files.items() if isinstance(path, Path) and not path.exists()]


def _undone(stage: Stage, manifest: Manifest, study: StudyPaths) -> Iterator[SlideRecord]:
    return map(manifest.slide, stage.progress(study, manifest).missing)


def reading_annotations(manifest: Manifest, config: ShardConfig, study: StudyPaths) -> TumorIn:
    """Looks for Tumornest in the annotation files themselves; one that cannot be read holds none.

    Of a slide or an annotation that has gone, the patches that were made of it tell.
    """

    def tumor_in(record: SlideRecord) -> bool:
        from bccdist.slides.annotations import read_annotations
        from bccdist.slides.slide import Slide

        try:
            with Slide(
                record.path, target_mpp=config.target_mpp, tolerance=config.mpp_tolerance, mpp=record.mpp
            ) as slide:
                return read_annotations(record.annotations, slide, manifest.kinds).areas_um2[Kind.TUMORNEST] > 0
        except (SlideError, AnnotationError, RemoteError):
            has_gone = not all(map(is_there, (record.path, *record.annotations)))
            return has_gone and _patches_hold_tumor(study.shards.rows(record.slide_id))

    return tumor_in


def _patches_hold_tumor(rows: Path) -> bool:
    from bccdist.parquet import read_table

    if not rows.exists():
        return False
    table = read_table(rows, columns=["pool_tumor"], error=ShardError, advice="delete it and build again")
    return any(table["pool_tumor"].to_pylist())


def mixed_up_scales(manifest: Manifest) -> list[str]:
    """Slides whose um/px speak of a mixed-up unit, a sentence each: all that is made of them would be wrong."""
    from bccdist.slides.scales import mixed_up_units

    return list(mixed_up_units(manifest.slides))


def listed(lacks: Sequence[str]) -> str:
    """What is lacking, one below the other."""
    return "\n".join(f"  - {lack}" for lack in dict.fromkeys(lacks))
