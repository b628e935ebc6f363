"""Every number in a sentence of the page against the value that it is taken from.

A rule finds a piece of a sentence by its words and says what its numbers have to be, by the computed tables. What no
rule finds and what is no name (Figure 4, psi_0) is named, never passed over.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from analysis.evidence_pack.check.figures import upper_bound
from analysis.evidence_pack.check.findings import (
    COUNTS,
    LEVEL,
    NUM_RESAMPLES,
    PAGE,
    SEED,
    SELECTED_ON,
    TEST,
    Findings,
    Row,
)
from analysis.evidence_pack.check.label_tables import led
from analysis.evidence_pack.check.page_tables import MEASURES_SHOWN
from analysis.evidence_pack.check.page_texts import Page
from analysis.evidence_pack.check.raw_rows import Pack
from analysis.evidence_pack.check.saying import shows
from analysis.evidence_pack.check.size_tables import stated

NUMBER_IN_RULE = r"([-+]?\d[\d,]*(?:\.\d+)?%?)"
_N = NUMBER_IN_RULE
_SHARE = r"(\d+ ?%)"
"""A number in a rule; each is one value of what the rule says."""
_DAY = r"(\d{4})-(\d\d)-(\d\d)"
_FEWEST_REFERENCE_SLIDES = 8
"""From which on a model's reference has limits of quality."""
_REASONS = (
    *("out of focus", "strongly compressed", "faintly stained", "strongly stained", "stained redder", "stained bluer"),
    *("under ink", "folded", "under air or the edge of a coverslip", "unlike the tissue that the model was chosen on"),
    "not measured",
)
"""Why a section is not assessable, as the ledger says it."""
_MEASURES = {shown: name for name, shown in MEASURES_SHOWN.items()}
"""The ledger's columns by what the page calls them; the last is in no ledger."""
DIGITS = re.compile(r"\d[\d,]*(?:\.\d+)?%?")
"""A number in a sentence."""
_NAMES = re.compile(
    r"\b[um]m2\b|psi_\d(?: to psi_\d)?|resnet34\w*"
    r"|\b(?:Table|Figure|Tables|Figures|item) \d(?: to \d)?\d?|\(section \d\.\d\)|item \d+"
    r"|STARD 2015|CLAIM 2024|\b[12]\d{3}\)|et al\. \d{4}|http://\S+|--[\w-]+ [\d.]+|\d{4}-\d\d-\d\d \d\d:\d\d UTC"
    r"|bccdist [\d.]\S*|overlays/\S+|as if 1 um per pixel|at each 1 - specificity|best are 0, and a slope of 1"
    r"|^no picture: .*|^Not made: .*|above 0 where|below 1 where"
    r"|of this pair alone, contains 0|acting on none is 0|; 0 or less within"
    r"|: 1 is the same area, 0 no overlap|: 1 is complete, 0 is chance|an area of 1 is best"
    r"|of 100 intervals made so, about 95 hold|from 10% on takes 9 false alarms|right to about 8 um"
)
"""What has digits and says nothing about the study."""


