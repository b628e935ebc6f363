"""Distances of predicted tumor from the tissue's edge, as far as the ledger bounds them."""

from analysis.evidence_pack.check.findings import TEST, Findings, Row
from analysis.evidence_pack.check.raw_rows import Pack

_ROUNDING = 1e-6
Key = tuple[str, str, str]


def margin_bounds(pack: Pack) -> list[Row]:
    """The sections of Test that were called Tumor, with the ledger's bounds."""
    return [row for row in pack.of_part(TEST) if row["verdict"] == "Tumor"]


def section_margins(pack: Pack) -> list[Row]:
    """All sections of Test, with what the ledger says of them."""
    return pack.of_part(TEST)


def _key(row: Row) -> Key:
    return row["setting"], row["slide_id"], row["section_id"]


def check_margins(pack: Pack, found: Findings) -> None:
    """Each region and each section's smallest margin against what the ledger leaves possible."""
    judged = {_key(row): row for row in pack.of_part(TEST)}
    regions: dict[Key, list[Row]] = {}
    for row in pack.table("margins"):
        regions.setdefault(_key(row), []).append(row)
    told = [f"tables/margins.parquet: {', '.join(key)}: no section of Test" for key in regions if key not in judged]
    for name, place in (("margins", _why_no_region), ("section_margins", _why_no_margin)):
        told += [
            f"tables/{name}.parquet: row {', '.join(_key(row))}: {why}"
            for row in pack.table(name)
            if (section := judged.get(_key(row))) is not None and (why := place(row, section, regions))
        ]
    found.fault("tables of margins", told)
    num = sum(map(len, regions.values()))
    found.done.append(f"margins: {num} regions within what the ledger leaves possible")


def _why_no_region(region: Row, section: Row, _: dict[Key, list[Row]]) -> str:
    """Why a region cannot be one of the section; empty where it can."""
    if section["verdict"] != "Tumor":
        return f"a region of a section that is {section['verdict']} by the ledger"
    if not section["t_a_um2"] - _ROUNDING <= region["area_um2"] <= section["area_um2"] + _ROUNDING:
        return (
            f"area {region['area_um2']:g} um2, expected at least t_A, {section['t_a_um2']:g}, and at most the largest "
            f"region's, {section['area_um2']:g}"
        )
    if region["margin_um"] < section["ledger_margin_um"] - _ROUNDING:
        return f"margin {region['margin_um']:g} um, expected at least {section['ledger_margin_um']:g} by the ledger"
    if region["max_probability"] > section["max_probability"] + _ROUNDING:
        return f"highest probability {region['max_probability']:g} above the section's {section['max_probability']:g}"
    return ""


def _why_no_margin(row: Row, section: Row, regions: dict[Key, list[Row]]) -> str:
    """Why a section's smallest margin does not follow from its regions; empty where it does."""
    mine = regions.get(_key(row), [])
    if row["num_regions"] != len(mine) or bool(mine) != (section["verdict"] == "Tumor"):
        return f"{row['num_regions']} regions, expected {len(mine)} by tables/margins.parquet, as {section['verdict']}"
    least = min((region["margin_um"] for region in mine), default=None)
    if least is not None and row["margin_um"] != least:
        return f"margin {row['margin_um']} um, expected {least}, the smallest of its regions"
    return ""
