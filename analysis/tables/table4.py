"""Table 4, the chosen models on the Test part (paper, section 3): `python analysis/make.py table4 STUDY`."""

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.flip_shifts import nearest_notes
from analysis.study_evidence.table import Table, rounded
from analysis.study_evidence.verdict_table import needs_labels, summarise, unlabelled_notes
from analysis.tables.section_verdicts import build_verdict_table, verdicts_with_times
from analysis.tables.table3 import printed_figures
from bccdist.parts import Part
from bccdist.sections.choices import Choice
from bccdist.sections.section_rows import sections_in


def build_table4(verdicts: pd.DataFrame, choices: list[Choice]) -> Table:
    """The table from the verdicts of all settings on Test.

    Args:
        verdicts: from `all_verdicts`, with read_s and network_s of each slide; at least one row.
        choices: the chosen models; one without verdicts is named below the table.

    Raises:
        NothingToShowError: no section has a label.
    """
    if not verdicts["label"].notna().any():
        raise needs_labels(verdicts, [Part.TEST])
    judged = [choice for choice in choices if choice.setting in set(verdicts["setting"])]
    frame = pd.DataFrame(
        [
            {
                "setting": choice.setting,
                "epoch": choice.epoch,
                "t_p": choice.t_p,
                "t_a_um2": choice.t_a_um2,
                **summarise(verdicts[verdicts["setting"] == choice.setting], choice.beta),
                **_median_times(verdicts[verdicts["setting"] == choice.setting]),
                "weights_digest": choice.weights_digest,
            }
            for choice in judged
        ]
    )
    return Table(
        name="table4",
        title="Table 4. Section verdicts on Test, thresholds from Validation.",
        frame=frame,
        printed=pd.DataFrame(
            {
                "setting": frame["setting"],
                **printed_figures(frame, choices[0].beta),
                "reading s": rounded(frame["median_read_s"], 2),
                "network s": rounded(frame["median_network_s"], 2),
            }
        ),
        notes=tuple(_notes(verdicts, choices, frame)),
    )


def _median_times(verdicts: pd.DataFrame) -> dict[str, float]:
    slides = verdicts.drop_duplicates("slide_id")
    return {f"median_{name}": float(slides[name].median()) for name in ("read_s", "network_s")}


def _notes(verdicts: pd.DataFrame, choices: list[Choice], frame: pd.DataFrame) -> list[str]:
    notes = [
        *nearest_notes(verdicts),
        "Seconds: of a slide, the median; reading and the network run beside each other.",
    ]
    missing = [choice.setting for choice in choices if choice.setting not in set(frame["setting"])]
    if missing:
        notes.append(f"No Test sections in the ledger yet for: {', '.join(missing)}.")
    notes += unlabelled_notes(frame)
    sections = [sections_in(rows) for _, rows in verdicts.groupby("setting")]
    if any(keys != sections[0] for keys in sections):
        notes.append("The settings were not judged on the same sections: finish the inference stage to compare them.")
    return notes


def write_table4(study: Evidence) -> Table:
    """Write Table 4, the chosen models on Test, and the verdicts that it counts.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or it has no label; the verdicts are written then.
    """
    verdicts = verdicts_with_times(study, Part.TEST)
    study.write(build_verdict_table(verdicts))
    return study.write(build_table4(verdicts[verdicts["is_final"]].reset_index(drop=True), study.choices))
