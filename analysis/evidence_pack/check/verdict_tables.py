"""The tables of verdicts on Test, computed anew: by output, unit, prevalence and group."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.evidence_pack.check.figures import (
    adjusted,
    are_alike,
    confusion,
    figures_of,
    intervals_of,
    p_of_difference,
    resampled,
    slides_in,
    summary,
    with_ends,
)
from analysis.evidence_pack.check.findings import COUNTS, FIGURES, LEVEL, SELECTED_ON, TEST, Floats, Row
from analysis.evidence_pack.check.raw_rows import Pack, marks


def section_verdicts(pack: Pack) -> list[Row]:
    """The verdicts on Test of every output."""
    return pack.of_part(TEST, final_only=False)


def table4(pack: Pack) -> list[Row]:
    """The chosen models on Test."""
    rows = []
    for choice, mine in pack.by_setting(TEST):
        if all(row["label"] is None for row in pack.of_part(TEST)):
            continue
        seconds = {row["slide_id"]: (row["read_s"], row["network_s"]) for row in mine}
        medians = np.nanmedian(np.array(list(seconds.values()), dtype=np.float64), axis=0)
        rows.append(
            {
                **{name: choice[name] for name in ("setting", "epoch", "t_p", "t_a_um2", "weights_digest")},
                **summary(mine, choice["beta"]),
                "median_read_s": float(medians[0]),
                "median_network_s": float(medians[1]),
            }
        )
    return rows


def table5(pack: Pack) -> list[Row]:
    """Each output of the deeply supervised setting on Test, at the thresholds of its own output."""
    return _outputs(pack, "resnet34_ds")


def _outputs(pack: Pack, setting: str) -> list[Row]:
    mine = [row for row in pack.of_part(TEST, final_only=False) if row["setting"] == setting]
    final = {(row["slide_id"], row["section_id"]): row["verdict"] for row in mine if row["is_final"]}
    rows = []
    for psi in sorted({row["psi"] for row in mine}):
        block = [row for row in mine if row["psi"] == psi]
        pairs = [(row["verdict"], final[row["slide_id"], row["section_id"]]) for row in block]
        rows.append(
            {
                "setting": setting,
                "psi": psi,
                "is_final": block[0]["is_final"],
                **summary(block, block[0]["beta"]),
                "num_changed": sum(one != other for one, other in pairs),
                "num_to_tumor": sum(one == "Tumor" != other for one, other in pairs),
                "num_to_normal": sum(other == "Tumor" != one for one, other in pairs),
            }
        )
    return rows


def intervals(pack: Pack) -> list[Row]:
    """The four figures of every output with their intervals over resampled slides."""
    rows = []
    for name, parts in ((TEST, (TEST,)), ("Validation I + II", SELECTED_ON)):
        labelled = [row for row in pack.of_part(*parts, final_only=False) if row["label"] is not None]
        slides = slides_in(labelled)
        for setting, psi in dict.fromkeys((row["setting"], row["psi"]) for row in labelled):
            mine = [row for row in labelled if (row["setting"], row["psi"]) == (setting, psi)]
            counts = confusion(mine, slides)
            for figure, found in intervals_of(counts, mine[0]["beta"]).items():
                rows.append(
                    {
                        "part": name,
                        "setting": setting,
                        "psi": psi,
                        "is_final": mine[0]["is_final"],
                        "figure": figure,
                        **dict(zip(("value", "low", "high"), found, strict=True)),
                        "num_sections": int(counts.sum()),
                        "num_slides": len(slides_in(mine)),
                        **marks(mine),
                    }
                )
    return rows


def units(pack: Pack) -> list[Row]:
    """The verdicts counted by section, slide and patient, resampled by patient."""
    patient = {slide["slide_id"]: slide["patient"] for slide in pack.slides}
    if all(row["label"] is None for row in pack.of_part(TEST)):
        return []
    rows = []
    for choice, mine in pack.by_setting(TEST):
        owned = [
            {**row, "owner": f"patient {who}" if (who := patient.get(row["slide_id"])) else f"slide {row['slide_id']}"}
            for row in mine
        ]
        clusters = slides_in(owned, "owner")
        has_patients = any(patient.get(row["slide_id"]) for row in pack.of_part(TEST))
        for unit, key in (("section", ""), ("slide", "slide_id"), *([("patient", "owner")] if has_patients else [])):
            counted = _joined(owned, key) if key else owned
            counts = confusion(counted, clusters, "owner")
            found = intervals_of(counts, pack.choices[0]["beta"])
            is_labelled = [row["label"] is not None for row in counted]
            rows.append(
                {
                    "setting": choice["setting"],
                    "unit": unit,
                    **dict(zip(COUNTS, map(int, counts.sum(1)), strict=True)),
                    "num_review": sum(r["verdict"] == "review" and r["label"] is not None for r in counted),
                    "num_unlabelled": is_labelled.count(False),
                    "num_units": len(counted),
                    **{key: value for name in FIGURES for key, value in with_ends(name, found[name]).items()},
                    **marks(mine),
                }
            )
    return rows


def _joined(rows: Sequence[Row], key: str) -> list[Row]:
    """One row per slide or patient: Tumor if any section is, for review if one is, else Normal."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    joined = []
    for mine in groups.values():
        labels, verdicts = {row["label"] for row in mine}, {row["verdict"] for row in mine}
        label = "Tumor" if "Tumor" in labels else None if None in labels else "Normal"
        verdict = next(each for each in ("Tumor", "review", "Normal") if each in verdicts)
        joined.append({"owner": mine[0]["owner"], "label": label, "verdict": verdict})
    return joined


