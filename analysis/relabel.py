"""Labels that came after the inference: `python analysis/relabel.py STUDY sections.csv`, or `--remove`.

The ledger keeps the labels that sections had when their heatmaps were made. A later sections.csv, such as the review
exports, becomes STUDY/labels.csv: from then on selection, tables and the report take their labels from it, at once and
without any heatmap, until it is removed. Sections that it does not name keep the ledger's labels.
"""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import tyro

from analysis.command import run
from analysis.section_rows import load_ledger, with_labels
from bccdist.errors import ConfigurationError
from bccdist.files import write_text
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import read_sections


def relabel(study_root: Path, sections_csv: Path) -> int:
    """Make a sections.csv the study's labels; returns how many sections now have another label than before.

    Raises:
        LedgerError: there is no ledger, or a section is named that it does not have.
        ManifestError: the file has faults. The labels stay as they are then.
    """
    paths = StudyPaths(study_root)
    before = load_ledger(paths)
    after = with_labels(before, read_sections(sections_csv))
    write_text(paths.labels, sections_csv.read_text(encoding="utf-8-sig"))
    old, new = _labels(before), _labels(after)
    return sum(old[key] != label for key, label in new.items())


def _labels(table: pa.Table) -> dict[tuple[str, str], str | None]:
    columns = (table[name].to_pylist() for name in ("slide_id", "section_id", "label"))
    return {(slide_id, section_id): label for slide_id, section_id, label in zip(*columns, strict=True)}


def main(
    study: Annotated[Path, tyro.conf.Positional],
    sections: Annotated[Path | None, tyro.conf.Positional] = None,
    *,
    remove: bool = False,
) -> None:
    """Take other labels, or the ledger's own again.

    Args:
        study: The study's folder.
        sections: A sections.csv.
        remove: Go back to the ledger's labels.
    """
    paths = StudyPaths(study)
    if (sections is None) != remove:
        raise ConfigurationError("give either a sections.csv or --remove")
    if sections is None:
        paths.labels.unlink(missing_ok=True)
        print("labels are the ledger's again; run the selection and the tables")
    else:
        num_changed = relabel(study, sections)
        print(f"{num_changed} section(s) have another label now ({paths.labels}); run the selection and the tables")


if __name__ == "__main__":
    run(main)
