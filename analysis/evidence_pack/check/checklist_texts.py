"""Every number in the answers of the checklists against the value that it is taken from."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from analysis.evidence_pack.check.figures import summary
from analysis.evidence_pack.check.findings import COUNTS, LEVEL, NUM_RESAMPLES, TEST, Findings, Row
from analysis.evidence_pack.check.page_texts import Page
from analysis.evidence_pack.check.raw_rows import Pack
from analysis.evidence_pack.check.saying import shows
from analysis.evidence_pack.check.sentences import DIGITS, NUMBER_IN_RULE, Rule, Said, bound

_N = NUMBER_IN_RULE
_NAMES = re.compile(
    r"\b[um]m2\b|psi_\d|resnet34\w*|Table \d|\b(?:digest|weights|configuration|slides\.csv) [0-9a-f]{6,}"
)
"""What has digits and says nothing about the study."""
_STATES = {"failed": "num_failed", "not worked on": "num_not_there", "without a section": "num_without_section"}


def check_checklists(pack: Pack, computed: Mapping[str, list[Row]], found: Findings) -> None:
    """Each answer's numbers, and whether the state follows from it; the guidelines' item numbers are no figures."""
    rows = pack.table("checklists")
    said = Said(Page(""), pack, computed)
    said.headline = max(pack.choices, key=lambda each: -1.0 if math.isnan(_number(each)) else _number(each))["setting"]
    told, num = [], 0
    names = re.compile("|".join(map(re.escape, _people_and_scanners(pack))) or "$^")
    for row in rows:
        state = "open" if not row["answer"] else "in part" if row["left_open"] else "answered"
        if row["state"] != state:
            told.append(
                f"tables/checklists.parquet: row {row['topic']}, column state: got {row['state']}, expected {state}"
            )
        text = row["answer"]
        known = {at for each in (names, _NAMES) for match in each.finditer(text) for at in range(*match.span())}
        for token, at, value in bound(said, text, RULES):
            known |= set(range(at, at + len(token)))
            num += 1
            if not shows(token.replace(",", ""), math.nan if value is None else float(value)):
                told.append(
                    f"tables/checklists.parquet: row {row['topic']}, column answer: in {text!r}: got {token}, "
                    f"expected {float(value or 0):.6g} by the ledger"
                )
        if left := [match.group() for match in DIGITS.finditer(text) if match.start() not in known]:
            found.leave("numbers in answers of the checklists that the pack holds no value of", _why_left(row, left))
    found.fault("tables/checklists.parquet", told)
    found.done.append(f"checklists: {num} numbers in {sum(bool(row['answer']) for row in rows)} answers")


def _why_left(row: Row, left: list[str]) -> str:
    return f"{row['topic']}: {', '.join(left)} in {row['answer'][:120]!r}"


def _number(choice: Row) -> float:
    return math.nan if choice.get("f_beta") is None else float(choice["f_beta"])


def _people_and_scanners(pack: Pack) -> list[str]:
    """Names that may have digits, the longest first."""
    people = {name for label in pack.labels for name in label["labelled_by"].split("; ")}
    scanners = {slide["scanner"] for slide in pack.slides}
    return sorted((people | scanners) - {""}, key=len, reverse=True)


def _ids_of_test(said: Said) -> set[str]:
    return {slide["slide_id"] for slide in said.pack.slides if slide["part"] == TEST}


def _labelled(said: Said) -> list[Row]:
    """The rows of labels.csv of Test with a label."""
    ids = _ids_of_test(said)
    return [label for label in said.pack.labels if label["slide_id"] in ids and label["label"]]


def _named_before(match: "re.Match[str]", counts: Mapping[str, Any]) -> list[Any]:
    """The value of the name that stands before a number."""
    before = match.string[: match.start()].rstrip(" (:")
    found = [name for name in counts if before.endswith(name)]
    return [counts[max(found, key=len)] if found else ...]


def _by_reader(said: Said, match: "re.Match[str]") -> list[Any]:
    return _named_before(match, Counter(label["labelled_by"] or "not named" for label in _labelled(said)))


def _by_scanner(said: Said, match: "re.Match[str]") -> list[Any]:
    of_test = [slide for slide in said.pack.slides if slide["part"] == TEST]
    return _named_before(match, Counter(slide["scanner"] or "not named" for slide in of_test))


def _kappa(said: Said, match: "re.Match[str]") -> list[Any]:
    pairs = {f"{row['one']} and {row['other']}": row for row in said.rows("agreement", part=TEST)}
    row = _named_before(match, pairs)[0]
    names = ("kappa", "kappa_low", "kappa_high", "num_sections")
    return [...] * 4 if row is ... else [row[name] for name in names]


def _mpp(said: Said, _: "re.Match[str]") -> list[Any]:
    found = [row["mpp"] for row in said.pack.ledger if row["part"] == TEST]
    return [min(found), max(found)]


def _counts(said: Said, *names: str) -> list[Any]:
    """Values of the headline's row of the verdicts' counts."""
    return said.of("verdict_counts", *names, **said.counts)


def _sums(said: Said) -> Row:
    """Counts and figures of the headline's labelled verdicts."""
    mine = [row for row in said.pack.of_part(TEST) if row["setting"] == said.headline]
    return summary(mine, said.choice(said.headline, "beta")[0])


def _prefilled(said: Said) -> int:
    return sum(bool(label["prefilled"]) for label in _labelled(said))


def _nameless(said: Said, _: "re.Match[str]") -> list[Any]:
    patients: dict[str, set[str]] = {slide["slide_id"]: {slide["patient"]} for slide in said.pack.slides}
    for label in said.pack.labels:
        patients.setdefault(label["slide_id"], set()).add(label["patient"])
    return [sum(named <= {""} for named in patients.values())]


