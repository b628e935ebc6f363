"""Write a manifest for the EBHI-Seg slides: `python jobs/make_ebhi_manifest.py EBHI_FOLDER data/ebhi`.

EBHI-Seg (Shi et al., Frontiers in Medicine 2023, 10:1114673; CC BY 4.0) holds colorectal biopsies with tumor masks;
laid out as slides they are real H&E for trying the whole chain. They are neither skin nor Basal Cell Carcinoma.
"""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from bccdist.command import run_command
from bccdist.errors import ManifestError
from bccdist.files import write_text
from bccdist.parts import Part
from bccdist.slides.manifest import read_manifest

KINDS = """\
# Values of the mask images: 1 is a benign gland, the look-alike; 2 is adenocarcinoma, the target; 3 surrounds them.
[mask_values]
0 = "none"
1 = "Normal"
2 = "Tumornest"
3 = "Stroma"
"""
SLIDE_COLUMNS = ("slide_id", "part", "path", "annotation", "scanner")
SECTION_COLUMNS = (
    "slide_id",
    "section_id",
    "patient_id",
    "x_level0_px",
    "y_level0_px",
    "width_level0_px",
    "height_level0_px",
    "label",
    "labelled_by",
)


def make_manifest(source: Path, folder: Path) -> Path:
    """Write slides.csv, sections.csv and kinds.toml into `folder`; returns the path of slides.csv.

    Only the slides of Training and Validation I name their masks: the method uses no others.

    Raises:
        ManifestError: the source has no slides.csv, or what was written has faults.
    """
    if not (source / "slides.csv").exists():
        raise ManifestError(f"{source / 'slides.csv'} is not there; give the folder of the EBHI-Seg slides")
    folder.mkdir(parents=True, exist_ok=True)
    slides = [_slide_row(row, source, folder) for row in _read(source / "slides.csv")]
    sections = [{**row, "labelled_by": "EBHI-Seg"} for row in _read(source / "sections.csv")]
    _write(folder / "sections.csv", SECTION_COLUMNS, sections)
    write_text(folder / "kinds.toml", KINDS)
    _write(folder / "slides.csv", SLIDE_COLUMNS, slides)
    return read_manifest(folder / "slides.csv").path


def _slide_row(row: Mapping[str, str], source: Path, folder: Path) -> dict[str, str]:
    part = Part.parse(row["part"])
    return {
        "slide_id": row["slide_id"],
        "part": part.value,
        "path": _relative(source / row["slide"], folder),
        "annotation": _relative(source / row["mask"], folder) if part.is_annotated else "",
        "scanner": "EBHI-Seg",
    }


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.resolve(), folder.resolve())


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(source: Annotated[Path, tyro.conf.Positional], folder: Annotated[Path, tyro.conf.Positional]) -> None:
    """Write a manifest for the EBHI-Seg slides.

    Args:
        source: The folder with the slides, their masks, slides.csv and sections.csv.
        folder: Where to write the manifest.
    """
    print(make_manifest(source, folder))


if __name__ == "__main__":
    run_command(lambda: tyro.cli(main))
