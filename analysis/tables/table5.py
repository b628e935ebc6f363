"""Table 5, each decoder block as the output (paper, section 3.1): `python analysis/make.py table5 STUDY`.

Every block is judged at the thresholds that were chosen for the final output, on the Test part. The accuracies
are cut after four digits, as the paper's are; the other figures are rounded. What a patch takes up to each block is
known where it was measured (`jobs/launch_calibrate.py`). The single blocks of the linear merge are no
segmentations (they are for looking at), so the default is the deeply supervised setting alone.
"""

from collections.abc import Mapping

import pandas as pd
import pyarrow as pa

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table, cut, rounded
from analysis.study_evidence.verdict_table import (
    missing_outputs_notes,
    needs_labels,
    no_rows,
    summarise,
    unlabelled_notes,
)
from bccdist.configuration import Setting
from bccdist.errors import LedgerError
from bccdist.parts import Part
from bccdist.paths import RunPaths
from bccdist.sections.choices import Choice, choose_headline
from bccdist.sections.section_rows import rows_of
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.sections.verdicts import Verdict
from bccdist.speedups.record import MeasuredOutput, read_speedups

DEFAULT_SETTING: Setting = "resnet34_ds"
"""The only setting whose loss makes each block a segmentation."""
_SECTION = ["slide_id", "section_id"]


def build_table5(ledger_rows: pa.Table, choice: Choice, costs: Mapping[str, MeasuredOutput]) -> Table:
    """The table of one chosen model.

    Args:
        ledger_rows: the section ledger.
        choice: the model and the thresholds.
        costs: what the speed-up record says of each output; empty without one.

    Raises:
        LedgerError: Test was not inferred with it, or an output misses sections.
    """
    verdicts = section_verdicts(rows_of(ledger_rows, [Part.TEST], final_only=False), choice)
    if verdicts.empty:
        raise no_rows([Part.TEST], [choice])
    final = verdicts[verdicts["is_final"]].set_index(_SECTION)["verdict"]
    frame = pd.DataFrame([_block_row(block, final, choice) for _, block in verdicts.groupby("psi")])
    frame["patch_s"] = [costs[psi].patch_s if psi in costs else None for psi in frame["psi"]]
    return Table(
        name="table5" if choice.setting == DEFAULT_SETTING else f"table5_{choice.setting}",
        schema="table5",
        title=f"Table 5. Each decoder block of {choice.setting} on Test (t_p {choice.t_p:.2f}, "
        f"t_A {choice.t_a_um2:.0f} um2; accuracy cut, not rounded).",
        frame=frame,
        printed=_printed(frame, choice.beta),
        notes=_notes(verdicts, frame),
    )


def _block_row(block: pd.DataFrame, final: pd.Series, choice: Choice) -> dict[str, object]:
    verdict = block.set_index(_SECTION)["verdict"]
    if set(verdict.index) != set(final.index):
        raise LedgerError(
            f"{choice.setting}, epoch {choice.epoch}: {block['psi'].iloc[0]} has {len(verdict)} Test sections and the "
            f"final output {len(final)}; the ledger was mixed: run the inference stage again"
        )
    others = final.reindex(verdict.index)
    is_tumor, was_tumor = verdict == Verdict.TUMOR.value, others == Verdict.TUMOR.value
    return {
        "setting": choice.setting,
        "psi": block["psi"].iloc[0],
        "is_final": bool(block["is_final"].iloc[0]),
        **summarise(block, choice.beta),
        "num_changed": int((verdict != others).sum()),
        "num_to_tumor": int((is_tumor & ~was_tumor).sum()),
        "num_to_normal": int((~is_tumor & was_tumor).sum()),
    }


def _notes(verdicts: pd.DataFrame, frame: pd.DataFrame) -> tuple[str, ...]:
    missing = missing_outputs_notes(verdicts)
    if frame["num_sections"].any():
        return (*missing, *unlabelled_notes(frame))
    return (*missing, f"Without its columns of right and wrong: {needs_labels(verdicts, [Part.TEST])}.")


def _printed(frame: pd.DataFrame, beta: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "output": frame["psi"],
            **(_figure_columns(frame, beta) if frame["num_sections"].any() else {}),
            "changed": frame["num_changed"].astype(str),
            "to Tumor": frame["num_to_tumor"].astype(str),
            "from Tumor": frame["num_to_normal"].astype(str),
            **_time_columns(frame["patch_s"]),
        }
    )


def _figure_columns(frame: pd.DataFrame, beta: float) -> dict[str, object]:
    """What is known by labels."""
    return {
        "accuracy": cut(frame["accuracy"], 4),
        "sensitivity": rounded(frame["sensitivity"], 3),
        "specificity": rounded(frame["specificity"], 3),
        f"F_{beta:g}": rounded(frame["f_beta"], 3),
        "FN": frame["fn"].astype(str),
        "FP": frame["fp"].astype(str),
        "review": frame["num_review"].astype(str),
    }


def _time_columns(patch_s: pd.Series) -> dict[str, list[str]]:
    """Columns of time, none without a speed-up record; the last output is the whole network."""
    if patch_s.isna().any():
        return {}
    return {
        "ms a patch": rounded(1000 * patch_s, 0),
        "of the whole": [f"{share:.0%}" for share in patch_s / patch_s.iloc[-1]],
    }


def measured_outputs(run_paths: RunPaths, choice: Choice) -> dict[str, MeasuredOutput]:
    """Read what each output of the chosen weights takes, by the speed-up record of a GPU, or of the CPU; else nothing.

    Raises:
        ConfigurationError: the record is there, and of other weights or another version.
    """
    records = [
        read_speedups(path, weights_digest=choice.weights_digest) for path in run_paths.all_speedups(choice.epoch)
    ]
    first = min(records, key=lambda record: record.machine.device_type != "cuda", default=None)
    return {each.psi: each for each in first.outputs} if first else {}


def write_table5(study: Evidence, setting: Setting | None = None) -> Table:
    """Write Table 5: each decoder block as the output, on Test.

    Args:
        study: The study's folder.
        setting: The setting whose outputs are compared: default is resnet34_ds, whose loss reaches every block.

    Raises:
        LedgerError: nothing was selected for the setting, or Test was not inferred.
    """
    choice = choose_headline(study.selection, setting, among=[DEFAULT_SETTING])
    return study.write(build_table5(study.ledger, choice, measured_outputs(study.paths.run(choice.setting), choice)))
