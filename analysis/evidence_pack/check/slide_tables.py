"""What became of slides and how verdicts were reached, computed anew."""

import math
from collections.abc import Sequence

import numpy as np

from analysis.evidence_pack.check.figures import confusion, slides_in, upper_bound
from analysis.evidence_pack.check.findings import JUDGED_PARTS, TEST, Row
from analysis.evidence_pack.check.raw_rows import Pack, marks


def slides(pack: Pack) -> list[Row]:
    """What became of each slide under each choice."""
    rows = []
    for choice, mine in pack.by_setting(*JUDGED_PARTS):
        for slide_id in dict.fromkeys(row["slide_id"] for row in mine):
            here = [row for row in mine if row["slide_id"] == slide_id]
            tissue_um2 = sum(row["tissue_um2"] for row in here)
            read_um2 = sum(row["tissue_um2"] * row["coverage"] for row in here)
            rows.append(
                {
                    "part": here[0]["part"],
                    "setting": choice["setting"],
                    "epoch": choice["epoch"],
                    "slide_id": slide_id,
                    "state": "done",
                    "reason": "",
                    "num_sections": len(here),
                    **{f"num_{v.lower()}": sum(row["verdict"] == v for row in here) for v in _VERDICTS},
                    "num_labelled": sum(row["label"] is not None for row in here),
                    **{f"num_{why}": pack.num_without_label(here, why) for why in _WHY_NO_LABEL},
                    "num_unread": sum(row["coverage"] < 1 for row in here),
                    "tissue_um2": tissue_um2,
                    "coverage": read_um2 / tissue_um2 if tissue_um2 else math.nan,
                    **{name: here[0][name] for name in ("reader", "why_openslide", "read_s", "network_s")},
                    **marks(here[:1]),
                }
            )
    return rows + [
        {
            **{name: row[name] for name in ("part", "setting", "slide_id", "state", "reason")},
            "epoch": int(row["epoch"]),
            **dict.fromkeys(_STATE_COUNTS, 0),
            "tissue_um2": 0.0,
            "coverage": math.nan,
            **dict.fromkeys(("reader", "why_openslide"), ""),
            **dict.fromkeys(("read_s", "network_s"), math.nan),
            **{name: row[name] == "yes" for name in ("phantom", "phantom_weights")},
        }
        for row in pack.without_rows
    ]


_RARE = 0.05
"""What is rarer than this is taken for no chance."""
_VERDICTS = ("Tumor", "Normal", "review")
_WHY_NO_LABEL = ("unsure", "conflict")
_STATE_COUNTS = (
    *("num_sections", "num_tumor", "num_normal", "num_review", "num_labelled", "num_unread"),
    *("num_unsure", "num_conflict"),
)
_STATES = {"done": "done", "failed": "failed", "not there": "not_there", "no section": "without_section"}


def verdict_counts(pack: Pack) -> list[Row]:
    """Slides and sections of each part under each choice."""
    every = slides(pack)
    rows = []
    for part, setting in dict.fromkeys((row["part"], row["setting"]) for row in every):
        mine = [row for row in every if (row["part"], row["setting"]) == (part, setting)]
        (choice,) = [each for each in pack.choices if each["setting"] == setting]
        unread = [row["tissue_um2"] * (1 - row["coverage"]) for row in mine]
        rows.append(
            {
                "part": part,
                **{name: choice[name] for name in ("setting", "epoch", "t_p", "t_a_um2")},
                "num_slides": len(mine),
                **_patients(pack, part),
                **{f"num_{name}": sum(row["state"] == state for row in mine) for state, name in _STATES.items()},
                **{name: sum(row[name] for row in mine) for name in _STATE_COUNTS},
                "tissue_um2": sum(row["tissue_um2"] for row in mine),
                "unread_um2": sum(each for each in unread if not math.isnan(each)),
                **marks(mine),
            }
        )
    return rows


def _patients(pack: Pack, part: str) -> Row:
    """The patients that slides.csv or sections.csv name for a part's slides, and the slides of which none is named."""
    named: dict[str, set[str]] = {
        slide["slide_id"]: {slide["patient"]} for slide in pack.slides if slide["part"] == part
    }
    for label in pack.labels:
        if label["slide_id"] in named:
            named[label["slide_id"]].add(label["patient"])
    known = [patients - {""} for patients in named.values()]
    return {"num_patients": len(set().union(*known)) or None, "num_slides_without_patient": known.count(set())}


