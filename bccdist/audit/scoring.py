"""Compares the annotation of Training slides with what a network says that never saw their patient."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from bccdist.audit.contradictions import compare_slide
from bccdist.audit.findings import Finding, Shown
from bccdist.audit.outlines import read_outlines
from bccdist.audit.patches import shown_in
from bccdist.audit.probability_map import MAP_PX, MapInTheMaking, ProbabilityMap, pooled, write_map
from bccdist.audit.table import (
    METHOD,
    AuditIdentity,
    SlideAudit,
    finding_row,
    patch_row,
    read_slide,
    tabulate,
    write_slide,
)
from bccdist.configuration import PATCH_PX, Setting, read_claimed
from bccdist.errors import CheckpointError, ConfigurationError, LedgerError, NotFiniteError, ShardError
from bccdist.files import digest_of
from bccdist.log import LOG
from bccdist.networks.inference import WholeNetwork
from bccdist.networks.weights import load_network, weights_digest
from bccdist.parquet import identity_in, open_table
from bccdist.paths import AuditPaths, RunPaths, StudyPaths
from bccdist.remote.files import fingerprint_of, sha256_of
from bccdist.shard_set.folds import Folds, read_folds
from bccdist.shard_set.index import ShardSet, read_set
from bccdist.shard_set.reader import PatchReader
from bccdist.slide_runner import SlideDone, SlideWork
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Kinds, SlideRecord, read_manifest
from bccdist.slides.slide import Slide
from bccdist.training.reporting.metrics import num_epochs_done, read_best_epochs, read_metrics
from bccdist.training.run import LEFT_OUT

LEAST_IOU = 0.2
"""On Validation I, below which a fold's network hardly marks tumor, and its contradictions mean little."""
_BATCH = 8


class Scorer(NamedTuple):
    """A network that says what it thinks of patches."""

    network: WholeNetwork
    device: torch.device
    weights_digest: str

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The final output's probability of tumor, [n, 128, 128] in pixels of the map, of RGB [n, 512, 512, 3].

        Raises:
            NotFiniteError: one of them is no number.
        """
        probability = self.network(torch.from_numpy(images).to(self.device))[-1].cpu().numpy()
        if not np.isfinite(probability).all():
            raise NotFiniteError(f"weights {self.weights_digest}: probabilities are not finite; train the fold again")
        return pooled(probability)


class AuditedSlide(NamedTuple):
    """What is said of one slide."""

    findings: list[Finding]
    patches: list[tuple[Box, Shown | None]]
    """The slide's patches by their boxes in level-0 px, and what they show of the findings."""
    found: ProbabilityMap


@dataclass(frozen=True, kw_only=True)
class SlidePatches:
    """The patches of a shard set by slide."""

    shard_set: ShardSet
    reader: PatchReader
    rows: dict[str, NDArray[np.int64]]
    corners_level0_px: NDArray[np.int64]
    """x and y of every patch, [n, 2]."""

    @classmethod
    def of(cls, shard_set: ShardSet) -> "SlidePatches":
        """Read of the index what is needed."""
        codes, names = shard_set.coded_column("slide_id")
        return cls(
            shard_set=shard_set,
            reader=PatchReader(shard_set),
            rows={name: np.flatnonzero(codes == code) for code, name in enumerate(names)},
            corners_level0_px=np.stack([shard_set.column(f"{side}_level0_px") for side in "xy"], axis=1),
        )


def open_audit(manifest_path: Path, slide_ids: Sequence[str], study_root: Path, setting: Setting) -> SlideWork:
    """The work of one process: each fold's network is loaded once, when its first slide comes.

    Raises:
        ConfigurationError: the folds are not there, or a fold's training is not at its end or saw one of its slides.
        LedgerError: a fold is not trained.
    """
    study = StudyPaths(study_root)
    manifest = read_manifest(manifest_path, files_must_exist=False)
    paths, shard_set = study.audit(setting), read_set(study.shards.root)
    folds = read_folds(paths.folds)
    if folds.shard_set != shard_set.digest:
        raise ConfigurationError(
            f"{paths.folds}: the folds are of the shard set {folds.shard_set}, and it is {shard_set.digest} now; "
            f"remove {paths.root} to audit anew"
        )
    weights = {fold: weights_of(paths, folds, fold) for fold in sorted({folds.fold_of(each) for each in slide_ids})}
    patches = SlidePatches.of(shard_set)

    @cache
    def scorer(fold: int) -> Scorer:
        return open_scorer(weights[fold])

    def audit(slide_id: str) -> str | SlideDone:
        record, fold = manifest.slide(slide_id), folds.fold_of(slide_id)
        identity = AuditIdentity(
            method=METHOD,
            fold=fold,
            weights_digest=weights_digest(weights[fold]),
            shard_set=shard_set.digest,
            annotation_digest=_annotation_digest(study, record),
            slide_fingerprint=fingerprint_of(record.path),
        )
        if _is_done(paths, slide_id, identity):
            return "done before"
        audited = audit_slide(record, manifest.kinds, patches, scorer(fold))
        _write(paths, slide_id, identity, audited, is_phantom=shard_set.is_phantom)
        return SlideDone(f"fold {fold}, {len(audited.findings)} outlines and regions, {len(audited.patches)} patches")

    return audit


