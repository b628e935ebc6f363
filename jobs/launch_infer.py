"""Heatmaps and section ledger: `python jobs/launch_infer.py --setting resnet34_ds --parts test --epochs chosen`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from bccdist.configuration import InferConfig, Setting
from bccdist.errors import ConfigurationError, LedgerError
from bccdist.parts import Part
from bccdist.sections.choices import chosen_epochs, of_setting, read_choices
from bccdist.stages.stage import Epochs
from bccdist.stages.table import TEST_HEATMAPS, VALIDATION_HEATMAPS
from bccdist.study import manifest_of_study
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.stages import launch_entries


@dataclass(frozen=True, kw_only=True)
class InferArguments(LauncherArguments):
    """Make the heatmaps of a trained setting and decide nothing yet."""

    setting: Setting = "resnet34_ds"
    """unet, resnet34, resnet34_ds (deep supervision) or resnet34_linear (linear merge)."""
    parts: tuple[str, ...] = (Part.VALIDATION_1.value, Part.VALIDATION_2.value)
    """Training, Validation I, Validation II, Test; or, in short, train, val1, val2, test."""
    epochs: Epochs = "best"
    """best: the best epochs by IoU on Validation I, for the selection. chosen: what the selection chose."""
    config: Annotated[InferConfig, FLAT] = field(default_factory=InferConfig)


def main(arguments: InferArguments) -> None:
    """Submit the stage."""
    launch = arguments.launch
    heatmaps = TEST_HEATMAPS if arguments.epochs == "chosen" else VALIDATION_HEATMAPS
    wanted = set(map(Part.parse, arguments.parts))
    entry = replace(heatmaps, parts=tuple(part for part in Part if part in wanted))
    manifest, lacks = manifest_of_study(launch.study), list(_lacks_of_record(arguments))
    launch_entries(launch, manifest, {entry: arguments.config}, [arguments.setting], lacks=lacks)


def _lacks_of_record(arguments: InferArguments) -> Iterator[str]:
    """What certified verdicts need of the study: a choice, and a speed-up record of the chosen epoch."""
    if not arguments.config.is_certified or arguments.epochs != "chosen":
        return
    paths, setting = arguments.launch.paths, arguments.setting
    try:
        epoch = of_setting(chosen_epochs(paths), setting, paths)
    except LedgerError as error:
        yield f"inference is certified, which needs what the selection chooses: {error}"
        return
    records = paths.run(setting).all_speedups(epoch)
    if records:
        yield from _lacks_of_slides(arguments, records)
    else:
        yield (
            f"inference is certified, and there is no speed-up record of {setting}, epoch {epoch}: run `python "
            "jobs/launch_calibrate.py` on the same kind of machine first, or ask for inference exact"
        )


def _lacks_of_slides(arguments: InferArguments, records: Sequence[Path]) -> Iterator[str]:
    """Why no record is for these thresholds and bears the confidence; the job says whether it suits its machine."""
    from bccdist.speedups.record import read_speedups

    paths, reasons = arguments.launch.paths, []
    try:
        choice = of_setting({each.setting: each for each in read_choices(paths)}, arguments.setting, paths)
    except LedgerError as error:
        yield f"inference is certified, which needs what the selection chooses: {error}"
        return
    for path in records:
        try:
            record = read_speedups(path, weights_digest=choice.weights_digest)
        except ConfigurationError as fault:
            reasons.append(str(fault))
            continue
        reason = record.thresholds.why_others(choice) or record.why_too_few_slides(arguments.config.confidence)
        if not reason:
            return
        reasons.append(f"{path}: {reason}")
    yield f"inference is certified: {'; '.join(reasons)}"


if __name__ == "__main__":
    run_launcher(InferArguments, main)
