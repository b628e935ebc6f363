"""Who labelled and how far readers agree, computed anew from labels.csv and what was said in reviews."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from analysis.evidence_pack.check.figures import are_alike, draws_of, exact_bounds, interval, slides_in, with_ends
from analysis.evidence_pack.check.findings import JUDGED_PARTS, Floats, Ints, Row
from analysis.evidence_pack.check.raw_rows import NO_LABEL, Pack, label_state, said_in

Key = tuple[str, str]
_DECIDED = ("Tumor", "Normal")
_DECISION = "decision"
_LEAST_ROOM = 1e-12


def _journals(pack: Pack) -> list[list[Row]]:
    """The steps of each journal."""
    by_journal: dict[str, list[Row]] = {}
    for step in pack.answers or []:
        by_journal.setdefault(step["journal"], []).append(step)
    return list(by_journal.values())


def _standing(steps: Sequence[Row]) -> dict[Key, Row]:
    """The answer that counts, by section: the last one that nothing has taken back."""
    void: set[str] = set()
    for step in reversed(steps):
        if step["withdraws"] and step["entry"] not in void:
            void |= set(step["withdraws"].split())
    return {_key(step): step for step in steps if step["answer"] and step["entry"] not in void}


def _key(row: Row) -> Key:
    return row["slide_id"], row["section_id"]


def readings(pack: Pack) -> dict[str, dict[Key, str]]:
    """What each reader said of each section; answers of reviews come before those in labels.csv."""
    found: dict[str, dict[Key, str]] = {}
    for label in pack.labels:
        for reader, answer in said_in(label).items():
            found.setdefault(reader, {})[_key(label)] = answer
    for steps in _journals(pack):
        for key, step in _standing(steps).items():
            if step["given_as"] != _DECISION:
                found.setdefault(step["reader"], {})[key] = step["answer"]
    return found


def reference_standard(pack: Pack) -> list[Row]:
    """The sections of each part by who labelled them."""
    part_of = {slide["slide_id"]: slide["part"] for slide in pack.slides}
    groups: dict[tuple[str, str], list[Row]] = {}
    for label in pack.labels:
        if (part := part_of.get(label["slide_id"], "")) in JUDGED_PARTS:
            reader = label["labelled_by"] or ("not named" if label["label"] else "nobody")
            groups.setdefault((part, reader), []).append(label)
    blind = _blind(pack)
    rows = []
    for (part, reader), mine in groups.items():
        states = [label_state(label) for label in mine]
        dates = sorted(label["labelled_at"] for label in mine if label["labelled_at"])
        rows.append(
            {
                "part": part,
                "labelled_by": reader,
                "num_sections": len(mine),
                **{f"num_{kind.lower()}": sum(each["label"] == kind for each in mine) for kind in _DECIDED},
                "num_unsure": states.count("unsure"),
                "num_conflict": states.count("conflict"),
                "num_unlabelled": states.count(NO_LABEL),
                "num_prefilled": sum(bool(label["prefilled"]) for label in mine),
                "num_blind": None if pack.answers is None else sum(_key(label) in blind for label in mine),
                "first_labelled_at": dates[0] if dates else "",
                "last_labelled_at": dates[-1] if dates else "",
                "phantom": pack.is_drawn,
            }
        )
    return rows


def _blind(pack: Pack) -> set[Key]:
    """The sections whose label rests on answers alone that came before the verdict was shown."""
    said: dict[Key, list[Row]] = {}
    for steps in _journals(pack):
        for key, step in _standing(steps).items():
            said.setdefault(key, []).append(step)
    blind = set()
    for label in pack.labels:
        every = said.get(_key(label), [])
        own = [step for step in every if step["given_as"] != _DECISION]
        is_split = len({step["answer"] for step in own}) > 1
        decisions = [step for step in every if step["given_as"] == _DECISION] if is_split else []
        counted = decisions or own
        answers = {step["answer"] for step in counted}
        agreed = answers.pop() if len(answers) == 1 else ""
        names = "; ".join(sorted({step["reader"] for step in counted}))
        is_this = (agreed.replace("unsure", ""), names) == (label["label"], label["labelled_by"])
        if own and is_this and all(step["was_shown"] == "no" for step in (*own, *decisions)):
            blind.add(_key(label))
    return blind


def agreement(pack: Pack) -> list[Row]:
    """Cohen's kappa of each two readers on each part."""
    said = readings(pack)
    part_of = {slide["slide_id"]: slide["part"] for slide in pack.slides}
    unseen: dict[str, set[Key]] = {}
    for steps in _journals(pack):
        unseen[steps[0]["reader"]] = {key for key, step in _standing(steps).items() if step["was_shown"] == "no"}
    rows = []
    for part in JUDGED_PARTS:
        for one, other in combinations(sorted(said), 2):
            shared = [key for key in said[one] if key in said[other] and part_of.get(key[0]) == part]
            both = [key for key in shared if {said[one][key], said[other][key]} <= set(_DECIDED)]
            if not shared:
                continue
            num_agreed = sum(said[one][key] == said[other][key] for key in both)
            is_blind = [key in unseen.get(one, ()) and key in unseen.get(other, ()) for key in both]
            rows.append(
                {
                    "part": part,
                    "one": one,
                    "other": other,
                    "num_sections": len(both),
                    "num_slides": len({slide_id for slide_id, _ in both}),
                    "num_unsure": len(shared) - len(both),
                    "num_agreed": num_agreed,
                    "num_blind": None if pack.answers is None else sum(is_blind),
                    "agreement": num_agreed / len(both) if both else math.nan,
                    **with_ends("kappa", _kappa(both, said[one], said[other])),
                    "phantom": pack.is_drawn,
                }
            )
    return rows


