"""What faster ways change for a setting's chosen epoch and thresholds, which are known only when the job runs."""

from pathlib import Path

from bccdist.configuration import Setting, SpeedupsConfig
from bccdist.paths import StudyPaths


def measure_chosen(manifest_path: Path, study_root: Path, setting: Setting, config: SpeedupsConfig) -> None:
    """Measure every way of inference on Validation I; the job's entry point.

    Raises:
        LedgerError: the selection has not run yet.
        ConfigurationError: no slide of Validation I has tissue.
        SlideError: one cannot be read.
    """
    from bccdist.sections.choices import of_setting, read_choices
    from bccdist.speedups.measure import measure_speedups
    from bccdist.speedups.record import Thresholds

    paths = StudyPaths(study_root)
    choice = of_setting({choice.setting: choice for choice in read_choices(paths)}, setting, paths)
    thresholds = Thresholds(t_p=choice.t_p, t_a_um2=choice.t_a_um2, area_unit=choice.area_unit)
    measure_speedups(manifest_path, study_root, setting, choice.epoch, thresholds, config)