class Said:
    """What sentences are held against."""

    def __init__(self, page: Page, pack: Pack, computed: Mapping[str, list[Row]]) -> None:
        """Note the setting that the page's large numbers are of."""
        self.page, self.pack, self.computed = page, pack, computed
        settings = [cell.row["setting"] for cell in page.cells if cell.columns and "setting" in cell.row]
        self.headline = settings[0] if settings else ""
        self.title = self.tile = ""

    def rows(self, table: str, **where: Any) -> list[Row]:
        """Rows of a table: computed, or as the study wrote it where it is not computed anew."""
        rows = self.computed.get(table) or self.pack.table(table)
        return [row for row in rows if all(row.get(key) == value for key, value in where.items())]

    def of(self, table: str, *names: str, **where: Any) -> list[Any]:
        """Values of the one row, of columns that are not computed anew as the study wrote them; else nothing known."""
        computed = self.rows(table, **where)[:1]
        written = [row for row in self.pack.table(table) if all(row.get(key) == each for key, each in where.items())]
        known = {**(written[0] if written else {}), **(computed[0] if computed else {})} if computed else {}
        return [known.get(name, ...) for name in names]

    def choice(self, setting: str, *names: str) -> list[Any]:
        """Values of a setting's choice."""
        return [next((each[name] for each in self.pack.choices if each["setting"] == setting), ...) for name in names]

    def sum(self, table: str, *names: str, **where: Any) -> list[Any]:
        """Sums over some rows."""
        return [sum(row[name] for row in self.rows(table, **where)) for name in names]

    @property
    def counts(self) -> dict[str, Any]:
        """What names the headline's row of the verdicts' counts."""
        return {"part": TEST, "setting": self.headline}

    @property
    def without_patient(self) -> set[str]:
        """The slides that name no patient."""
        return {slide["slide_id"] for slide in self.pack.slides if not slide["patient"]}

    @property
    def section(self) -> Row:
        """The section whose tile the sentence stands in."""
        mine = [
            row
            for row in self.pack.of_part(TEST)
            if row["section_id"] == self.tile and row["setting"] == self.headline
        ]
        return mine[0] if len(mine) == 1 else {}


Rule = Callable[[Said, "re.Match[str]"], Sequence[Any]]
"""The values of a rule's numbers in their order; `...` where one cannot be known."""


def _readers(said: Said) -> int:
    ids = {slide["slide_id"] for slide in said.pack.slides if slide["part"] == TEST}
    names = {
        label["labelled_by"] or "not named"
        for label in said.pack.labels
        if label["slide_id"] in ids and (label["label"] or label["labelled_by"])
    }
    return len({name for each in names for name in each.split("; ")})


def _sections(said: Said) -> list[Row]:
    """The headline's sections of Test."""
    return [row for row in said.pack.of_part(TEST) if row["setting"] == said.headline]


def _reasons(said: Said) -> list[str]:
    """Why sections of Test are not assessable, of each that is not."""
    return [row["not_assessable"] for row in _sections(said) if row.get("not_assessable")]


def _not_judged(said: Said) -> int:
    """The sections of Test whose quality nobody judged."""
    return sum(row.get("not_assessable") is None for row in _sections(said))


def _not_measured(said: Said, match: "re.Match[str]") -> list[Any]:
    """The sections of a setting whose focus was not measured, and all."""
    num, measured = said.of("quality", "num_sections", "num_measured", setting=match["s"], measure="focus")
    return [... if num is ... or measured is ... else num - measured, num]


def _measured(said: Said, found: "re.Match[str]") -> list[Any]:
    """A measure of the section that the tile is of; distances of features are the table's."""
    name = _MEASURES[found["measure"]]
    if name in said.section:
        return [said.section[name]]
    values = said.of("quality", "of_section", setting=said.headline, measure=name)[0]
    known = {} if values is ... else values
    return [known.get(said.tile, ...)]


def _num_beyond(said: Said, setting: str) -> Any:
    """Sections beyond a limit of any measure."""
    beyond = [row["is_beyond"] for row in said.rows("quality", setting=setting) if "is_beyond" in row]
    return sum(any(each) for each in zip(*beyond, strict=True)) if beyond else ...


def _left_out(said: Said, _: "re.Match[str]") -> list[Any]:
    """All that is left out, and how many of them by reasons that the pack holds."""
    num, labelled = said.of("verdict_counts", "num_sections", "num_labelled", **said.counts)
    review = said.of("table4", "num_review", setting=said.headline)[0]
    return [... if ... in (num, review) else num - labelled + review]


def _day(goals: Mapping[str, Any]) -> list[Any]:
    """Year, month and day on which a goal was stated."""
    day = goals.get("stated_at", "")[:10].split("-")
    return [int(each) for each in day] if len(day) == 3 else [...] * 3


