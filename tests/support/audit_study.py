"""A study with an audit of its annotations, made without a network: one slide agrees, the other has three errors."""

from pathlib import Path

import numpy as np
import shapely
from small_study import SmallStudy, write_study

from bccdist.audit.contradictions import compare_slide
from bccdist.audit.outlines import read_outlines
from bccdist.audit.probability_map import MAP_PX, ProbabilityMap, write_map
from bccdist.audit.table import METHOD, AuditIdentity, SlideAudit, finding_row, gather, tabulate, write_slide
from bccdist.configuration import ShardConfig
from bccdist.parquet import write_table
from bccdist.paths import StudyPaths
from bccdist.slides.annotations.rasterising import fill_polygon
from bccdist.slides.manifest import read_manifest
from bccdist.slides.slide import Slide
from bccdist.study import claim_study

SETTING = "resnet34_linear"
WRONG, RIGHT = "train-0", "train-1"
LEFT_OUT_LEVEL0_PX = (1500.0, 300.0, 1900.0, 640.0)
"""Where tumor is predicted on `WRONG` and nobody drew: left, top, right, bottom."""


def write_audited_study(folder: Path) -> SmallStudy:
    """On `WRONG` tumor is predicted in the outline of Normal and in `LEFT_OUT_LEVEL0_PX`, and not in Tumornest."""
    study = write_study(folder)
    manifest = claim_study(study.root, study.manifest)
    audit = StudyPaths(study.root).audit(SETTING)
    for fold, slide_id in enumerate((WRONG, RIGHT), start=1):
        record = manifest.slide(slide_id)
        with Slide(record.path, target_mpp=ShardConfig().target_mpp) as slide:
            outlines = read_outlines(record, slide, manifest.kinds)
            size, downsample = (slide.height_px // MAP_PX, slide.width_px // MAP_PX), slide.resolution.downsample
            mpp = slide.resolution.mpp
        wanted = "Normal" if slide_id == WRONG else "Tumornest"
        tumor = np.zeros(size, dtype=bool)
        shapes = [outline.polygon for outline in outlines if outline.kind == wanted]
        shapes += [shapely.box(*LEFT_OUT_LEVEL0_PX)] if slide_id == WRONG else []
        for shape in shapes:
            fill_polygon(tumor, shape, downsample=downsample * MAP_PX)
        found = ProbabilityMap(
            probability=np.where(tumor, 0.95, 0.05).astype(np.float32),
            is_read=np.ones(size, dtype=bool),
            downsample=downsample * MAP_PX,
            mpp=mpp * MAP_PX,
        )
        write_map(audit.probability_map(slide_id), found)
        rows = tabulate(
            [finding_row(slide_id, finding) for finding in compare_slide(outlines, found)],
            slide_id=slide_id,
            fold=fold,
            weights_digest="0" * 12,
            phantom=False,
        )
        identity = AuditIdentity(
            method=METHOD,
            fold=fold,
            weights_digest="0" * 12,
            shard_set="x",
            annotation_digest="y",
            slide_fingerprint="z",
        )
        about = SlideAudit(identity=identity, downsample=found.downsample, mpp=found.mpp, rows=rows)
        write_slide(audit.rows(slide_id), about)
    write_table(audit.table, gather(audit, (WRONG, RIGHT)))
    return study


def kinds_marked(manifest_path: Path, slide_id: str) -> dict[str, float]:
    """Share of a slide's pixels under each kind, by the annotation that a manifest names."""
    from bccdist.slides.annotations import read_annotations
    from bccdist.slides.geometry import Box

    manifest = read_manifest(manifest_path)
    record = manifest.slide(slide_id)
    with Slide(record.path, target_mpp=ShardConfig().target_mpp) as slide:
        annotation = read_annotations(record.annotations, slide, manifest.kinds)
        masks = annotation.masks(Box(0, 0, slide.width_px, slide.height_px))
    return {kind.value: float(mask.mean()) for kind, mask in masks.items()}
