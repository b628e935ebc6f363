"""The figures with what is left out or in doubt put in, computed anew."""

from collections.abc import Collection, Iterator, Sequence

from analysis.evidence_pack.check.figures import confusion, intervals_of, slides_in, with_ends
from analysis.evidence_pack.check.findings import COUNTS, TEST, Ints, Row
from analysis.evidence_pack.check.label_tables import readings
from analysis.evidence_pack.check.raw_rows import Pack, marks
from analysis.evidence_pack.check.slide_tables import slides

_OTHER = {"Tumor": "Normal", "Normal": "Tumor"}
_KINDS = ("review", "no verdict", "dropped", "unsure", "conflict", "no label", "disputed")


def sensitivity_analysis(pack: Pack) -> list[Row]:
    """Each kind of section that is left out or in doubt, taken as right, as wrong, or out."""
    of_test = pack.of_part(TEST)
    if all(row["label"] is None for row in of_test):
        return []
    states = [row for row in slides(pack) if row["part"] == TEST]
    rows = []
    for choice, mine in pack.by_setting(TEST):
        of_slide = {row["slide_id"]: row["state"] for row in states if row["setting"] == choice["setting"]}
        doubts = [*_judged(pack, mine), *_not_judged(pack, mine, of_slide)]
        found = _cases(doubts, pack.choices[0]["beta"])
        rows += [{"setting": choice["setting"], **row, **marks(of_test)} for row in found]
    return rows


def _judged(pack: Pack, rows: Sequence[Row]) -> Iterator[Row]:
    said = readings(pack)
    for row in rows:
        key = (row["slide_id"], row["section_id"])
        kind = ""
        if row["label"] is None:
            kind = pack.why_no_label(row)
        elif row["verdict"] == "review":
            kind = "review"
        elif {mine[key] for mine in said.values() if key in mine} - {row["label"]}:
            kind = "disputed"
        yield {**{name: row[name] for name in ("slide_id", "label", "verdict")}, "kind": kind}


def _not_judged(pack: Pack, rows: Sequence[Row], of_slide: dict[str, str]) -> Iterator[Row]:
    """Sections without a verdict that labels.csv names, and one for each slide of which it names none."""
    judged = {(row["slide_id"], row["section_id"]) for row in rows}
    named = {(label["slide_id"], label["section_id"]): label for label in (*pack.labels, *pack.lost_labels)}
    known = set()
    for key, label in named.items():
        if key[0] in of_slide and key not in judged:
            known.add(key[0])
            kind = "dropped" if of_slide[key[0]] == "done" else "no verdict"
            yield {"slide_id": key[0], "label": label["label"] or None, "verdict": "", "kind": kind}
    for slide_id, state in of_slide.items():
        if state != "done" and slide_id not in known:
            yield {"slide_id": slide_id, "label": None, "verdict": "", "kind": "no verdict"}


def _cases(doubts: Sequence[Row], beta: float) -> Iterator[Row]:
    there = {row["kind"] for row in doubts}
    kinds = [kind for kind in _KINDS if kind in there]
    yield _case(doubts, "as reported", [], "left out", beta)
    for kind in kinds:
        cases = {"disputed": ["left out"], "review": ["called Tumor", "called Normal"]}.get(kind, [])
        for case in ("as if right", "as if wrong", *cases):
            yield _case(doubts, kind, [kind], case, beta)
    for case in ("as if right", "as if wrong") if len(kinds) > 1 else ():
        yield _case(doubts, "all of these", kinds, case, beta)


def _case(doubts: Sequence[Row], name: str, kinds: Collection[str], case: str, beta: float) -> Row:
    meant = [row for row in doubts if row["kind"] in kinds]
    others = [row for row in doubts if row["kind"] not in kinds and row["verdict"]]
    neither = [row for row in meant if row["label"] is None and row["verdict"] not in _OTHER]
    taken = [_taken(row, case) for row in meant if row not in neither]
    known = [*others, *(row for row in taken if row is not None)]
    # What has neither label nor verdict may be of either kind: for sensitivity Tumor, for specificity Normal.
    each_way = []
    for label in _OTHER:
        more = [_taken({**row, "label": label}, case) for row in neither]
        each_way.append(intervals_of(_counts([*known, *(row for row in more if row is not None)]), beta))
    as_tumor, as_normal = each_way
    best = max if case == "as if right" else min
    found = {
        **{figure: as_tumor[figure] for figure in ("accuracy", "sensitivity")},
        "specificity": as_normal["specificity"],
        "f_beta": best((each["f_beta"] for each in each_way), key=lambda each: each[0]),
    }
    counts = _counts(known)
    return {
        "kind": name,
        "case": case,
        "num_meant": len(meant),
        "num_neither": len(neither),
        **dict(zip(COUNTS, map(int, counts.sum(1)), strict=True)),
        **{key: value for figure, each in found.items() for key, value in with_ends(figure, each).items()},
        "num_slides": counts.shape[1],
    }


def _counts(rows: Sequence[Row]) -> Ints:
    labelled = [row for row in rows if row["label"] is not None]
    return confusion(labelled, slides_in(labelled))


def _taken(row: Row, case: str) -> Row | None:
    """A section as a case takes it: the label is in doubt where there is a verdict, else the verdict."""
    if case == "left out":
        return None
    if case.startswith("called "):
        return {**row, "verdict": case.removeprefix("called ")}
    agreed = row["verdict"] if row["verdict"] in _OTHER else row["label"]
    if case == "as if right":
        return {**row, "label": agreed, "verdict": agreed}
    doubted = "label" if row["verdict"] in _OTHER else "verdict"
    return {**row, "label": agreed, "verdict": agreed, doubted: _OTHER[agreed]}