def _goal_before(said: Said, found: "re.Match[str]") -> list[Any]:
    """A goal of the history, in the order in which the sentence names them."""
    history, place = stated(said.pack).get("history", []), found.string[: found.start()].count("(stated on")
    if place >= len(history):
        return [...] * 6
    goals = history[place]
    shares = [... if goals[name] is None else goals[name] for name in ("sensitivity", "specificity")]
    return [*shares, goals["width"], *_day(goals)]


def _least_agreeing(said: Said, found: "re.Match[str]") -> list[Any]:
    """Kappa of two readers of Test with its ends, their sections, and the number of pairs."""
    names = ("kappa", "kappa_low", "kappa_high", "num_sections")
    row = said.of("agreement", *names, part=TEST, one=found["one"], other=found["other"])
    return [*row, len(said.rows("agreement", part=TEST))]


def _gallery(said: Said, found: "re.Match[str]") -> list[Any]:
    return said.of("table4", {"Normal": "fn", "Tumor": "fp"}[found["called"]], setting=found["setting"])


def _independent_p(said: Said, _: "re.Match[str]") -> list[Any]:
    table = "comparisons" if said.title.startswith("Pairs") else "subgroups"
    return [sum(not math.isnan(row["p"]) for row in said.rows(table))]


def _against(said: Said, found: "re.Match[str]") -> list[Any]:
    for row in said.rows("comparisons"):
        if {row["one"], row["other"]} == {said.headline, found["other"]}:
            sign = 1 if row["one"] == said.headline else -1
            return [sign * row["accuracy_difference"]]
    return [...]


def _discordant(said: Said, found: "re.Match[str]") -> list[Any]:
    nums = {row["num_sections"] for row in said.rows("comparisons")}
    return [_one_of(found[1], nums)]


def _few_slides(said: Said, found: "re.Match[str]") -> list[Any]:
    """How many slides the named part or setting has in any of the tables."""
    tables = (
        "intervals",
        "roc",
        "reliability",
        "decision_curve",
        "sensitivity_analysis",
        "agreement",
        "table4",
        "subgroups",
    )
    name, nums = found["name"], set()
    for table in tables:
        nums |= {row["num_slides"] for row in said.rows(table) if name in (row.get("part", TEST), row.get("setting"))}
    return [_one_of(found[2], nums)]


def _fast_rows(said: Said, found: "re.Match[str]") -> list[Any]:
    """How many rows come from a fast way, of all rows of Test, its labelled, its whole, or the headline's ones."""
    pairs = set()
    for wanted in (said.headline, *(choice["setting"] for choice in said.pack.choices), ""):
        every = [row for row in said.pack.of_part(TEST) if wanted in ("", row["setting"])]
        labelled = [row for row in every if row["label"] is not None]
        for rows in (every, labelled):
            for mine in (rows, [row for row in rows if row["coverage"] >= 1]):
                pairs.add((sum(row["reached_by"] in _FAST for row in mine), len(mine)))
    on_page = (int(found[1].replace(",", "")), int(found[2].replace(",", "")))
    return list(on_page if on_page in pairs else min(pairs))


def _one_of(token: str, nums: Iterable[Any]) -> Any:
    """The number itself where it is one of these, else one of these."""
    kept = sorted(set(nums))
    now = float(token.replace(",", "").rstrip("%"))
    return ... if not kept else next((each for each in kept if float(each) == now), kept[0])


def _needed(said: Said, found: "re.Match[str]") -> list[Any]:
    rates = [row[name] for row in said.rows("triage") for name in ("miss_rate", "false_alarm_rate")]
    asked = float(found[1].rstrip("%")) / 100
    rate = min(rates, key=lambda each: abs(each - asked), default=asked)
    return [rate, math.ceil(math.log(1 - LEVEL + 1e-12) / math.log1p(-rate))]


def _too_few(said: Said, found: "re.Match[str]") -> list[Any]:
    kind = found["kind"].lower()
    return [min((row[f"num_calibration_{kind}_slides"] for row in said.rows("triage")), default=...)]


