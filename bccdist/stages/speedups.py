"""What faster ways change for a setting's chosen epoch and thresholds, which are known only when the job runs."""

from pathlib import Path

from bccdist.configuration import Setting, SpeedupsConfig
from bccdist.errors import LedgerError
from bccdist.paths import StudyPaths


def measure_chosen(manifest_path: Path, study_root: Path, setting: Setting, config: SpeedupsConfig) -> None:
    """Measure every way of inference on Validation I; the job's entry point.

    Raises:
        LedgerError: the selection has not run yet.
        ConfigurationError: no slide of Validation I has tissue.
        SlideError: one cannot be read.
    """
    from bccdist.sections.choices import read_choices
    from bccdist.speedups.measure import measure_speedups
    from bccdist.speedups.record import Thresholds

    paths = StudyPaths(study_root)
    chosen = [choice for choice in read_choices(paths) if choice.setting == setting]
    if not chosen:
        raise LedgerError(f"{paths.selection}: no epoch was chosen for {setting}; run the selection on it first")
    thresholds = Thresholds(t_p=chosen[0].t_p, t_a_um2=chosen[0].t_a_um2, area_unit=chosen[0].area_unit)
    measure_speedups(manifest_path, study_root, setting, chosen[0].epoch, thresholds, config)