def flow(pack: Pack) -> list[Row]:
    """How slides of Test became figures, step by step."""
    every = [row for row in slides(pack) if row["part"] == TEST]
    rows = []
    for setting in dict.fromkeys(row["setting"] for row in every):
        here = [row for row in every if row["setting"] == setting]
        mine = [row for row in pack.of_part(TEST) if row["setting"] == setting]
        labelled = [row for row in mine if row["label"] is not None]
        tp, fn, fp, tn = map(int, confusion(mine, slides_in(mine)).sum(1))
        steps = {
            "slides": len(here),
            **{f"slides_{name}": sum(r["state"] == s for r in here) for s, name in _STATES.items() if s != "done"},
            "sections": len(mine),
            "sections_unlabelled": len(mine) - len(labelled),
            **{f"sections_{why}": pack.num_without_label(mine, why) for why in _WHY_NO_LABEL},
            "sections_labelled": len(labelled),
            "sections_review": sum(row["verdict"] == "review" for row in labelled),
            "called_tumor": tp + fp,
            "called_normal": fn + tn,
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "tn": tn,
        }
        rows += [{"setting": setting, "step": step, "number": num, **marks(here)} for step, num in steps.items()]
    return rows


def slide_times(pack: Pack) -> list[Row]:
    """Seconds of reading and of the network: median and most over the slides and epochs of a setting and part."""
    first: dict[tuple[str, str, int], Row] = {}
    for row in pack.ledger:
        first.setdefault((row["slide_id"], row["setting"], row["epoch"]), row)
    groups: dict[tuple[str, str], dict[tuple[str, int], Row]] = {}
    # A slide with rows of two parts was read once, and counts where its first row is.
    for (slide_id, setting, epoch), row in first.items():
        groups.setdefault((setting, row["part"]), {})[slide_id, epoch] = row
    rows = []
    for (setting, part), found in groups.items():
        seconds = {
            name: np.array([row[name] for row in found.values()], dtype=np.float64) for name in ("read_s", "network_s")
        }
        rows.append(
            {
                "setting": setting,
                "part": part,
                "num_slides": len({slide_id for slide_id, _ in found}),
                "num_epochs": len({epoch for _, epoch in found}),
                **{f"{name}_median": float(np.nanmedian(each)) for name, each in seconds.items()},
                **{f"{name}_most": float(np.nanmax(each)) for name, each in seconds.items()},
            }
        )
    return rows


def reached(pack: Pack) -> list[Row]:
    """How the verdicts on Test were reached, and on how many slides the bound of a certificate was checked."""
    rows = []
    ways = ("exact", "certified", "recomputed", "checked", "outside", "fast")
    for choice, mine in pack.by_setting(TEST):
        for levels, confidence in dict.fromkeys(
            (row["certificate_levels"], row["certificate_confidence"]) for row in mine
        ):
            here = [r for r in mine if (r["certificate_levels"], r["certificate_confidence"]) == (levels, confidence)]
            compared = [] if levels is None else [row for row in here if row["levels_apart"] is not None]
            outside = slides_in(row for row in compared if row["levels_apart"] > levels)
            num = len(slides_in(compared))
            rows.append(
                {
                    "part": TEST,
                    "setting": choice["setting"],
                    "epoch": choice["epoch"],
                    "num_sections": len(here),
                    **{f"num_{way}": sum(row["reached_by"] == way for row in here) for way in ways},
                    "levels": levels,
                    "confidence": confidence,
                    "num_slides_calibrated": here[0]["certificate_num_slides"],
                    "num_slides_compared": num,
                    "num_slides_outside": len(outside),
                    "most_outside": math.nan if levels is None else upper_bound(len(outside), num, _RARE),
                    "bound": "" if levels is None else _bound(len(outside), num, 1 - confidence),
                    **marks(here),
                }
            )
    return rows


def _bound(num_outside: int, num: int, share: float) -> str:
    """Whether so many slides outside speak against a bound that leaves `share` of them outside."""
    if share**num >= _RARE:
        return "too few"
    chance = math.fsum(math.comb(num, k) * share**k * (1 - share) ** (num - k) for k in range(num_outside, num + 1))
    return "broken" if chance < _RARE else "holds"


def flip_shifts(pack: Pack) -> list[Row]:
    """How small a shift of probability changes the verdicts on Test, by verdict and of all."""
    rows = []
    for choice, mine in pack.by_setting(TEST):
        for verdict in (*_VERDICTS, "all"):
            here = [row for row in mine if verdict in (row["verdict"], "all")]
            if not here:
                continue
            rows.append(
                {
                    "setting": choice["setting"],
                    "part": TEST,
                    "verdict": verdict,
                    **{name: choice[name] for name in ("t_p", "t_a_um2")},
                    "num_sections": len(here),
                    **shift_figures(here),
                    **marks(here),
                }
            )
    return rows


def shift_figures(rows: Sequence[Row]) -> Row:
    """The smallest flip shift, quartiles that occur, and how many small shifts, or none, change."""
    shifts = sorted(row["flip_shift"] for row in rows)
    shares = {"min": 0.0, "q1": 0.25, "median": 0.5, "q3": 0.75}
    return {
        **{f"flip_shift_{name}": shifts[max(0, math.ceil(each * len(shifts)) - 1)] for name, each in shares.items()},
        "num_flip_below_0_02": sum(shift < 0.02 for shift in shifts),
        "num_flip_below_0_05": sum(shift < 0.05 for shift in shifts),
        "num_never_flip": sum(map(math.isinf, shifts)),
    }
