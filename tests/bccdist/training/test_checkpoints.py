"""The training state goes on where it stopped, and a damaged or foreign one is refused with its path."""

import math
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from damage import assert_never_used
from torch import Tensor, nn

from bccdist.errors import CheckpointError
from bccdist.ranks import Ranks
from bccdist.training import checkpoints
from bccdist.training.checkpoints import Position, RankState, State, load_state, rank_state, save_state
from bccdist.training.reporting.metrics import MetricsRow

CPU = torch.device("cpu")
POSITION = Position(epoch=4, step=7, loss_sums={"psi_4": 0.1}, train_s=2.5, waited_s=0.5, validation_s=None)
METRICS: list[MetricsRow] = [{"setting": "unet", "epoch": 3, "iou": math.nan, "val_loss": None, "is_final": True}]


class Training:
    """A small network and its optimiser."""

    def __init__(self, seed: int) -> None:
        """Build with random weights."""
        torch.manual_seed(seed)
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-2)

    def step(self, images: Tensor) -> None:
        self.optimizer.zero_grad()
        self.network(images).square().sum().backward()
        self.optimizer.step()

    def save(self, path: Path, rank_states: list[RankState] | None = None) -> None:
        save_state(
            path,
            network=self.network,
            optimizer=self.optimizer,
            position=POSITION,
            metrics=METRICS,
            config_digest="abc",
            rank_states=rank_states or [rank_state(self.network)],
        )

    def load(self, path: Path, config_digest: str = "abc", *, rank: int = 0, world_size: int = 1) -> State:
        parts: dict[str, Any] = {"network": self.network, "optimizer": self.optimizer}
        ranks = Ranks(rank=rank, world_size=world_size)
        return load_state(path, config_digest=config_digest, device=CPU, ranks=ranks, **parts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "last.pt"


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def _values(training: Training) -> list[Tensor]:
    return [value.clone() for value in training.network.state_dict().values()]


def test_a_restored_training_goes_on_as_if_it_had_never_stopped(path: Path, images: Tensor) -> None:
    first = Training(seed=1)
    first.step(images)
    first.save(path)
    first.step(images)
    second = Training(seed=2)
    state = second.load(path)
    second.step(images)
    assert all(torch.equal(a, b) for a, b in zip(_values(first), _values(second), strict=True))
    assert (state.position, state.world_size) == (POSITION, 1)
    assert math.isnan(state.metrics[0].pop("iou"))
    assert state.metrics == [{"setting": "unet", "epoch": 3, "val_loss": None, "is_final": True}]


def test_random_numbers_go_on_where_they_stood(path: Path) -> None:
    training = Training(seed=1)
    training.save(path)
    expected = torch.rand(3)
    Training(seed=2).load(path)
    assert torch.equal(torch.rand(3), expected)


def _rank_states(means: list[float]) -> list[RankState]:
    """Of ranks whose running means differ."""
    states = []
    for mean in means:
        training = Training(seed=1)
        training.network[1].running_mean.fill_(mean)  # type: ignore[operator, union-attr]
        training.network[1].num_batches_tracked.fill_(5)  # type: ignore[operator, union-attr]
        states.append(rank_state(training.network))
    return states


@pytest.mark.parametrize(
    ("world_size", "expected"), [(2, [1.0, 4.0]), (1, [2.5]), (3, [2.5] * 3)], ids=["as many", "fewer", "more"]
)
def test_each_rank_gets_its_own_statistics_and_another_number_of_ranks_their_mean(
    path: Path, world_size: int, expected: list[float]
) -> None:
    Training(seed=1).save(path, _rank_states([1.0, 4.0]))
    for rank, mean in enumerate(expected):
        training = Training(seed=2)
        assert training.load(path, rank=rank, world_size=world_size).world_size == 2
        state = training.network.state_dict()
        assert state["1.running_mean"].tolist() == [mean] * 4
        assert state["1.num_batches_tracked"].item() == 5


def test_a_position_adds_up_its_steps() -> None:
    start = Position(epoch=3, validation_s=9.0)
    position = start.after_step({"psi_4": 0.5}, seconds=2.0, waited_s=0.5)
    position = position.after_step({"psi_4": 0.25}, seconds=1.0, waited_s=0.0)
    assert position == Position(
        epoch=3, step=2, loss_sums={"psi_4": 0.75}, train_s=3.0, waited_s=0.5, validation_s=9.0
    )
    assert position.mean_losses == {"psi_4": 0.375}
    assert start == Position(epoch=3, validation_s=9.0)


def test_without_a_state_training_begins(path: Path) -> None:
    training = Training(seed=1)
    before = _values(training)
    assert training.load(path) == State(position=Position(epoch=1), metrics=[], world_size=None)
    assert all(torch.equal(a, b) for a, b in zip(before, _values(training), strict=True))


def test_the_state_is_one_whole_file(path: Path) -> None:
    training = Training(seed=1)
    training.save(path)
    training.save(path)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95, 0.999])