def weights_of(paths: AuditPaths, folds: Folds, fold: int) -> Path:
    """The weights of a fold's best epoch, after a look at the training's own record of what it saw.

    Raises:
        ConfigurationError: the training is not at its end, or it saw a slide of its fold.
        LedgerError: it has not begun.
    """
    run = paths.run(fold)
    epoch = read_best_epochs(run)[0]
    claimed = read_claimed(run.config)
    if claimed.get(LEFT_OUT) != sorted(folds.left_out(fold)):
        raise ConfigurationError(
            f"{run.config}: by its own record this training left out {claimed.get(LEFT_OUT)}, expected the slides of "
            f"fold {fold}, {sorted(folds.left_out(fold))}; remove {paths.root} and audit anew"
        )
    if (done := num_epochs_done(run)) < claimed["epochs"]:
        raise ConfigurationError(f"{run.root}: {done} of {claimed['epochs']} epochs are done; launch the audit again")
    metrics = read_metrics(run.metrics)
    if (iou := float(metrics.loc[metrics["is_final"], "iou"].max())) < LEAST_IOU:
        LOG.warning(
            f"fold {fold}: its network has an IoU of {iou:.2f} on Validation I, below {LEAST_IOU:g}; what it "
            f"contradicts means little. Train longer: remove {paths.root}, and audit anew with more epochs or steps"
        )
    return _weights_of_run(run, epoch, claimed["digest"])


def _weights_of_run(run: RunPaths, epoch: int, config_digest: str) -> Path:
    _, metadata = load_network(run.weights(epoch))
    if metadata.get("config_digest") != config_digest:
        raise CheckpointError(
            f"{run.weights(epoch)}: trained with the configuration {metadata.get('config_digest')}, expected "
            f"{config_digest}, that of {run.config}; put the run's own weights back"
        )
    return run.weights(epoch)


def open_scorer(weights: Path) -> Scorer:
    """The network in a weights file, ready to score."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, _ = load_network(weights)
    return Scorer(WholeNetwork(network).to(device).eval(), device, weights_digest(weights))


def audit_slide(record: SlideRecord, kinds: Kinds, patches: SlidePatches, scorer: Scorer) -> AuditedSlide:
    """Compare a slide's annotation with what a network says of its patches.

    Raises:
        SlideError, AnnotationError, ShardError: something of it cannot be read.
    """
    target_mpp = patches.shard_set.target_mpp
    tolerance = float(patches.shard_set.manifest["config"]["mpp_tolerance"])
    with Slide(record.path, target_mpp=target_mpp, tolerance=tolerance, mpp=record.mpp, by_tile=False) as slide:
        outlines = read_outlines(record, slide, kinds)
        downsample, mpp = slide.resolution.downsample, slide.resolution.mpp
        making = MapInTheMaking(width_px=slide.width_px, height_px=slide.height_px)
    rows = patches.rows.get(record.slide_id, np.empty(0, np.int64))
    if not len(rows):
        raise ShardError(f"{record.path}: the shard set has no patches of it; run the shards stage again")
    side_level0_px, boxes = round(PATCH_PX * downsample), []
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH].tolist()
        images = np.stack([patches.reader.read(row)[0] for row in some])
        for row, probability in zip(some, scorer(images), strict=True):
            x, y = patches.corners_level0_px[row].tolist()
            making.add(probability, x_px=round(x / downsample), y_px=round(y / downsample))
            boxes.append(Box(x, y, side_level0_px, side_level0_px))
    found_map = making.finished(downsample=downsample, mpp=mpp)
    findings = compare_slide(outlines, found_map)
    return AuditedSlide(findings, list(zip(boxes, shown_in(boxes, findings), strict=True)), found_map)


def _annotation_digest(study: StudyPaths, record: SlideRecord) -> str:
    """Names the content of a slide's annotation.

    Raises:
        ShardError: it is not what the patches were cut with.
    """
    digest = digest_of([sha256_of(path) for path in record.annotations])
    opened = open_table(study.shards.rows(record.slide_id), error=ShardError, advice="build the slide again")
    if (cut_with := identity_in(opened.schema.metadata).get("annotation_digest")) != digest:
        raise ShardError(
            f"{record.annotations[0]}: it has changed since the slide's patches were cut ({cut_with}, now {digest}); "
            "run `python jobs/launch_shards.py` first, or put it back"
        )
    return digest


def _is_done(paths: AuditPaths, slide_id: str, identity: AuditIdentity) -> bool:
    if not (paths.rows(slide_id).exists() and paths.probability_map(slide_id).exists()):
        return False
    try:
        return read_slide(paths.rows(slide_id)).identity == identity
    except LedgerError:
        return False


def _write(
    paths: AuditPaths, slide_id: str, identity: AuditIdentity, audited: AuditedSlide, *, is_phantom: bool
) -> None:
    """The map first, so that rows never stand without it."""
    write_map(paths.probability_map(slide_id), audited.found)
    rows = rows_of(
        slide_id, audited, fold=identity.fold, weights_digest=identity.weights_digest, is_phantom=is_phantom
    )
    found = audited.found
    about = SlideAudit(identity=identity, downsample=found.downsample, mpp=found.mpp, rows=rows)
    write_slide(paths.rows(slide_id), about)


def rows_of(slide_id: str, audited: AuditedSlide, *, fold: int, weights_digest: str, is_phantom: bool) -> pa.Table:
    """What is said of a slide as rows of the table, without ranks."""
    patch_um2 = (PATCH_PX / MAP_PX * audited.found.mpp) ** 2
    rows = [
        *(finding_row(slide_id, finding) for finding in audited.findings),
        *(
            patch_row(slide_id, number, shown, box, area_um2=patch_um2)
            for number, (box, shown) in enumerate(audited.patches)
        ),
    ]
    return tabulate(rows, slide_id=slide_id, fold=fold, weights_digest=weights_digest, phantom=is_phantom)
