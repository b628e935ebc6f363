"""What faster ways change for a setting's chosen epoch and thresholds, which are known only when the job runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bccdist.configuration import Setting, SpeedupsConfig
from bccdist.errors import ConfigurationError
from bccdist.paths import StudyPaths

if TYPE_CHECKING:
    from bccdist.slides.manifest import Manifest, SectionRecord, SlideRecord
    from bccdist.speedups.measure import ExactRows


def measure_chosen(manifest_path: Path, study_root: Path, setting: Setting, config: SpeedupsConfig) -> None:
    """Measure every way of inference on Validation I and II; the job's entry point.

    Raises:
        LedgerError: the selection has not run yet.
        ConfigurationError: no slide of Validation I can be read and has tissue.
        SlideError: a slide's pixels cannot be read.
    """
    from bccdist.sections.choices import Thresholds, of_setting, read_choices
    from bccdist.slides.manifest import read_manifest
    from bccdist.speedups.measure import measure_speedups

    paths = StudyPaths(study_root)
    choice = of_setting({choice.setting: choice for choice in read_choices(paths)}, setting, paths)
    manifest = read_manifest(manifest_path, files_must_exist=False)

    measure_speedups(
        manifest_path,
        study_root,
        setting,
        choice.epoch,
        Thresholds.of(choice),
        config,
        exact_rows=exact_rows_of(paths, manifest, setting, choice.epoch, config.mpp_tolerance),
    )


def exact_rows_of(
    paths: StudyPaths, manifest: "Manifest", setting: Setting, epoch: int, mpp_tolerance: float
) -> "ExactRows":
    """From a slide to its rows in a study's ledger, where they were made exactly.

    Args:
        paths: the study's.
        manifest: its slides and sections.
        setting: whose weights.
        epoch: of the weights.
        mpp_tolerance: that the slides are read with.
    """

    def exact_rows(record: "SlideRecord", target_mpp: float) -> Sequence[Mapping[str, Any]] | None:
        return _exact_rows(
            paths.ledger_rows(setting, epoch, record.slide_id),
            record,
            manifest.sections_of(record.slide_id),
            weights=paths.run(setting).weights(epoch),
            target_mpp=target_mpp,
            mpp_tolerance=mpp_tolerance,
        )

    return exact_rows


def _exact_rows(
    path: Path,
    record: "SlideRecord",
    sections: Sequence["SectionRecord"],
    *,
    weights: Path,
    target_mpp: float,
    mpp_tolerance: float,
) -> Sequence[Mapping[str, Any]] | None:
    """A slide's ledger rows, if they are of these weights and this slide and were made exactly."""
    from bccdist.heatmaps.method import Method
    from bccdist.networks.weights import weights_digest
    from bccdist.remote.files import fingerprint_of
    from bccdist.sections.ledger import read_rows
    from bccdist.sections.verdicts import ReachedBy
    from bccdist.stages.inference_identity import (
        InferenceIdentity,
        are_rows_done,
        inference_digest,
        sections_digest,
    )

    # The engine does not name what is made: all float32 engines give the paper's way but for rounding.
    exact = Method(engine="eager").names_heatmap
    identity = InferenceIdentity(
        weights_digest=weights_digest(weights),
        config_digest=inference_digest(exact, record, target_mpp=target_mpp, mpp_tolerance=mpp_tolerance),
        slide_fingerprint=fingerprint_of(record.path),
        sections_digest=sections_digest(record, sections),
    )
    try:
        rows = read_rows(path).to_pylist() if are_rows_done(path, identity) else []
    except ConfigurationError:
        # They were made in another way: a faster one, as a whole study may be.
        return None
    return rows if rows and all(row["reached_by"] == ReachedBy.EXACT for row in rows) else None
