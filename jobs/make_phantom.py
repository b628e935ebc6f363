"""Make a phantom data set: `python jobs/make_phantom.py OUT_FOLDER [--num-train 6 ...]`."""

from pathlib import Path
from typing import Annotated

import tyro

from bccdist.command import run_command
from bccdist.phantom import PhantomConfig, make_phantom


def main(folder: Annotated[Path, tyro.conf.Positional], config: tyro.conf.OmitArgPrefixes[PhantomConfig]) -> None:
    """Make phantom slides, annotations and a manifest; finished slides in the folder are kept.

    Args:
        folder: Where the data set goes; made if it is missing.
        config: What the data set holds.
    """
    print(make_phantom(folder, config))


if __name__ == "__main__":
    run_command(lambda: tyro.cli(main))