def test_a_truncated_state_is_refused(path: Path, share: float) -> None:
    training = Training(seed=1)
    training.save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=rf"{path}: damaged .*, or delete it to start over"):
        training.load(path)


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\0" * 300, b"\xff" * 300], ids=["text", "zeros", "ones"])
def test_another_kind_of_file_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{path}: damaged training state"):
        Training(seed=1).load(path)


@pytest.mark.parametrize("content", [{"epoch": 3}, torch.zeros(3), [1, 2]], ids=["keys", "tensor", "list"])
def test_a_foreign_state_is_refused(path: Path, content: Any) -> None:
    path.parent.mkdir()
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"{path}: belongs to configuration None, this run's is abc"):
        Training(seed=1).load(path)


def test_the_state_of_another_configuration_is_refused_and_nothing_is_restored(path: Path) -> None:
    Training(seed=1).save(path)
    other = Training(seed=2)
    before = _values(other)
    with pytest.raises(CheckpointError, match=rf"{path}: belongs to configuration abc, this run's is def"):
        other.load(path, config_digest="def")
    assert all(torch.equal(a, b) for a, b in zip(before, _values(other), strict=True))


def test_the_state_needs_no_pickled_code(path: Path) -> None:
    Training(seed=1).save(path)
    assert torch.load(path, weights_only=True)["config_digest"] == "abc"


class _Command:
    """Unpickling it would call something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, (3,))


def test_pickled_code_is_not_run(path: Path) -> None:
    path.parent.mkdir()
    torch.save({"config_digest": "abc", "network": _Command()}, path)
    with pytest.raises(CheckpointError, match=rf"{path}: damaged training state"):
        Training(seed=1).load(path)
    path.write_bytes(pickle.dumps(_Command(), protocol=2))
    with pytest.raises(CheckpointError, match=rf"{path}: damaged training state"):
        Training(seed=1).load(path)


def _content(path: Path) -> list[object]:
    training = Training(seed=2)
    state = training.load(path)
    tensors = [each.tolist() for each in _values(training)]
    return [*tensors, str(training.optimizer.state_dict()), str(state), torch.get_rng_state().tolist()]


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_state_is_never_used(path: Path, images: Tensor, seed: int) -> None:
    training = Training(seed=1)
    training.step(images)
    training.save(path)
    assert assert_never_used(path, lambda: _content(path), seed=seed) > 50


@pytest.mark.parametrize("seed", range(2))
def test_a_state_of_before_is_held_against_the_sums_of_its_zip(
    path: Path, images: Tensor, seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoints, "BLANK_SEAL", "")
    monkeypatch.setattr(checkpoints, "seal", lambda _: None)
    training = Training(seed=1)
    training.step(images)
    training.save(path)
    assert assert_never_used(path, lambda: _content(path), seed=seed) > 20
    assert "holds no SHA-256 of its bytes" in caplog.text


def test_a_state_that_is_not_finite_is_not_gone_on_with(path: Path) -> None:
    training = Training(seed=1)
    training.network[1].running_var.fill_(math.inf)  # type: ignore[operator, union-attr]
    training.save(path)
    with pytest.raises(CheckpointError, match=rf"{path}: layer 1.running_var holds a number that is not finite"):
        Training(seed=2).load(path)
