"""The numbers that follow from the paper come out of the code, and a wrong one is found."""

from functools import cache
from typing import Any, NamedTuple

import pytest

from jobs import verify_paper
from jobs.verify_paper import Check

TABLES = {"Table 3": 4, "Table 4": 5, "Table 5": 3}
"""Rows of each; resnet34's in Table 4 fits two counts, and Table 5 has two rows twice."""


@cache
def _checks() -> tuple[Check, ...]:
    return tuple(verify_paper.checks())


def test_every_number_of_the_paper_comes_out_of_the_code() -> None:
    assert [check for check in _checks() if not check.holds] == []


class Golden(NamedTuple):
    """A number of the method, and where it is checked."""

    what: str
    expected: str


@pytest.mark.parametrize(
    "golden",
    [
        Golden("parameters of unet", "31,383,298"),
        Golden("parameters of unet with five heads", "31,385,226"),
        Golden("parameters of resnet34", "24,436,258"),
        Golden("parameters of resnet34_ds", "24,437,226"),
        Golden("parameters of unet's encoder", "18,817,856"),
        Golden("parameters of resnet34_ds's encoder", "21,284,672"),
        Golden("G MACs of unet up to each psi", "24.8 34.4 44.1 53.8 61.0"),
        Golden("G MACs of resnet34_ds up to each psi", "21.6 24.0 26.4 29.4 31.2"),
        Golden("sizes of psi_0 to psi_4", "32 64 128 256 512"),
        Golden("fewest Tumornest px of pool tumor", "132"),
        Golden("patches, each once", "185,308"),
        Golden("draws per epoch", "255,771"),
        Golden("full steps per epoch", "3,996"),
        Golden("learning rate of epochs 1 to 5", "0.0005"),
        Golden("learning rate of epochs 36 to 40", "0.0001048576"),
        Golden("epochs", "40"),
    ],
    ids=lambda golden: golden.what,
)
def test_the_golden_numbers_are_among_the_checks(golden: Golden) -> None:
    (check,) = [check for check in _checks() if check.what == golden.what]
    assert check.expected == golden.expected
    assert check.holds


def test_each_row_of_tables_3_to_5_is_checked() -> None:
    sources = [check.source for check in _checks() if check.what == "Acc Sens Spec F_1.5"]
    num_checks = {table: sum(source.startswith(table) for source in sources) for table in TABLES}
    assert num_checks == TABLES


class Wrong(NamedTuple):
    """A constant of the paper with a value that is not the paper's."""

    name: str
    value: Any


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong("PLAIN_PARAMETERS_WITH_FIVE_HEADS", 31_385_227),
        Wrong("GIGA_MACS", {"unet": "24.8 34.4 44.1 53.8 61.1"}),
        Wrong("NUM_DISTINCT", 185_309),
        Wrong("TEST_SECTIONS", (1120, 843)),
    ],
    ids=lambda wrong: wrong.name,
)
def test_a_number_that_does_not_come_out_is_marked_and_counted(
    wrong: Wrong, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify_paper, wrong.name, wrong.value)
    assert verify_paper.main() == 1
    *lines, last = capsys.readouterr().out.splitlines()
    num_wrong = sum(line.startswith("WRONG ") for line in lines)
    assert num_wrong > 0
    assert last == f"{len(lines) - num_wrong} of {len(lines)} checks hold"


def test_all_is_well_when_all_checks_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(verify_paper, "checks", lambda: iter(_checks()))
    assert verify_paper.main() == 0
    assert "WRONG" not in capsys.readouterr().out
