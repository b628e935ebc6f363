"""Every number of the page against the one that is computed anew."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from analysis.evidence_pack.check.figures import with_ends
from analysis.evidence_pack.check.findings import COUNTS, FIGURES, PAGE, Findings, Row
from analysis.evidence_pack.check.page_texts import Cell, Page
from analysis.evidence_pack.check.raw_rows import Pack
from analysis.evidence_pack.check.sentences import check_sentences

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
        {"setting": "setting", "of": "unit"},
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
            "adjusted": ["p_adjusted"],
            "adjusted (2)": ["mcnemar_p_adjusted"],
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
FLOOR_SHOWN = {("table5", "accuracy"), ("slides", "tissue read"), ("section_verdicts", "tissue read")}
"""What the page cuts instead of rounding."""
NUMBER = re.compile(r"<?\s*(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?|\bn/a\b|\bnever\b|\binf\b|\bunlabelled\b")
WORDS = {"n/a": math.nan, "never": math.inf, "inf": math.inf, "unlabelled": 0.0}
_WITH_ENDS = 3
"""A figure is followed by its two ends, or by nothing where they are not known."""


def says(text: str, values: Sequence[Any], *, is_cut: bool = False) -> bool:
    """Whether a text shows these values, rounded to the digits that it has."""
    if any(isinstance(each, str) for each in values):
        return text == str(values[0])
    if values == [None] and text == "none":
        return True
    tokens = [token.group().replace(",", "").replace(" ", "") for token in NUMBER.finditer(text)]
    if len(tokens) < len(values) <= _WITH_ENDS and any(math.isnan(_float(each)) for each in values):
        values = values[: len(tokens)]
    return len(tokens) >= len(values) > 0 and all(
        _shows(token, _float(value), is_cut=is_cut) for token, value in zip(tokens, values, strict=False)
    )


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _shows(token: str, value: float, *, is_cut: bool) -> bool:
    if token in WORDS:
        return WORDS[token] == value or (math.isnan(WORDS[token]) and math.isnan(value))
    is_below, token = token.startswith("<"), token.lstrip("<")
    scale, digits = (100, token.rstrip("%")) if token.endswith("%") else (1, token)
    unit = 10.0 ** -len(digits.partition(".")[2]) if "e" not in digits else abs(float(digits)) * 1e-2
    if is_below:
        return value * scale < float(digits)
    return abs(float(digits) - value * scale) <= unit * (1 if is_cut else 0.5) + 1e-9 * max(1.0, abs(value * scale))


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
    "section_verdicts": lambda rows: [row for row in rows if row["is_final"]],
}
"""Tables whose rows the page shows in another way than the files hold them."""


def check_page_numbers(page: Page, pack: Pack, computed: Mapping[str, list[Row]], found: Findings) -> None:
    """Every number of the page that a computed table gives; all others are named."""
    shown = {name: ShownTable(name, computed[name], pack) for name in computed if name in SHOWN}
    told: list[str] = []
    num = 0
    seen = set()
    for cell in page.cells:
        if cell.columns:
            rows = computed.get(cell.table, [])
            row = next((each for each in rows if all(each.get(key) == cell.row[key] for key in cell.row)), None)
            columns = [*cell.columns]
        elif cell.table in shown:
            if cell.column in SHOWN[cell.table][0]:
                seen.add((cell.place, cell.text))
                continue
            row, columns = shown[cell.table].behind(cell)
        else:
            continue
        if not columns:
            continue
        seen.add((cell.place, cell.text))
        if row is None:
            told.append(f"{PAGE}: {cell.place}: {cell.text!r} is in a row that does not follow from the ledger")
            continue
        values = [row.get(name) for name in columns]
        num += len(values)
        if cell.columns and len(NUMBER.findall(cell.text)) <= len(values):
            seen.add((cell.place.removesuffix(f" / {cell.text}"), cell.text))
        if not says(cell.text, values, is_cut=(cell.table, cell.column) in FLOOR_SHOWN):
            told.append(f"{PAGE}: {cell.place}: got {cell.text!r}, expected {_told(values)} by the ledger")
    found.fault(f"{PAGE} against the ledger", told)
    found.done.append(f"{num} numbers of the page by the ledger")
    check_sentences(
        page, pack, computed, found, shows=lambda token, value: _shows(token, value, is_cut=False), seen=seen
    )
    _name_the_rest(page, seen, found)


class ShownTable:
    """A computed table as the page shows it: its rows by the texts that name them."""

    def __init__(self, name: str, rows: Sequence[Row], pack: Pack) -> None:
        """Index the rows."""
        self.keys = SHOWN[name][0]
        grouped, self.headings = shown_rows(name, rows, {choice["beta"] for choice in pack.choices})
        self.rows = {tuple(_name_on_page(row.get(each)) for each in self.keys.values()): row for row in grouped}

    def behind(self, cell: Cell) -> tuple[Row | None, list[str]]:
        """The row and the columns that a cell shows; no column where its heading is not known."""
        key = tuple(cell.row.get(heading, "") for heading in self.keys)
        return self.rows.get(key), self.headings.get(cell.column, [])


def _name_on_page(value: Any) -> str:
    return "n/a" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _told(values: Sequence[Any]) -> str:
    return " ".join(f"{each:.6g}" if isinstance(each, float) else str(each) for each in values)


def _name_the_rest(page: Page, seen: set[tuple[str, str]], found: Findings) -> None:
    """Count, by their place on the page, the texts with numbers that nothing above has computed."""
    rest: dict[str, list[str]] = {}
    for place, text in page.texts:
        part, *inner = place.split(" / ")
        column = next((each for each in inner if each.startswith("column ")), "")
        is_heading = column == f"column {text}"
        if re.search(r"\d", text) and (place, text) not in seen and not text.startswith("sha256 ") and not is_heading:
            rest.setdefault(" / ".join([part, *inner[:1]]), []).append(column.removeprefix("column "))
    for where, columns in rest.items():
        named = ", ".join(dict.fromkeys(filter(None, columns)))
        found.leave("texts of the page", f"{where} ({len(columns)}{': ' + named if named else ''})")
