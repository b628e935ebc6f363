"""The contact sheet shows the patches that training draws, as training changes them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_study import write_study

from bccdist.configuration import AugmentConfig, BalanceConfig
from bccdist.parts import Part
from bccdist.shard_set.epoch_plan import EpochPlan, plan_epoch
from bccdist.shard_set.index import ShardSet, read_set
from bccdist.shard_set.reader import PatchReader
from bccdist.training.reporting import contact_sheet as module
from bccdist.training.reporting.contact_sheet import (
    ShownPatch,
    contact_sheet,
    sheet_of_plan,
    shown_positions,
    write_contact_sheet,
)
from bccdist.training.samples import Draw, Patches

RED, GREEN, BLUE = (220, 30, 40), (30, 160, 60), (40, 60, 200)
SEED, EPOCH = 3, 2


@pytest.fixture(scope="module")
def shard_set(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    study = write_study(tmp_path_factory.mktemp("study"))
    study.build()
    study.finish()
    return read_set(study.shards.root)


class Place(NamedTuple):
    """Of a patch in the sheet."""

    row: int
    column: int

    def centre(self, sheet: NDArray[np.uint8]) -> tuple[int, int, int]:
        """The colour in the middle of the patch."""
        y, x = 10 + 112 + self.row * 252, 34 + 112 + self.column * 234
        red, green, blue = sheet[y, x].tolist()
        return red, green, blue


def shown(colour: tuple[int, int, int], *, tumor: bool = False, size: tuple[int, int] = (64, 64)) -> ShownPatch:
    mask = np.zeros(size, dtype=np.uint8)
    mask[8:24, 8:24] = int(tumor)
    return ShownPatch(np.full((*size, 3), colour, dtype=np.uint8), mask, "some words")


def plan_of(draws: list[int], *, global_batch: int = 1) -> EpochPlan:
    return EpochPlan(draws=np.array(draws), global_batch=global_batch, num_steps=len(draws) // global_batch)


def num_yellow_px(sheet: NDArray[np.uint8]) -> int:
    red, green, blue = np.moveaxis(sheet.astype(int), 2, 0)
    return int(((red > 180) & (green > 160) & (blue < 100)).sum())


@pytest.mark.parametrize("num", [1, 3, 8])
def test_patches_stand_side_by_side_before_above_after(num: int) -> None:
    colours = [(RED, GREEN, BLUE)[number % 3] for number in range(num)]
    sheet = contact_sheet([shown(colour) for colour in colours], [shown(colour) for colour in colours[::-1]])
    assert sheet.dtype == np.uint8
    assert sheet.shape == (514, 34 + num * 234, 3)
    assert [Place(0, column).centre(sheet) for column in range(num)] == colours
    assert [Place(1, column).centre(sheet) for column in range(num)] == colours[::-1]


def test_tumor_is_outlined_on_both() -> None:
    def outlined(*, before: bool, after: bool) -> tuple[int, int]:
        sheet = contact_sheet([shown(BLUE, tumor=before)], [shown(BLUE, tumor=after)])
        return num_yellow_px(sheet[:248]), num_yellow_px(sheet[248:])

    assert outlined(before=False, after=False) == (0, 0)
    assert min(outlined(before=True, after=True)) > 100
    assert [number > 100 for number in outlined(before=False, after=True)] == [False, True]


def test_a_patch_of_nothing_but_tumor_has_no_outline() -> None:
    full = shown(BLUE)._replace(mask=np.ones((64, 64), np.uint8))
    assert num_yellow_px(contact_sheet([full], [full])) == 0


def test_patches_may_be_wider_than_high() -> None:
    wide = shown(GREEN, tumor=True, size=(40, 90))
    sheet = contact_sheet([wide], [wide])
    assert sheet.shape == (514, 268, 3)
    assert Place(0, 0).centre(sheet) == GREEN


def test_captions_are_written_below_their_patches() -> None:
    mute = contact_sheet([shown(RED)._replace(caption="")], [shown(RED)._replace(caption="")])
    told = contact_sheet([shown(RED)._replace(caption="")], [shown(RED)])
    rows = np.flatnonzero((mute != told).any(axis=(1, 2)))
    assert len(rows) > 5
    assert rows.min() >= 10 + 252 + 224


class Shown(NamedTuple):
    draws: list[int]
    global_batch: int
    expected: list[int]


@pytest.mark.parametrize(
    "case",
    [
        Shown([0, 1, 0, 1, 1, 0], 1, [0, 1, 2, 3, 4, 5]),
        Shown([0] * 4 + [1] * 9, 1, [4, 5, 6, 7, 8, 9, 10, 11]),
        Shown([0] * 9 + [1], 1, [0, 1, 2, 3, 4, 5, 6, 9]),
        Shown([0] * 8 + [1], 4, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
    ids=["few draws", "tumor first", "filled with others", "draws that no step uses"],
)
def test_the_first_draws_with_tumor_are_shown(case: Shown) -> None:
    shows_tumor = np.array([False, True])
    assert shown_positions(plan_of(case.draws, global_batch=case.global_batch), shows_tumor) == case.expected


def test_what_is_shown_is_what_training_sees(shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[ShownPatch]] = []
    monkeypatch.setattr(module, "contact_sheet", lambda before, after: given.extend([before, after]))
    reader, training = PatchReader(shard_set), shard_set.part(Part.TRAINING)
    plan = plan_epoch(training.members, BalanceConfig(), seed=SEED, epoch=EPOCH, global_batch=4)
    sheet_of_plan(reader, plan, training, AugmentConfig(), seed=SEED, epoch=EPOCH)
    before, after = given
    patches = Patches(reader=reader, augment_config=AugmentConfig(), seed=SEED, epoch=EPOCH)
    positions = shown_positions(plan, training.members["tumor"])
    assert 0 < len(positions) == len(before) == len(after) <= 8
    for position, stored, changed in zip(positions, before, after, strict=True):
        row = int(training.rows[plan.draws[position]])
        seen = patches[Draw(position, row)]
        assert np.array_equal(stored.image, reader.read(row)[0])
        assert np.array_equal(changed.image, seen.image)
        assert np.array_equal(changed.mask, seen.mask)
        assert stored.mask.any()
        assert stored.caption == f"draw {position}"
        assert changed.caption.endswith(" px")


def test_without_augmentation_the_sheet_says_so(shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[ShownPatch]] = []
    monkeypatch.setattr(module, "contact_sheet", lambda before, after: given.extend([before, after]))
    training = shard_set.part(Part.TRAINING)
    plan = plan_of([0, 1])
    sheet_of_plan(PatchReader(shard_set), plan, training, AugmentConfig(enabled=False), seed=SEED, epoch=EPOCH)
    before, after = given
    assert all(np.array_equal(one.image, other.image) for one, other in zip(before, after, strict=True))
    assert {patch.caption for patch in after} == {"as it is"}


def test_the_written_sheet_is_a_png_close_to_it(tmp_path: Path) -> None:
    sheet = contact_sheet([shown(RED, tumor=True)], [shown(BLUE)])
    path = tmp_path / "folder" / "sheet.png"
    write_contact_sheet(path, sheet)
    with Image.open(path) as opened:
        assert opened.format == "PNG"
        written = np.asarray(opened.convert("RGB"))
    assert written.shape == sheet.shape
    assert np.abs(written.astype(int) - sheet).mean() < 1
    assert [each.name for each in path.parent.iterdir()] == ["sheet.png"]