def _smallest(said: Said, found: "re.Match[str]") -> list[Any]:
    kind = "tumor" if "with Tumor sections are" in found.string else "normal"
    nums = [row[f"num_calibration_{kind}_slides"] for row in said.rows("triage")]
    return [max((upper_bound(0, num, 1 - LEVEL) for num in nums), default=...)]


def _states(said: Said, _: "re.Match[str]") -> list[Any]:
    states = [row["state"] for row in said.rows("checklists")]
    return [len(states), *(states.count(each) for each in ("answered", "in part", "open"))] if states else [...] * 4


def _certified(said: Said, _: "re.Match[str]") -> list[Any]:
    sums = said.sum("reached", "num_certified", "num_sections", setting=said.headline)
    return [*sums, max(row["confidence"] or 0.0 for row in said.rows("reached", setting=said.headline))]


def _patches(said: Said, _: "re.Match[str]") -> list[Any]:
    nums = [row["num_patches"] for row in said.rows("table2") if row["pool"] in ("tumor_free", "tumor")]
    return [sum(nums) if nums else ...]


def _nearest(said: Said, found: "re.Match[str]") -> list[Any]:
    names = ("flip_shift_min", "num_flip_below_0_02", "num_flip_below_0_05")
    least, *nums = said.of("flip_shifts", *names, setting=found["s"], verdict="all")
    return [least, nums[0], 0.02, nums[1], 0.05]


def _without_label(said: Said, _: "re.Match[str]") -> list[Any]:
    """Of the sections that were read whole."""
    by_setting = said.pack.by_setting(TEST)
    nums = [sum(row["label"] is None and row["coverage"] >= 1 for row in mine) for _, mine in by_setting]
    return [max(nums, default=...)]


def _not_whole(said: Said, _: "re.Match[str]") -> list[Any]:
    by_setting = said.pack.by_setting(TEST)
    nums = [sum(row["label"] is not None and row["coverage"] < 1 for row in mine) for _, mine in by_setting]
    return [max(nums, default=...)]


def _unlabelled(said: Said, _: "re.Match[str]") -> list[Any]:
    table = "table5" if said.title.startswith("Table 5") else "table4"
    return [max((row["num_unlabelled"] for row in said.rows(table)), default=...)]


def _labelled_in(said: Said, found: "re.Match[str]") -> list[Any]:
    """Sections of a part without a label (or with one) and all of them, each once."""
    parts = SELECTED_ON if found["part"].endswith("+ II") else (found["part"],)
    every = {(row["slide_id"], row["section_id"]): row["label"] for row in said.pack.of_part(*parts, final_only=False)}
    num = sum((label is None) == ("have no label" in found[0]) for label in every.values())
    return [num, len(every)]


def _whole(said: Said, found: "re.Match[str]") -> list[Any]:
    """Sections that were read whole, and how many of them have which label."""
    parts = SELECTED_ON if found["part"].endswith("+ II") else (found["part"],)
    whole = [row for row in said.pack.of_part(*parts) if row["coverage"] >= 1]
    labels = [*{(row["slide_id"], row["section_id"]): row["label"] for row in whole}.values()]
    return [len(labels), labels.count("Tumor"), labels.count("Normal")]


def _edge(said: Said, found: "re.Match[str]") -> list[Any]:
    edges = said.of("stability", "edges", setting=said.headline)[0]
    mine = [] if edges is ... else [each.split()[1] for each in edges.split(", ") if each.startswith(found["name"])]
    return [_one_of(found[2], map(float, mine))]


def _failed(said: Said, _: "re.Match[str]") -> list[Any]:
    """The rows of the table that names them."""
    columns = [cell.column for cell in said.page.cells if " / Failed, and not in the results." in cell.place]
    return [max(map(columns.count, columns), default=...)]


def _no_label_said(said: Said, _: "re.Match[str]") -> list[Any]:
    names = ("num_sections", "num_labelled", "num_unsure", "num_conflict")
    nums = said.of("verdict_counts", *names, **said.counts)
    return [... if ... in nums else nums[0] - sum(nums[1:])]


