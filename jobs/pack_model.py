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
    feature_patches: int = 128
    """Patches of Validation I in the shard set that tell what the network's deepest features are like on tissue, for
    later comparison; 0 leaves that out, and needs no shards."""


def pack(arguments: PackArguments) -> str:
    """Write the model file, and return what it is in a line.

    Raises:
        BccdistError: the study is not far enough, or something of it is damaged.
    """
    from bccdist.models.packing import pack_model

    model = pack_model(
        arguments.study,
        arguments.out,
        setting=arguments.setting,
        licence=arguments.licence,
        num_feature_patches=arguments.feature_patches,
    )
    network, selection = model.description.network, model.description.selection
    return (
        f"{arguments.out}: {network.setting}, width {network.width}, epoch {network.epoch}, t_p {selection.t_p:g}, "
        f"t_A {selection.t_a_um2:g} um2, {arguments.out.stat().st_size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    run_command(lambda: print(pack(tyro.cli(PackArguments))))
