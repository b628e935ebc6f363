"""Export a model for other tools: `python jobs/export_model.py bcc.model --to onnx wsinfer --out FOLDER`.

Each format has a folder, with a card and what the network needs to be fed: um per pixel, normalisation, tiling,
thresholds. It is run and compared with ours before it is there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from bccdist.command import run_command


@dataclass(frozen=True, kw_only=True)
class ExportArguments:
    """Write a model file in the formats of other tools."""

    model: Annotated[Path, tyro.conf.Positional]
    """The model file, made by jobs/pack_model.py."""
    to: tuple[Literal["torchscript", "onnx", "openvino", "bioimageio", "wsinfer"], ...]
    """The formats. torchscript: libtorch, QuPath by a script; onnx: ONNX Runtime; openvino: OpenVINO; bioimageio: a
    bioimage.io package; wsinfer: WSInfer, a verdict for each patch."""
    out: Path = Path("exports")
    """Folder in which each format has a folder; one that is there is replaced."""


def export(arguments: ExportArguments) -> None:
    """Write the formats, and print a line for each.

    Raises:
        BccdistError: the model cannot be read, a package is not installed, or an export differs from ours.
    """
    from bccdist.models.model_file import read_model

    model = read_model(arguments.model)
    from bccdist.models.exporting.export import export_model

    for exported in export_model(model, arguments.to, arguments.out):
        print(f"{exported.folder}: largest difference of a probability from ours {exported.difference:.1g}")


if __name__ == "__main__":
    run_command(lambda: export(tyro.cli(ExportArguments)))
