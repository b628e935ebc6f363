"""Table 3, the selected models on Validation I + II (paper, section 2.5): `python analysis/make.py table3 STUDY`."""

from collections.abc import Iterator

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table, rounded
from bccdist.errors import NothingToShowError
from bccdist.sections.choices import SITE_CHOICE

_FIGURES = (
    *("accuracy", "sensitivity", "specificity", "f_beta", "tp", "fn", "fp", "tn"),
    *("num_review", "num_sections", "num_slides"),
)


def build_table3(selection: pd.DataFrame) -> Table:
    """The table from the rows of selection.parquet."""
    beta, area_unit = selection["beta"].iloc[0], selection["area_unit"].iloc[0]
    printed = pd.DataFrame(
        {
            "setting": selection["setting"],
            "epoch": selection["epoch"].astype(str),
            "t_p": rounded(selection["t_p"], 2),
            "t_A um2": rounded(selection["t_a_um2"], 0),
            **printed_figures(selection, beta),
        }
    )
    return Table(
        name="table3",
        title=f"Table 3. Selected models on Validation I + II ({area_unit} areas).",
        frame=selection.drop(columns=SITE_CHOICE, errors="ignore"),
        printed=printed,
        notes=tuple(_site_notes(selection)),
    )


def _site_notes(selection: pd.DataFrame) -> Iterator[str]:
    """Whose the thresholds are, where they are a site's."""
    for digest in selection.get(SITE_CHOICE, ()):
        yield (
            f"These thresholds are the site's own choice ({digest}); the figures are what they do on the slides that "
            "the model's were chosen on."
        )


def printed_figures(frame: pd.DataFrame, beta: float) -> dict[str, object]:
    """The columns that Tables 3 and 4 share, as texts under their headings."""
    return {
        "accuracy": rounded(frame["accuracy"], 3),
        "sensitivity": rounded(frame["sensitivity"], 3),
        "specificity": rounded(frame["specificity"], 3),
        f"F_{beta:g}": rounded(frame["f_beta"], 3),
        **{name.upper(): frame[name].astype(str) for name in ("tp", "fn", "fp", "tn")},
        "review": frame["num_review"].astype(str),
        "sections": frame["num_sections"].astype(str),
        "slides": frame["num_slides"].astype(str),
    }


def write_table3(study: Evidence) -> Table:
    """Write Table 3: what was chosen for each setting, and how it does on Validation I + II.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected.
        NothingToShowError: the selection holds thresholds without figures, as they came with a model.
    """
    missing = [name for name in _FIGURES if name not in study.selection]
    if missing:
        raise NothingToShowError(
            f"{study.paths.selection}: thresholds without figures on Validation ({', '.join(missing)})"
        )
    return study.write(build_table3(study.selection))