def predictive_values(pack: Pack) -> list[Row]:
    """Predictive values and likelihood ratios, at Test's prevalence and at those that the table names."""
    asked = [row["prevalence"] for row in pack.table("predictive_values") if not row["is_own"]]
    rows = []
    for choice, mine in pack.by_setting(TEST):
        labelled = [row for row in mine if row["label"] is not None]
        slides = slides_in(labelled)
        counts = confusion(labelled, slides)
        num_tumor, num = int(counts[:2].sum()), int(counts.sum())
        if not 0 < num_tumor < num:
            continue
        ends, samples = intervals_of(counts, choice["beta"]), figures_of(resampled(counts), choice["beta"])
        for number, prevalence in enumerate((num_tumor / num, *dict.fromkeys(asked))):
            found = _carried(ends["sensitivity"], ends["specificity"], samples, prevalence)
            rows.append(
                {
                    "setting": choice["setting"],
                    "prevalence": prevalence,
                    "is_own": number == 0,
                    **{key: value for name, each in found.items() for key, value in with_ends(name, each).items()},
                    "num_sections": num,
                    "num_slides": len(slides),
                    **marks(labelled),
                }
            )
    return rows


def _carried(
    sensitivity: Sequence[float], specificity: Sequence[float], samples: Mapping[str, Floats], prevalence: float
) -> dict[str, tuple[float, float, float]]:
    """Four values with their ends: of the samples, or at the ends of both shares where one of them has one value."""
    points = [_bayes(np.array(sensitivity[end]), np.array(specificity[end]), prevalence) for end in range(3)]
    if are_alike(samples["sensitivity"]) or are_alike(samples["specificity"]):
        ends = {name: sorted(float(point[name]) for point in points[1:]) for name in points[0]}
        return {name: (float(points[0][name]), ends[name][0], ends[name][1]) for name in points[0]}
    drawn = _bayes(samples["sensitivity"], samples["specificity"], prevalence)
    found = {}
    for name, values in drawn.items():
        known = values[~np.isnan(values)]
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
        found[name] = (float(points[0][name]), float(low), float(high))
    return found


def _bayes(sensitivity: Floats, specificity: Floats, prevalence: float) -> dict[str, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        found, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
        missed, right = (1 - sensitivity) * prevalence, specificity * (1 - prevalence)
        return {
            "ppv": found / (found + false),
            "npv": right / (right + missed),
            "lr_positive": sensitivity / (1 - specificity),
            "lr_negative": (1 - sensitivity) / specificity,
        }


SLIDE_COLUMNS = ("slide_id", "part", "patient", "is_annotated", "fingerprint")
"""Columns of the pack's slides.csv that name no groups."""


def subgroups(pack: Pack) -> list[Row]:
    """The figures by groups of slides and by quarters of tissue area, each group against all others."""
    of_slide = {slide["slide_id"]: slide for slide in pack.slides}
    labelled = [row for row in pack.of_part(TEST) if row["label"] is not None]
    names = [name for name in (pack.slides[0] if pack.slides else {}) if name not in SLIDE_COLUMNS]
    groups = {
        name: {row["slide_id"]: of_slide.get(row["slide_id"], {}).get(name) or "not said" for row in labelled}
        for name in names
    }
    groups = {name: each for name, each in groups.items() if 1 < len(set(each.values())) <= 12}
    rows = []
    areas_um2 = [row["tissue_um2"] for row in labelled]
    edges = sorted({float(each) for each in np.quantile(areas_um2, (0.25, 0.5, 0.75))}) if areas_um2 else []
    for choice, every in pack.by_setting(TEST):
        mine = [row for row in every if row["label"] is not None]
        for name in (*groups, "tissue area"):
            kinds = [groups[name][row["slide_id"]] if name in groups else _quarter(row, edges) for row in mine]
            for kind in dict.fromkeys(kinds) if len(set(kinds)) > 1 else ():
                inside = [row for row, each in zip(mine, kinds, strict=True) if each == kind]
                outside = [row for row, each in zip(mine, kinds, strict=True) if each != kind]
                counts = confusion(inside, slides_in(inside))
                found = intervals_of(counts, choice["beta"])
                rows.append(
                    {
                        "setting": choice["setting"],
                        "column": name,
                        "group": kind,
                        **dict(zip(COUNTS, map(int, counts.sum(1)), strict=True)),
                        "num_sections": len(inside),
                        "num_slides": counts.shape[1],
                        **{key: value for each in FIGURES for key, value in with_ends(each, found[each]).items()},
                        "p": _p_against(inside, outside, choice["beta"]),
                        **marks(inside),
                    }
                )
    return adjusted(rows, "p")


def _quarter(row: Row, edges: Sequence[float]) -> str:
    place = sum(row["tissue_um2"] > edge for edge in edges)
    return f"up to {edges[place] / 1e6:.3g} mm2" if place < len(edges) else f"above {edges[-1] / 1e6:.3g} mm2"


def _p_against(inside: Sequence[Row], outside: Sequence[Row], beta: float) -> float:
    """Two-sided p that both accuracies are alike, by slides that are drawn once for both."""
    nums = [len(slides_in(rows)) for rows in (inside, outside)]
    if min(nums) < 2:
        return math.nan
    slides = slides_in((*inside, *outside))
    counts = [confusion(rows, slides) for rows in (inside, outside)]
    # No better than if so many slides were dealt out anew and one deal of all gave this.
    return p_of_difference(counts, beta, smallest=2 / math.comb(sum(nums), nums[0]))
