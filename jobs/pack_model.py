"""Pack a trained model into one file: `python jobs/pack_model.py STUDY --out bcc.model`.

The file opens without its study: weights, thresholds, speed-up records, and what it was trained on. It names no slide
and no patient.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bccdist.command import run_command
from bccdist.configuration import Setting
from bccdist.errors import ConfigurationError
from bccdist.log import LOG
from bccdist.paths import StudyPaths
from bccdist.stages.outdated import BY_TIMES, why_choice_is_outdated
from bccdist.study import manifest_of_study, note_on_manifest, refuse_address


@dataclass(frozen=True, kw_only=True)
class PackArguments:
    """Pack the chosen network of a study, with all that its verdicts depend on, into one file."""

    study: Annotated[Path, tyro.conf.Positional]
    """Folder of the study; its selection must be done."""
    out: Path = Path("bcc.model")
    """The model file to write; replaced if it is there."""
    setting: Setting | None = None
    """Setting whose network is packed; None takes the one with the best F_beta on Validation I + II."""
    licence: str = ""
    """Terms under which the model may be used, such as an SPDX identifier; stands in the model card."""


def pack(arguments: PackArguments) -> str:
    """Write the model file, and return what it is in a line.

    Raises:
        BccdistError: the study is not far enough, or something of it is damaged.
    """
    from bccdist.models.packing import pack_model
    from bccdist.models.reference import quality_limits

    refuse_address(arguments.study)
    _require_choice_of_today(arguments)
    model = pack_model(arguments.study, arguments.out, setting=arguments.setting, licence=arguments.licence)
    if doubt := quality_limits(model).warning:
        LOG.warning(f"{arguments.out}: {doubt}")
    network, selection = model.description.network, model.description.selection
    return (
        f"{arguments.out}: {network.kind}, epoch {network.epoch}, t_p {selection.t_p:g}, "
        f"t_A {selection.t_a_um2:g} um2, {arguments.out.stat().st_size / 1e6:.1f} MB"
    )


def _require_choice_of_today(arguments: PackArguments) -> None:
    """Refuse thresholds that were chosen from other rows, labels or slides than the study has; a doubt is told.

    Raises:
        BccdistError: they were; or nothing was selected yet.
    """
    from bccdist.sections.choices import choose_headline, read_selection

    paths, manifest = StudyPaths(arguments.study), manifest_of_study(arguments.study)
    choice = choose_headline(read_selection(paths), arguments.setting)
    reason = why_choice_is_outdated(paths, manifest, choice.setting, choice.epoch, has_gone_on=False)
    if reason == BY_TIMES:
        LOG.warning(f"{paths.selection}: whether its choice of {choice.setting} is out of date is not known: {reason}")
    elif reason:
        raise ConfigurationError(
            f"{paths.selection}: its choice of {choice.setting} is out of date: {reason}; make it anew with `python "
            f"jobs/launch_select.py --study {arguments.study}`, or put back what has changed"
        )
    if note := note_on_manifest(arguments.study, manifest):
        LOG.warning(note)


if __name__ == "__main__":
    run_command(lambda: print(pack(tyro.cli(PackArguments))))