def _interval(said: Said, match: "re.Match[str]") -> list[Any]:
    where = {"part": TEST, "setting": said.headline, "is_final": True, "figure": match["figure"]}
    return said.of("intervals", "value", "low", "high", **where)


def _labels_of(said: Said, _: "re.Match[str]") -> list[Any]:
    kinds = [label["label"] for label in _labelled(said)]
    return [kinds.count("Tumor"), kinds.count("Normal"), *_counts(said, "num_unsure", "num_conflict")]


def _share(said: Said, _: "re.Match[str]") -> list[Any]:
    sums = _sums(said)
    num = sum(sums[name] for name in COUNTS)
    return [(sums["tp"] + sums["fn"]) / num if num else ...]


def _reached(said: Said, _: "re.Match[str]") -> list[Any]:
    sums = _sums(said)
    return [sums["tp"] + sums["fn"], sums["fp"] + sums["tn"], sums["num_slides"]]


def _internal(said: Said, _: "re.Match[str]") -> list[Any]:
    return [*said.of("selection", "accuracy", setting=said.headline), _sums(said)["accuracy"]]


_RULES: list[tuple[str, Rule]] = [
    (rf"^{_N} slides of slides\.csv", lambda s, _: [len(s.pack.slides)]),
    (rf"\({_N} sections\)", _by_reader),
    (rf"\({_N} slides of Test\)", _by_scanner),
    (rf"^{_N} sections of Test have a label; of {_N} a", lambda s, _: [len(_labelled(s)), _prefilled(s)]),
    (rf"pre-filled by a model: {_N} of {_N} labels", lambda s, _: [_prefilled(s), len(_labelled(s))]),
    (rf"^read at {_N} to {_N} um per pixel", _mpp),
    (rf"is worked on: {_N}$", lambda s, _: _counts(s, "num_slides")),
    (rf"{_N} (?P<state>failed|not worked on|without a section)", lambda s, m: _counts(s, _STATES[m["state"]])),
    (
        rf"{_N} of {_N} sections without a label",
        lambda s, _: [
            _counts(s, "num_sections")[0] - _counts(s, "num_labelled")[0],
            *_counts(s, "num_sections"),
        ],
    ),
    (rf"^(?P<s>\w+), epoch {_N}, psi", lambda s, m: s.choice(m["s"], "epoch")),
    (rf"a region of at least {_N} um2", lambda s, _: s.choice(s.headline, "t_a_um2")),
    (rf"probabilities of at least {_N}$", lambda s, _: s.choice(s.headline, "t_p")),
    (rf"; epoch {_N} chosen$", lambda s, _: s.choice(s.headline, "epoch")),
    (
        rf"(?P<part>Training|Validation I|Validation II|Test) {_N} slides, {_N} Tumor and {_N} Normal sections",
        lambda s, m: s.of("table1", "num_slides", "num_tumor", "num_normal", part=m["part"]),
    ),
    (
        rf"^Test: {_N} labelled sections, {_N} of them for review",
        lambda s, _: [_sums(s)["num_sections"], _sums(s)["num_review"]],
    ),
    (rf"but for {_N} slides that name none", _nameless),
    (rf"^t_p {_N} and t_A {_N} um2", lambda s, _: s.choice(s.headline, "t_p", "t_a_um2")),
    (rf"by F_{_N} on", lambda s, _: s.choice(s.headline, "beta")),
    (rf"^Test: {_N} Tumor, {_N} Normal, {_N} unsure and {_N} in conflict", _labels_of),
    (rf"kappa (?:{_N} \((?:{_N} to {_N}|n/a)\)|n/a), {_N} sections", _kappa),
    (rf"{_N} intervals over {_N} resampled", lambda *_: [LEVEL, NUM_RESAMPLES]),
    (rf"resampled sets of {_N} slides", lambda s, _: [_sums(s)["num_slides"]]),
    (
        rf"^{_N} sections of Test for review, {_N} unsure and {_N} in conflict",
        lambda s, _: _counts(s, "num_review", "num_unsure", "num_conflict"),
    ),
    (rf"^reached: {_N} Tumor and {_N} Normal sections with a verdict, on {_N} slides", _reached),
    (
        rf"^{_N} slides of Test, {_N} with sections, {_N} sections, {_N} of them labelled",
        lambda s, _: _counts(s, "num_slides", "num_done", "num_sections", "num_labelled"),
    ),
    (rf"^{_N} of Test's judged sections", _share),
    (rf"^{_N} TP, {_N} FN, {_N} FP, {_N} TN", lambda s, _: [_sums(s)[name] for name in COUNTS]),
    (rf"(?P<figure>accuracy|sensitivity|specificity) {_N} \({_N} to {_N}\)", _interval),
    (rf"^{_N} missed and {_N} false alarms", lambda s, _: [_sums(s)[name] for name in ("fn", "fp")]),
    (rf"^accuracy {_N} on Validation I \+ II, which chose, and {_N} on Test", _internal),
    (rf"^a ledger of {_N} rows", lambda s, _: [len(s.pack.ledger)]),
    (rf"^heatmaps of \d+ of {_N} slides of Test", lambda s, _: _counts(s, "num_slides")),
    (rf"fails by name \({_N} of Test\)", lambda s, _: _counts(s, "num_failed")),
    (rf"never Normal \({_N} for review\)", lambda s, _: _counts(s, "num_review")),
]
RULES = [(re.compile(pattern), values) for pattern, values in _RULES]
"""Pieces of answers, and the values of their numbers."""