def _fast_of_output(said: Said, found: "re.Match[str]") -> list[Any]:
    mine = said.rows("section_verdicts", setting=found["s"], psi=found["psi"])
    return [sum(row["reached_by"] in _FAST for row in mine)]


def _slides_without(said: Said, found: "re.Match[str]") -> list[Any]:
    return said.of("verdict_counts", _WITHOUT[found["state"]], **said.counts)


def _share_of_sections(said: Said, found: "re.Match[str]") -> list[Any]:
    name = f"num_{found['verdict'].split()[-1].lower()}"
    num, total = said.of("verdict_counts", name, "num_sections", **said.counts)
    return [num, ... if ... in (num, total) else num / total]


_OF_KIND = {"Tumor": ("tp", "fn"), "Normal": ("fp", "tn")}
_FAST = ("certified", "fast")
_WITHOUT = {"failed": "num_failed", "not there": "num_not_there", "without a section": "num_without_section"}
_REACHED = (
    "num_sections",
    "num_certified",
    "levels",
    "confidence",
    "num_slides_calibrated",
    "num_recomputed",
    "num_checked",
    "num_outside",
)
_RULES: list[tuple[str, Rule]] = [
    (
        rf"(?P<s>\w+) \(epoch {_N}\) sees a connected region of at least {_N} um2",
        lambda s, m: s.choice(m["s"], "epoch", "t_a_um2"),
    ),
    (rf"probability of at least {_N} \(t_p\)", lambda s, _: s.choice(s.headline, "t_p")),
    (rf"F_{_N}", lambda s, _: [s.pack.choices[0]["beta"]]),
    (rf"of beta {_N}", lambda s, _: [s.pack.choices[0]["beta"]]),
    (rf"weighs {_N} times", lambda s, _: [s.pack.choices[0]["beta"] ** 2]),
    (rf"^{_N} of {_N} verdicts are certified: .*\(confidence {_N} per slide\)", _certified),
    (
        rf"{_N} of {_N} verdicts come from a fast way",
        lambda s, _: s.sum("reached", "num_fast", "num_sections", setting=s.headline),
    ),
    (
        rf"{_N} of {_N} sections of Test have a label",
        lambda s, _: s.of("verdict_counts", "num_labelled", "num_sections", **s.counts),
    ),
    (
        rf"have a label: {_N} TP, {_N} FN, {_N} FP, {_N} TN, {_N} for review",
        lambda s, _: s.of("table4", *COUNTS, "num_review", setting=s.headline),
    ),
    (
        rf"has a label \({_N} of {_N}\)",
        lambda s, _: s.of("verdict_counts", "num_labelled", "num_sections", **s.counts),
    ),
    (
        (rf"what the model said: {_N} of {_N} where its verdict was shown before, {_N} of {_N} where it was not"),
        lambda s, _: [*led(s.pack)["yes"], *led(s.pack)["no"]],
    ),
    (
        (
            rf"^(?:{_N}|n/a) kappa of (?P<one>.+?) and (?P<other>.+?) (?:{_N} to {_N}|n/a|not defined), {_N} sections"
            rf"(?:; the least of {_N} pairs)?$"
        ),
        _least_agreeing,
    ),
    (
        rf"^Goal, stated on {_DAY}: an interval no wider than {_N}",
        lambda s, _: [*_day(stated(s.pack)), stated(s.pack).get("width", ...)],
    ),
    (rf"(?:sensitivity {_N}, )?(?:specificity {_N}, )?width {_N} \(stated on {_DAY}\)", _goal_before),
    (rf"are of {_N} reader\(s\)", lambda s, _: [_readers(s)]),
    (
        rf"its (?P<figure>\w+) on Validation I \+ II is {_N}",
        lambda s, m: s.of("selection", m["figure"], setting=s.headline),
    ),
    (
        rf"rests on {_N} (?P<kind>Tumor|Normal) sections of Validation",
        lambda s, m: [sum(s.sum("selection", *_OF_KIND[m["kind"]], setting=s.headline))],
    ),
    (rf"(?:of the grid \(|, )(?P<name>t_p|t_A) {_N}(?=[,)].*beyond it nothing was tried)", _edge),
    (rf"^Failed and not in the results: {_N} ", _failed),
    (
        rf"of {_N} sections of (?P<part>Test|Validation I \+ II) that were read whole {_N} Tumor and {_N} Normal ones",
        _whole,
    ),
    (rf"Against (?P<other>\w+): {_N} of accuracy", _against),
    (rf"no discordant section in {_N}", _discordant),
    (rf"Different patches: {_N}, those of the first two pools", _patches),
    (rf"(?P<s>\w+): best in epoch {_N} with {_N}", lambda s, m: _best_epoch(s, m["s"])),
    (rf"at most {_N} below", lambda *_: [0.005]),
    (
        rf"changing, (?P<s>\w+): section .* of {_N}; of all verdicts {_N} by less than {_N}, {_N} by less than {_N}",
        _nearest,
    ),
    (
        rf"^Judged patients \({_N}\): .* patients named \({_N}\) are all",
        lambda s, _: [
            max((row["num_units"] for row in s.rows("units", unit="patient")), default=...),
            *s.of("verdict_counts", "num_patients", **s.counts),
        ],
    ),
    (
        rf"{_N} slide\(s\) name no patient",
        lambda s, _: [len({row["slide_id"] for row in s.pack.of_part(TEST)} & s.without_patient)],
    ),
    (rf"fewer than {_N} slides", lambda *_: [20]),
    (rf"(?:slides: |, )(?P<name>Test|Validation I \+ II|Validation I|Validation II|\w+) {_N}(?=[,.])", _few_slides),
    (rf"{_N} (?:resamples|resampled)", lambda *_: [NUM_RESAMPLES]),
    (rf"\bseed {_N}", lambda *_: [SEED]),
    (rf"{_SHARE} (?:intervals?|bands)", lambda *_: [LEVEL]),
    (rf"adjusted for the {_N} comparison\(s\)", _independent_p),
    (rf"one value or more than {_N}:", lambda *_: [12]),
    (rf"{_N} verdicts of (?P<s>\w+) (?P<psi>psi_\d) come from a fast way", _fast_of_output),
    (rf"Of {_N} of {_N} rows areas", _fast_rows),
    (
        rf"^The {_N} verdicts of (?P<s>\w+) that",
        lambda s, m: [sum(row["setting"] == m["s"] for row in s.pack.table("nearest_verdicts"))],
    ),
    (rf"(?:of (?P<s>\w+) on Test )\(t_p {_N}, t_A {_N} um2", lambda s, m: s.choice(m["s"], "t_p", "t_a_um2")),
    (rf"called (?P<called>Tumor|Normal): {_N}, by (?P<setting>\w+)", _gallery),
    (
        rf"Tumor up to t_p {_N}; chosen {_N}",
        lambda s, _: [s.section.get("tumor_until", ...), *s.choice(s.headline, "t_p")],
    ),
    (rf"^flip shift {_N}$", lambda s, _: [s.section.get("flip_shift", ...)]),
    (
        rf"largest region {_N} um2; t_A {_N}",
        lambda s, _: [s.section.get("area_um2", ...), *s.choice(s.headline, "t_a_um2")],
    ),
    (
        rf"^{_N} Tumor, {_N} Normal, {_N} review$",
        lambda s, _: s.of("slides", "num_tumor", "num_normal", "num_review", slide_id=s.tile, setting=s.headline),
    ),
    (rf"Slides: the {_N} of each setting", lambda *_: [10]),
    (rf"over {_N} bins", lambda *_: [10]),
    (rf"promised with a confidence of {_N}", lambda s, _: [*{r["confidence"] for r in s.rows("triage")}] or [...]),
    (rf"where {_N} slides with (?P<kind>Tumor|Normal) sections are too few", _too_few),
    (rf"{_N} takes {_N}", _needed),
    (rf"smallest that they can make is {_N}", _smallest),
    (rf"not read whole are left out: {_N}", _not_whole),
    (rf"without a label are left out: {_N}", _unlabelled),
    (
        rf"^(?P<part>Test|Validation I|Validation II|Validation I \+ II): {_N} of {_N} sections have no label",
        _labelled_in,
    ),
    (rf"needs labels: {_N} of {_N} sections of (?P<part>Test|Validation I \+ II) have one", _labelled_in),
    (
        rf"sections.csv says nothing of: {_N};",
        lambda s, _: [sum(row["num_slides_without_sections"] for row in s.rows("table1"))],
    ),
    (
        rf"^Up to {_N} sections have neither",
        lambda s, _: [max((row["num_neither"] for row in s.rows("sensitivity_analysis")), default=...)],
    ),
    (rf"Groups count all sections of Test; {_N} of them have no label", _without_label),
    (
        rf"labels of {_N} of the conformal set",
        lambda s, _: [max((r["prefilled_share"] for r in s.rows("triage")), default=...)],
    ),
    (
        (
            rf"^(?P<s>\w+): of {_N} sections {_N} verdicts are certified \(d = {_N}, confidence {_N} per slide, {_N} "
            rf"calibrated slides\), {_N} were recomputed, {_N} checked, and {_N} recomputed"
        ),
        lambda s, m: s.of("reached", *_REACHED, setting=m["s"]),
    ),
    (
        rf"Sections of {_N} slides were computed in both ways; {_N} slides lay outside",
        lambda s, _: s.of("reached", "num_slides_compared", "num_slides_outside", setting=s.headline),
    ),
    (rf"Of {_N} items {_N} answered, {_N} in part, {_N} open", _states),
    (rf"for the authors to answer \({_N}\)", lambda s, m: _states(s, m)[-1:]),
    (
        rf"^{_N} slide\(s\) of Test not in the results",
        lambda s, _: s.of("verdict_counts", "num_not_there", **s.counts),
    ),
    (
        rf"^{_N} slide\(s\) of Test without a section",
        lambda s, _: s.of("verdict_counts", "num_without_section", **s.counts),
    ),
    (
        rf"^{_N} sections {_N} not read whole",
        lambda s, _: s.of("verdict_counts", "num_sections", "num_unread", **s.counts),
    ),
    (
        rf"the model's reference has quality of {_N} slide\(s\), and {_N} are needed",
        lambda s, _: [*s.of("quality", "num_reference_slides", setting=s.headline), _FEWEST_REFERENCE_SLIDES],
    ),
    (rf"^The quality of {_N} of {_N} sections was not measured", lambda s, _: [_not_judged(s), len(_sections(s))]),
    (rf"^Not assessable: {_N} of {_N} sections", lambda s, _: [len(_reasons(s)), len(_sections(s))]),
    (
        rf"(?P<reason>{'|'.join(_REASONS)}) {_N}(?=[,)])",
        lambda s, m: [sum(m["reason"] in each for each in _reasons(s))],
    ),
    (
        rf"^(?P<measure>{'|'.join(_MEASURES)}) {_N}(?:, beyond the limit)?$",
        _measured,
    ),
    (rf"{_N} of {_N} sections, by (?P<s>\w+)", _not_measured),
    (
        rf"Not assessable by (?P<s>\w+): {_N} of {_N} sections",
        lambda s, m: s.of("quality", "num_not_assessable", "num_sections", setting=m["s"]),
    ),
    (
        rf"Beyond a limit by (?P<s>\w+): {_N} of {_N} sections",
        lambda s, m: [_num_beyond(s, m["s"]), *s.of("quality", "num_sections", setting=m["s"])],
    ),
    (rf"^{_N} sections left out", _left_out),
    (rf"^{_N} patients named", lambda s, _: s.of("verdict_counts", "num_patients", **s.counts)),
    (rf"{_N} slide\(s\) name none", lambda s, _: s.of("verdict_counts", "num_slides_without_patient", **s.counts)),
    (rf"\b{_N} without a label\b", _no_label_said),
    (rf"\b{_N} unsure\b", lambda s, _: s.of("verdict_counts", "num_unsure", **s.counts)),
    (rf"\b{_N} in conflict\b", lambda s, _: s.of("verdict_counts", "num_conflict", **s.counts)),
    (rf"{_N} labelled, but for review", lambda s, _: s.of("table4", "num_review", setting=s.headline)),
    (rf"^{_N} slides of Test", lambda s, _: s.of("verdict_counts", "num_slides", **s.counts)),
    (rf"{_N} (?P<state>failed|not there|without a section)\b", _slides_without),
    (rf"^{_N} (?P<verdict>called Tumor|called Normal|review) {_N} of the sections", _share_of_sections),
]
"""Pieces of sentences, and the values of their numbers."""
RULES = [(re.compile(pattern), values) for pattern, values in _RULES]


