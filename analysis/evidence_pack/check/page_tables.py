"""How the page shows each table: which heading shows which columns, and how rows are named there."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from analysis.evidence_pack.check.figures import with_ends
from analysis.evidence_pack.check.findings import COUNTS, FIGURES, Row

_ENDS = ("", "_low", "_high")
_COUNTED = {name.upper(): [name] for name in COUNTS}
_SHOWN_FIGURES = {name: [f"{name}{end}" for end in _ENDS] for name in FIGURES[:3]}
_F_BETA = {"F_beta": [f"f_beta{end}" for end in _ENDS]}
_PLAIN = {
    **{name: [name] for name in FIGURES[:3]},
    "F_beta": ["f_beta"],
    "review": ["num_review"],
    "sections": ["num_sections"],
    "slides": ["num_slides"],
    **_COUNTED,
}
SHOWN: dict[str, tuple[dict[str, str], dict[str, list[str]]]] = {
    "table1": (
        {"part": "part"},
        {
            "slides": ["num_slides"],
            "with annotations": ["num_annotated"],
            "without label": ["num_unlabelled"],
            "Tumor sections": ["num_tumor"],
            "Normal sections": ["num_normal"],
        },
    ),
    "table2": ({"pool": "pool_shown"}, {"before": ["num_patches"], "after": ["num_draws"]}),
    "table3": (
        {"setting": "setting"},
        {**_PLAIN, "epoch": ["epoch"], "t_p": ["t_p"], "t_A um2": ["t_a_um2"]},
    ),
    "table4": (
        {"setting": "setting"},
        {**_PLAIN, "reading s": ["median_read_s"], "network s": ["median_network_s"]},
    ),
    "table5": (
        {"output": "psi"},
        {
            **_PLAIN,
            "changed": ["num_changed"],
            "to Tumor": ["num_to_tumor"],
            "from Tumor": ["num_to_normal"],
        },
    ),
    "intervals": (
        {"part": "part", "setting": "setting", "output": "psi"},
        {**_SHOWN_FIGURES, **_F_BETA, "sections": ["num_sections"], "slides": ["num_slides"]},
    ),
    "units": (
        {"setting": "setting", "of": "unit_shown"},
        {
            **_COUNTED,
            **_SHOWN_FIGURES,
            **_F_BETA,
            "number": ["num_units"],
            "review": ["num_review"],
            "no label": ["num_unlabelled"],
        },
    ),
    "predictive_values": (
        {"setting": "setting", "prevalence": "prevalence_shown"},
        {
            name: [f"{column}{end}" for end in _ENDS]
            for name, column in (
                *(("PPV", "ppv"), ("NPV", "npv")),
                *(("LR+", "lr_positive"), ("LR-", "lr_negative")),
            )
        },
    ),
    "subgroups": (
        {"setting": "setting", "by": "column", "group": "group"},
        {
            **_SHOWN_FIGURES,
            "sections": ["num_sections"],
            "slides": ["num_slides"],
            "p": ["p"],
            "adjusted": ["p_adjusted"],
        },
    ),
    "comparisons": (
        {"pair": "pair"},
        {
            "F difference": [f"f_beta_difference{end}" for end in _ENDS],
            "accuracy difference": ["accuracy_shown", "accuracy_difference_low", "accuracy_difference_high"],
            "p": ["p"],
            "p, adjusted": ["p_adjusted"],
            "McNemar p, adjusted": ["mcnemar_p_adjusted"],
            "McNemar p": ["mcnemar_p"],
            "first alone right": ["num_only_one_right"],
            "second alone": ["num_only_other_right"],
            "sections": ["num_sections"],
        },
    ),
    "roc": (
        {"setting": "setting"},
        {
            "ROC area": [f"roc_auc{end}" for end in _ENDS],
            "average precision": [f"average_precision{end}" for end in _ENDS],
            "Tumor": ["num_tumor"],
            "Normal": ["num_normal"],
        },
    ),
    "reliability": (
        {"setting": "setting"},
        {
            "calibration error": ["calibration_error"],
            "Brier score": ["brier_score"],
            "by Tumor's share alone": ["brier_score_of_share"],
            "intercept": [f"intercept{end}" for end in _ENDS],
            "slope": [f"slope{end}" for end in _ENDS],
            "sections": ["num_sections"],
            "slides": ["num_slides"],
        },
    ),
    "flip_shifts": (
        {"setting": "setting", "verdict": "verdict"},
        {
            "sections": ["num_sections"],
            "smallest": ["flip_shift_min"],
            "25%": ["flip_shift_q1"],
            "median": ["flip_shift_median"],
            "75%": ["flip_shift_q3"],
            "below 0.02": ["num_flip_below_0_02"],
            "below 0.05": ["num_flip_below_0_05"],
            "never": ["num_never_flip"],
        },
    ),
    "verdict_counts": (
        {"part": "part", "setting": "setting"},
        {
            "slides": ["num_slides"],
            "failed": ["num_failed"],
            "not there": ["num_not_there"],
            "no section": ["num_without_section"],
            "sections": ["num_sections"],
            "Tumor": ["num_tumor"],
            "Normal": ["num_normal"],
            "review": ["num_review"],
            "labelled": ["num_labelled"],
            "patients named": ["num_patients"],
            "unsure": ["num_unsure"],
            "in conflict": ["num_conflict"],
        },
    ),
    "slides": (
        {"slide": "slide_id", "setting": "setting"},
        {
            "sections": ["num_sections"],
            "Tumor": ["num_tumor"],
            "Normal": ["num_normal"],
            "review": ["num_review"],
            "tissue mm2": ["tissue_mm2"],
            "tissue read": ["coverage"],
            "reading s": ["read_s"],
            "network s": ["network_s"],
        },
    ),
    "section_verdicts": (
        {"slide": "slide_id", "section": "section_id", "setting": "setting"},
        {
            "label": ["label"],
            "verdict": ["verdict"],
            "area um2": ["area_um2"],
            "x t_A": ["area_factor"],
            "flip shift": ["flip_shift"],
            "reached": ["reached_by"],
            "tissue read": ["coverage"],
            "quality": ["quality_shown"],
        },
    ),
    "error_groups": (
        {"setting": "setting", "by": "kind_shown", "group": "group"},
        {
            **_COUNTED,
            "review": ["num_review"],
            "wrong": ["error_share"],
            "smallest flip shift": ["flip_shift_min"],
            "below 0.02": ["num_flip_below_0_02"],
            "below 0.05": ["num_flip_below_0_05"],
        },
    ),
    "stability": (
        {"setting": "setting"},
        {
            "F_beta": ["f_beta"],
            "t_p": ["t_p"],
            "plateau t_p": ["t_p_low", "t_p_high"],
            "t_A um2": ["t_a_um2"],
            "plateau t_A": ["t_a_um2_low", "t_a_um2_high"],
            "share of the grid": ["plateau_share"],
            "reaches the grid's edge": ["edges_shown"],
        },
    ),
    "triage": (
        {"setting": "setting", "misses promised": "miss_shown", "false alarms promised": "false_alarm_shown"},
        {
            "slides missed": ["miss_rate_test", "num_slides_missed"],
            "sections missed": ["num_missed"],
            "slides falsely called": ["false_alarm_rate_test", "num_slides_false_alarms"],
            "sections falsely called": ["num_false_alarms"],
            "review predicted": ["review_share_predicted"],
            "review on Test": ["review_share_test", "num_review"],
            "auto-normal": ["num_auto_normal"],
            "auto-tumor": ["num_auto_tumor"],
        },
    ),
    "flow": ({"step": "step_shown"}, {}),
    "reference_standard": (
        {"part": "part", "labelled by": "labelled_by"},
        {
            "sections": ["num_sections"],
            "Tumor": ["num_tumor"],
            "Normal": ["num_normal"],
            "unsure": ["num_unsure"],
            "in conflict": ["num_conflict"],
            "no label": ["num_unlabelled"],
            "pre-filled": ["num_prefilled"],
            "blind": ["num_blind"],
            "from": ["first_shown"],
            "to": ["last_shown"],
        },
    ),
    "agreement": (
        {"part": "part", "readers": "readers"},
        {
            "kappa": [f"kappa{end}" for end in _ENDS],
            "agreement": ["agreement"],
            "agreed": ["num_agreed"],
            "sections": ["num_sections"],
            "slides": ["num_slides"],
            "one unsure": ["num_unsure"],
            "both blind": ["num_blind"],
        },
    ),
    "sensitivity_analysis": (
        {"setting": "setting", "sections": "kind", "taken": "case_shown"},
        {**_SHOWN_FIGURES, **_F_BETA, "number": ["number_shown"]},
    ),
    "sample_size": (
        {"setting": "setting", "figure": "figure"},
        {
            "found": [f"value{end}" for end in _ENDS],
            "sections": ["num_sections"],
            "slides": ["num_slides"],
            "width": ["width_independent"],
            "design effect": ["design_effect"],
            "as many as": ["num_effective"],
            "width then": ["width_effective"],
            "goal": ["goal"],
            "needed": ["num_needed"],
            "needed here": ["num_needed_here"],
            "enough": ["enough_shown"],
            "goal is": ["outcome_shown"],
        },
    ),
    "decision_curve": (
        {"setting": "setting", "p": "threshold_shown"},
        {
            "acting on all": ["treat_all"],
            **{
                f"{words}{more}": [f"{name}_{what}{end}" for end in _ENDS]
                for words, name in (("by the score", "by_score"), ("verdicts as chosen", "as_chosen"))
                for more, what in (("", "net_benefit"), (": gain", "gain"))
            },
        },
    ),
    "margin_bounds": (
        {"slide": "slide_id", "section": "section_id", "setting": "setting"},
        {"margin, not below um": ["ledger_margin_um"], "largest region um2": ["area_um2"]},
    ),
    "slide_times": (
        {"setting": "setting", "part": "part"},
        {
            "slides": ["num_slides"],
            "epochs": ["num_epochs"],
            **{
                f"{words}, {which} s": [f"{name}_{which}"]
                for words, name in (("reading", "read_s"), ("network", "network_s"))
                for which in ("median", "most")
            },
        },
    ),
    "quality": (
        {"measure": "measure_shown", "setting": "setting"},
        {
            "reference slides": ["reference_shown"],
            "limits": ["limits_shown"],
            "median": ["median"],
            "5 to 95 %": ["middle_shown"],
            "measured": ["num_measured"],
            "beyond": ["num_beyond"],
        },
    ),
    "chosen_models": ({"setting": "setting"}, {"epoch": ["epoch"], "weights": ["weights_digest"]}),
    "checklists": (
        {"what is asked": "topic"},
        {
            "our STARD-AI": ["stard_ai_shown"],
            "our CLAIM": ["claim_shown"],
            "our TRIPOD+AI": ["tripod_ai_shown"],
            "here": ["state_shown"],
            "answer": ["answer"],
            "where": ["where"],
            "open": ["left_open"],
        },
    ),
    "nearest_verdicts": (
        {"slide": "slide_id", "section": "section_id", "setting": "setting"},
        {"verdict": ["verdict"], "t_p": ["t_p"], "flip shift": ["flip_shift"], "area, x t_A": ["area_factor"]},
    ),
    "reached": (
        {"part": "part", "setting": "setting", "d": "levels", "confidence": "confidence"},
        {
            **{way: [f"num_{way}"] for way in ("exact", "certified", "recomputed", "checked", "outside", "fast")},
            "sections": ["num_sections"],
            "slides compared": ["num_slides_compared"],
            "of them outside": ["num_slides_outside"],
        },
    ),
}
"""How the page shows each table: the headings that name a row, and those of its numbers with the columns behind."""
STEPS = {
    "slides": "slides of Test in slides.csv",
    "slides_failed": "of these failed",
    "slides_not_there": "of these not worked on",
    "slides_without_section": "of these without a section",
    "sections": "sections of the other slides",
    "sections_unlabelled": "of these without a label",
    "sections_unsure": "of these, readers or who decided between them are unsure",
    "sections_conflict": "of these, readers differ and nobody has decided",
    "sections_labelled": "sections with a label",
    "sections_review": "of these for review: not read whole or not assessable, and no tumor found",
    "called_tumor": "labelled sections called Tumor",
    "called_normal": "labelled sections called Normal",
    "tp": "called Tumor, labelled Tumor",
    "fp": "called Tumor, labelled Normal",
    "fn": "called Normal, labelled Tumor",
    "tn": "called Normal, labelled Normal",
}
POOLS_SHOWN = {
    "tumor_free": "T < 0.05 %",
    "tumor": "T >= 0.05 %",
    "tumor_dense": "T >= 10 %",
    "stroma": "S >= 0.05 %",
    "normal": "N >= 0.05 %",
}


def shown_rows(name: str, rows: Sequence[Row], betas: Iterable[float]) -> tuple[list[Row], dict[str, list[str]]]:
    """The computed rows as the page groups them, and which heading shows which of their columns."""
    headings = dict(SHOWN[name][1])
    if "F_beta" in headings:
        headings |= {f"F_{beta:g}": headings["F_beta"] for beta in betas}
    if name == "flow":
        headings |= {row["setting"]: [row["setting"]] for row in rows}
    return REGROUPED[name](rows) if name in REGROUPED else list(rows), headings


def _wide_intervals(rows: Sequence[Row]) -> list[Row]:
    wide: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        here = wide.setdefault((row["part"], row["setting"], row["psi"]), dict(row))
        here |= with_ends(row["figure"], (row["value"], row["low"], row["high"]))
    return list(wide.values())


def _wide_flow(rows: Sequence[Row]) -> list[Row]:
    steps: dict[str, Row] = {}
    for row in rows:
        sentence = STEPS[row["step"]]
        steps.setdefault(sentence, {"step_shown": sentence})[row["setting"]] = row["number"]
    return list(steps.values())


def _named_pools(rows: Sequence[Row]) -> list[Row]:
    named = [{**row, "pool_shown": POOLS_SHOWN.get(row["pool"], row["pool"])} for row in rows]
    last = [
        {
            "pool_shown": "tumor-free pixels per tumor pixel",
            "num_patches": row["unbalance_before"],
            "num_draws": row["unbalance_after"],
        }
        for row in rows[:1]
    ]
    return named + last


def _named_prevalences(rows: Sequence[Row]) -> list[Row]:
    own = {True: " (Test)", False: ""}
    return [{**row, "prevalence_shown": f"{row['prevalence']:.1%}{own[row['is_own']]}"} for row in rows]


def _named_pair(row: Row) -> Row:
    """Where no section is discordant the page says in how many, in place of a difference of 0."""
    is_alike = not row["num_only_one_right"] and not row["num_only_other_right"]
    shown = row["num_sections"] if is_alike else row["accuracy_difference"]
    return {**row, "pair": f"{row['one']} - {row['other']}", "accuracy_shown": shown}


def _named_item(row: Row) -> Row:
    numbers = {f"{name}_shown": row[name] or "-" for name in ("stard_ai", "claim", "tripod_ai")}
    # The page shows what is typed in letters of its own, without the marks around it.
    answer = row["answer"].replace("`", "")
    return {**row, **numbers, "answer": answer, "state_shown": row["state"].replace("answered", "yes")}


MEASURES_SHOWN = {
    "focus": "focus",
    "compression": "compression",
    "stain_density": "stain strength",
    "stain_hue": "stain hue",
    "ink_share": "ink",
    "fold_share": "folds",
    "air_share": "air",
    "feature_distance": "distance of features",
}


def _named_measure(row: Row) -> Row:
    ranges = {"reference": ("reference_low", "reference_high"), "limits": ("limit_low", "limit_high")}
    ranges["middle"] = ("q05", "q95")
    shown = {f"{name}_shown": _range(*(row[end] for end in ends)) for name, ends in ranges.items() if ends[0] in row}
    return {**row, **shown, "measure_shown": MEASURES_SHOWN[row["measure"]]}


def _quality(reasons: str | None) -> str:
    """Why a section is not assessable, without the numbers behind each reason."""
    if reasons is None:
        return "not measured"
    return "; ".join(each.partition(":")[0] for each in reasons.split("; ")) if reasons else "within limits"


def _range(low: float, high: float) -> str:
    """A range as the page writes it, which is open at an end without a limit."""
    has_low, has_high = math.isfinite(low), math.isfinite(high)
    if has_low and has_high:
        return f"{low:.2f} to {high:.2f}"
    return f"> {low:.2f}" if has_low else f"< {high:.2f}" if has_high else "none"


def _named_size(row: Row) -> Row:
    enough = {None: "n/a", True: "yes", False: "no"}[row["is_reached"]]
    return {**row, "enough_shown": enough, "outcome_shown": row["outcome"] or "n/a"}


def _named_case(row: Row) -> Row:
    is_reported = row["kind"] == "as reported"
    shown = {"case_shown": row["case"], "number_shown": str(row["num_meant"])}
    return {**row, **(dict.fromkeys(shown, "") if is_reported else shown)}


REGROUPED: dict[str, Callable[[Sequence[Row]], list[Row]]] = {
    "intervals": _wide_intervals,
    "flow": _wide_flow,
    "table2": _named_pools,
    "predictive_values": _named_prevalences,
    "comparisons": lambda rows: [_named_pair(row) for row in rows],
    "slides": lambda rows: [{**row, "tissue_mm2": row["tissue_um2"] / 1e6} for row in rows],
    "error_groups": lambda rows: [{**row, "kind_shown": row["kind"].replace("_", " ")} for row in rows],
    "stability": lambda rows: [{**row, "edges_shown": row["edges"] or "no"} for row in rows],
    "triage": lambda rows: [
        {**row, "miss_shown": f"{row['miss_rate']:.1%}", "false_alarm_shown": f"{row['false_alarm_rate']:.1%}"}
        for row in rows
    ],
    "units": lambda rows: [{**row, "unit_shown": row["unit"].replace("patient", "judged patient")} for row in rows],
    "reference_standard": lambda rows: [
        {**row, **{f"{end}_shown": row[f"{end}_labelled_at"] or "n/a" for end in ("first", "last")}} for row in rows
    ],
    "quality": lambda rows: [_named_measure(row) for row in rows],
    "checklists": lambda rows: [_named_item(row) for row in rows],
    "agreement": lambda rows: [{**row, "readers": f"{row['one']} and {row['other']}"} for row in rows],
    "sensitivity_analysis": lambda rows: [_named_case(row) for row in rows],
    "sample_size": lambda rows: [_named_size(row) for row in rows],
    "decision_curve": lambda rows: [{**row, "threshold_shown": f"{row['threshold']:.0%}"} for row in rows],
    # Where no slope fits the page says why.
    "reliability": lambda rows: [
        {**row, "slope": row["slope"] if row["slope_outcome"] == "fitted" else row["slope_outcome"]} for row in rows
    ],
    "nearest_verdicts": lambda rows: [row for row in rows if row["is_final"]],
    "section_verdicts": lambda rows: [
        {**row, "quality_shown": _quality(row.get("not_assessable"))} for row in rows if row["is_final"]
    ],
}
"""Tables whose rows the page shows in another way than the files hold them."""