def _kappa(keys: Sequence[Key], one: Mapping[Key, str], other: Mapping[Key, str]) -> tuple[float, float, float]:
    """Kappa with its ends over resampled slides; NaN where it is not defined."""
    slides = slides_in({"slide_id": slide_id} for slide_id, _ in keys)
    counts = np.zeros((len(slides), 2, 2), dtype=np.int64)
    for key in keys:
        counts[slides.index(key[0]), _DECIDED.index(one[key]), _DECIDED.index(other[key])] += 1
    agreed, by_chance = _shares(counts.sum(0)[None])
    value = float(_beyond(agreed, by_chance)[0])
    if not keys or math.isnan(value):
        return math.nan, math.nan, math.nan
    samples = _beyond(*_shares(np.einsum("rs,sij->rij", draws_of(len(slides)), counts)))
    if not are_alike(samples):
        return interval(value, samples, len(slides))
    low, high = _beyond(np.array(exact_bounds(float(agreed[0]), len(slides))), by_chance)
    return value, float(low), float(high)


def _shares(counts: Ints) -> tuple[Floats, Floats]:
    """The shares that agree, and that would by chance, of counts [n, 2, 2]."""
    total = np.maximum(counts.sum((1, 2)), 1).astype(np.float64)
    by_chance = sum(counts[:, at].sum(1) * counts[:, :, at].sum(1) for at in range(2)) / total**2
    return (counts[:, 0, 0] + counts[:, 1, 1]) / total, np.asarray(by_chance)


def _beyond(agreed: Floats, by_chance: Floats) -> Floats:
    room = np.where(1 - by_chance > _LEAST_ROOM, 1 - by_chance, math.nan)
    return np.asarray((agreed - by_chance) / room)


def led(pack: Pack) -> dict[str, tuple[int, int]]:
    """Of first answers that say Tumor or Normal, how many say what the model said, and all: shown before, or not."""
    found = {"yes": (0, 0), "no": (0, 0)}
    for step in _first_answers(pack):
        if step["prediction"] in _DECIDED and step["answer"] in _DECIDED:
            num_agreed, num = found[step["was_shown"]]
            found[step["was_shown"]] = (num_agreed + (step["answer"] == step["prediction"]), num + 1)
    return found


def _first_answers(pack: Pack) -> Iterator[Row]:
    """Each reader's first answer to each section with one that counts: the first that says Tumor or Normal, if any."""
    for steps in _journals(pack):
        for key in _standing(steps):
            mine = [step for step in steps if step["answer"] and _key(step) == key]
            first = next((step for step in mine if step["answer"] in _DECIDED), mine[0])
            if first["given_as"] != _DECISION:
                yield first