def _best_epoch(said: Said, setting: str) -> list[Any]:
    known = [
        row for row in said.rows("learning_curves") if row.get(setting) is not None and not math.isnan(row[setting])
    ]
    best = max(known, key=lambda row: (row[setting], -row["epoch"]), default=None)
    return [best["epoch"], best[setting]] if best else [..., ...]


def check_sentences(
    page: Page,
    pack: Pack,
    computed: Mapping[str, list[Row]],
    found: Findings,
    *,
    seen: set[tuple[str, str]],
) -> None:
    """Every number in a sentence; those that nothing is known of are named.

    Args:
        page: the report.
        pack: what it rests on.
        computed: the tables that were computed anew.
        found: takes what is wrong and what was not looked at.
        seen: texts that were compared as cells; those of sentences are added.
    """
    said = Said(page, pack, computed)
    ids = {row[name] for row in (*pack.ledger, *pack.slides) for name in ("slide_id", "section_id") if row.get(name)}
    ids |= {text.removeprefix("bccdist: ") for _, text in page.texts[:1]}
    ids |= {name for label in pack.labels for name in label["labelled_by"].split("; ") if name}
    names = re.compile("|".join(map(re.escape, sorted(ids, key=len, reverse=True))) or "$^")
    told, num = [], 0
    for place, text in page.texts:
        if "/ row " in place or text.startswith("sha256 ") or not DIGITS.search(text) or (place, text) in seen:
            continue
        said.title = [*place.split(" / "), ""][1]
        said.tile = place.rsplit(" / tile ", 1)[-1]
        known = {at for pattern in (names, _NAMES) for match in pattern.finditer(text) for at in range(*match.span())}
        for token, at, value in bound(said, text, RULES):
            known |= set(range(at, at + len(token)))
            num += 1
            if not shows(token.replace(",", "").replace(" ", ""), math.nan if value is None else float(value)):
                told.append(
                    f"{PAGE}: {place}: in {text!r}: got {token}, expected {float(value or 0):.6g} by the ledger"
                )
        if left := [match.group() for match in DIGITS.finditer(text) if match.start() not in known]:
            found.leave(
                "numbers in sentences that no value is known of", f"{place}: {', '.join(left)} in {text[:160]!r}"
            )
        seen.add((place, text))
    found.fault(f"{PAGE}: sentences against the ledger", told)
    found.done.append(f"{num} numbers in sentences of the page")


def bound(said: Said, text: str, rules: Sequence[tuple["re.Pattern[str]", Rule]]) -> Iterator[tuple[str, int, Any]]:
    """Each number of a sentence that a rule knows, where it stands, and its value."""
    for pattern, values in rules:
        named = set(pattern.groupindex.values())
        for match in pattern.finditer(text):
            places = [number for number in range(1, pattern.groups + 1) if number not in named]
            for number, value in zip(places, values(said, match), strict=True):
                if value is not ... and match[number] is not None:
                    yield match[number], match.start(number), value
