"""Labels that came after the inference: `python analysis/make.py relabel STUDY sections.csv`, or `--remove`.

The ledger keeps the labels that sections had when their heatmaps were made. A later sections.csv, such as the review
exports, becomes STUDY/labels.csv: from then on selection, tables and the report take their labels from it, at once and
without any heatmap, until it is removed. Sections that it does not name keep the ledger's labels.
"""

from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from bccdist.errors import ConfigurationError, LedgerError
from bccdist.files import write_text
from bccdist.paths import StudyPaths
from bccdist.sections.section_rows import load_ledger, section_keys, with_labels
from bccdist.slides.manifest import read_sections


class Relabelled(NamedTuple):
    """What a file of labels changed."""

    num_changed: int
    """Number of sections that have another label now than before."""
    num_unknown: int
    """Number of sections that the ledger does not know, as those of Training, which was not inferred."""


def relabel(study_root: Path, sections_csv: Path) -> Relabelled:
    """Make a sections.csv the study's labels.

    Raises:
        LedgerError: there is no ledger, or it has none of the sections.
        ManifestError: the file has faults. The labels stay as they are then.
    """
    paths = StudyPaths(study_root)
    before, sections = load_ledger(paths), read_sections(sections_csv)
    known = set(section_keys(before))
    unknown = [section for section in sections if (section.slide_id, section.section_id) not in known]
    if len(unknown) == len(sections):
        first = unknown[0]
        raise LedgerError(
            f"{sections_csv}: none of its {len(sections)} sections is in the ledger (the first is "
            f"{first.slide_id}/{first.section_id}); give the sections.csv of this study's slides"
        )
    after = with_labels(before, sections)
    write_text(paths.labels, sections_csv.read_text(encoding="utf-8-sig"))
    old, new = (dict(zip(section_keys(table), table["label"].to_pylist(), strict=True)) for table in (before, after))
    return Relabelled(sum(old[key] != label for key, label in new.items()), len(unknown))


def relabel_study(
    study: Annotated[Path, tyro.conf.arg(metavar="STUDY")],
    sections: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="SECTIONS_CSV")] = None,
    *,
    remove: bool = False,
) -> str:
    """Take other labels for the selection and all tables, or the ledger's own again; says what came of it.

    Args:
        study: The study's folder.
        sections: A sections.csv, such as the review exports.
        remove: Go back to the ledger's labels.

    Raises:
        ConfigurationError: neither or both is asked for.
        LedgerError: there is no ledger, or it has none of the sections.
        ManifestError: the file has faults. The labels stay as they are then.
    """
    labels = StudyPaths(study).labels
    if (sections is None) != remove:
        raise ConfigurationError("give either a sections.csv or --remove")
    if sections is None:
        labels.unlink(missing_ok=True)
        return f"labels are the ledger's again; now run\n{_next_commands(study)}"
    found = relabel(study, sections)
    said = f"{found.num_changed} section(s) have another label now ({labels}); now run\n{_next_commands(study)}"
    if found.num_unknown:
        said += f"\nnote: {found.num_unknown} section(s) of the file are of slides that were not inferred"
    return said


def _next_commands(study: Path) -> str:
    """What has to run so that nothing shows the labels of before; a cohort's thresholds do not rest on its labels."""
    selection = [] if StudyPaths(study).model.exists() else [f"  python analysis/make.py selection {study}"]
    return "\n".join([*selection, f"  python jobs/launch_tables.py --study {study}"])
