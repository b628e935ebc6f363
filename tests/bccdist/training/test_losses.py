"""The focal loss is the softmax formula and stays finite, Pi_l is hard and centred, and deep supervision sums."""

import math

import pytest
import torch
import training_step
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from bccdist.configuration import SETTINGS, MaskDownsampling, Setting, outputs_of
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet, ScoreMaps
from bccdist.ranks import Ranks
from bccdist.training.losses import downsample_mask, focal_loss, losses, supervised_outputs

METHODS: tuple[MaskDownsampling, ...] = ("nearest-exact", "majority", "max")
GAMMAS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.7])


def _scores_and_target(seed: int, *, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    """Float64 scores [2, 2, 5, 7] and their true classes."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 2, 5, 7, generator=generator, dtype=torch.float64) * spread
    return scores, torch.randint(0, 2, (2, 5, 7), generator=generator)


def _in_powers(scores: Tensor, target: Tensor, gamma: float) -> Tensor:
    """The formula of the method in tensors: softmax, p_t, power, logarithm, mean."""
    p_NHW = scores.softmax(dim=1).gather(1, target.long()[:, None])[:, 0]
    return -((1 - p_NHW) ** gamma * p_NHW.log()).mean()


def _written_out(scores: Tensor, target: Tensor, gamma: float) -> float:
    """The formula of the method, pixel by pixel."""
    total = 0.0
    for n, row, column in torch.cartesian_prod(*(torch.arange(size) for size in target.shape)).tolist():
        normal, tumor = scores[n, :, row, column].tolist()
        p_tumor = math.exp(tumor) / (math.exp(normal) + math.exp(tumor))
        p_t = p_tumor if target[n, row, column] else 1 - p_tumor
        total += -((1 - p_t) ** gamma) * math.log(p_t)
    return total / target.numel()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), gamma=GAMMAS)
def test_focal_loss_is_the_softmax_formula(seed: int, gamma: float) -> None:
    scores, target = _scores_and_target(seed)
    assert focal_loss(scores, target, gamma=gamma).item() == pytest.approx(_written_out(scores, target, gamma))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), gamma=GAMMAS)
def test_loss_and_gradient_are_those_of_softmax_power_and_logarithm(seed: int, gamma: float) -> None:
    scores, target = _scores_and_target(seed)
    scores.requires_grad_()
    found, gradient = _with_gradient(focal_loss(scores, target, gamma=gamma), scores)
    expected, expected_gradient = _with_gradient(_in_powers(scores, target, gamma), scores)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-13)


def _with_gradient(loss: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    return loss, torch.autograd.grad(loss, scores)[0]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000))
def test_gamma_0_is_cross_entropy(seed: int) -> None:
    scores, target = _scores_and_target(seed)
    torch.testing.assert_close(focal_loss(scores, target, gamma=0), F.cross_entropy(scores, target))


def test_focal_loss_is_not_the_per_class_sigmoid_form() -> None:
    scores, target = _scores_and_target(0)
    binary = F.binary_cross_entropy_with_logits(scores[:, 1], target.double())
    assert abs(focal_loss(scores, target, gamma=0).item() - binary.item()) > 0.1


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_extreme_scores_stay_finite(gamma: float, dtype: torch.dtype) -> None:
    row = torch.tensor([1e4, -1e4, 200.0, 0.0], dtype=dtype)
    scores = torch.stack([-row, row])[None, :, None].requires_grad_()
    for target in (torch.zeros(1, 1, 4), torch.ones(1, 1, 4)):
        loss = focal_loss(scores, target, gamma=gamma)
        (gradient,) = torch.autograd.grad(loss, scores)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_a_sure_error_costs_its_margin() -> None:
    scores = torch.tensor([0.0, 1e4])[None, :, None, None]
    assert focal_loss(scores, torch.zeros(1, 1, 1), gamma=2).item() == pytest.approx(1e4)
    assert focal_loss(scores, torch.ones(1, 1, 1), gamma=2).item() == 0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradient_is_that_of_the_loss(gamma: float) -> None:
    scores, target = _scores_and_target(3)
    assert torch.autograd.gradcheck(lambda scores: focal_loss(scores, target, gamma=gamma), scores.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64])
def test_the_target_may_have_any_whole_type(dtype: torch.dtype) -> None:
    scores, target = _scores_and_target(4)
    assert focal_loss(scores, target.to(dtype), gamma=2) == focal_loss(scores, target, gamma=2)


def test_half_precision_scores_are_computed_in_float32() -> None:
    scores, target = _scores_and_target(5)
    half = scores.bfloat16()
    loss = focal_loss(half, target, gamma=2)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(focal_loss(half.double(), target, gamma=2).item(), rel=1e-6)


@settings(deadline=None, max_examples=25)
@given(cells=st.tuples(st.integers(1, 5), st.integers(1, 5)), log_step=st.integers(0, 4), seed=st.integers(0, 99))
def test_nearest_exact_takes_the_pixel_beside_the_centre(cells: tuple[int, int], log_step: int, seed: int) -> None:
    step = 1 << log_step
    mask = torch.randint(0, 2, (2, cells[0] * step, cells[1] * step), dtype=torch.uint8, generator=_seeded(seed))
    rows, columns = (torch.arange(count) * step + step // 2 for count in cells)
    assert torch.equal(downsample_mask(mask, cells, "nearest-exact"), mask[:, rows][:, :, columns])


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_torchs_nearest_would_shift_the_target_by_half_a_cell() -> None:
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[:, 20:44, 20:44] = 1
    exact = downsample_mask(mask, (4, 4), "nearest-exact")[0].bool()
    corner = F.interpolate(mask[:, None].float(), size=(4, 4), mode="nearest")[0, 0].bool()
    assert exact.nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert corner.nonzero().tolist() == [[2, 2]]


@pytest.mark.parametrize("block", range(5))
def test_each_target_lies_half_a_pixel_from_its_cells_centre_and_torchs_nearest_half_a_cell(block: int) -> None:
    """In input pixels, whose centres are at 0.5, 1.5, ...; the centre of a cell of 16 is at 8."""
    step = 1 << (4 - block)
    hits = {"exact": torch.zeros(step), "nearest": torch.zeros(step)}
    for at in range(step):
        mask = torch.zeros(1, 32, 32, dtype=torch.uint8)
        mask[:, :, at::step] = 1
        hits["exact"][at] = downsample_mask(mask, (32 // step, 32 // step), "nearest-exact").float().mean()
        hits["nearest"][at] = F.interpolate(mask[:, None].float(), size=32 // step, mode="nearest").mean()
    offsets = {name: int(share.argmax()) + 0.5 - step / 2 for name, share in hits.items()}
    assert all(sorted(share.tolist()) == [0.0] * (step - 1) + [1.0] for share in hits.values())
    assert offsets == {"exact": 0.5 if step > 1 else 0.0, "nearest": 0.5 - step / 2}


@settings(deadline=None, max_examples=25)
@given(cells=st.tuples(st.integers(1, 5), st.integers(1, 5)), log_step=st.integers(0, 4), seed=st.integers(0, 99))
def test_majority_and_max_are_counts_of_each_cell(cells: tuple[int, int], log_step: int, seed: int) -> None:
    step = 1 << log_step
    density = torch.rand(2, cells[0], cells[1], generator=_seeded(seed)).kron(torch.ones(1, step, step))
    mask = (torch.rand(density.shape, generator=_seeded(seed + 1)) < density).to(torch.uint8)
    counts = mask.reshape(2, cells[0], step, cells[1], step).sum(dim=(2, 4))
    assert torch.equal(downsample_mask(mask, cells, "majority"), (2 * counts > step**2).to(torch.uint8))
    assert torch.equal(downsample_mask(mask, cells, "max"), (counts > 0).to(torch.uint8))


def test_majority_wants_more_than_half_and_max_any() -> None:
    mask = torch.zeros(1, 4, 16, dtype=torch.uint8)
    mask[:, :2, 4:8] = 1  # exactly half of the second cell
    mask[:, :2, 8:12] = 1
    mask[:, 2, 8] = 1  # one more than half of the third
    mask[:, 3, 15] = 1  # one pixel of the fourth
    assert downsample_mask(mask, (1, 4), "majority").tolist() == [[[0, 0, 1, 0]]]
    assert downsample_mask(mask, (1, 4), "max").tolist() == [[[0, 1, 1, 1]]]


@pytest.mark.parametrize("method", METHODS)
def test_labels_stay_hard_in_the_type_and_size_asked_for(method: MaskDownsampling) -> None:
    mask = torch.randint(0, 2, (2, 64, 96), dtype=torch.uint8, generator=_seeded(0))
    small = downsample_mask(mask, (4, 6), method)
    assert small.shape == (2, 4, 6)
    assert small.dtype == torch.uint8
    assert ((small == 0) | (small == 1)).all()
    assert torch.equal(downsample_mask(mask, (64, 96), method), mask)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0, 1])
def test_a_constant_mask_stays_constant(method: MaskDownsampling, value: int) -> None:
    assert (downsample_mask(torch.full((1, 32, 32), value, dtype=torch.uint8), (2, 2), method) == value).all()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Network inputs of 64 px and their masks, with tumor down to psi_0."""
    mask = torch.zeros(2, 64, 64, dtype=torch.uint8)
    mask[:, 10:50, 20:60] = 1
    return torch.randn(2, 3, 64, 64, generator=_seeded(6)), mask


def _scores(setting: Setting, images: Tensor) -> ScoreMaps:
    torch.manual_seed(0)
    scores: ScoreMaps = DeeplySupervisedUNet(setting, width=4)(images)
    return scores


def test_deep_supervision_is_the_plain_sum_over_all_psi(batch: tuple[Tensor, Tensor]) -> None:
    images, mask = batch
    scores = _scores("resnet34_ds", images)
    found = losses("resnet34_ds", scores, mask, gamma=2, method="nearest-exact")
    expected = {}
    for block, psi in enumerate(outputs_of("resnet34_ds")):
        step = 1 << (4 - block)
        target = mask[:, step // 2 :: step, step // 2 :: step]
        expected[psi] = focal_loss(scores[psi], target, gamma=2)
    assert list(found) == list(expected)
    for psi, loss in expected.items():
        torch.testing.assert_close(found[psi], loss)


def test_a_step_of_deep_supervision_follows_the_plain_sum_of_five_losses() -> None:
    """All weights 1: the gradient of the training step is that of the formula, summed."""
    found, means = training_step.gradients(Ranks(), micro_batch=training_step.GLOBAL_BATCH)
    images, masks = training_step._global_batch()
    torch.manual_seed(0)
    network = DeeplySupervisedUNet("resnet34_ds", width=4).eval().double()
    scores = network(to_network_input(images).double())
    total = torch.zeros((), dtype=torch.float64)
    for block in range(5):
        step = 1 << (4 - block)
        loss = _in_powers(scores[f"psi_{block}"], masks[:, step // 2 :: step, step // 2 :: step], gamma=2)
        assert means[f"psi_{block}"] == pytest.approx(loss.item(), rel=1e-10)
        total = total + loss
    parameters = dict(network.named_parameters())
    expected = dict(zip(parameters, torch.autograd.grad(total, list(parameters.values())), strict=True))
    assert training_step.largest_difference(found, expected) < 1e-9


@pytest.mark.parametrize("setting", [setting for setting in SETTINGS if setting != "resnet34_ds"])
def test_other_settings_supervise_the_final_output_alone(setting: Setting, batch: tuple[Tensor, Tensor]) -> None:
    images, mask = batch
    scores = _scores(setting, images)
    final = outputs_of(setting)[-1]
    assert list(supervised_outputs(setting)) == [final]
    found = losses(setting, scores, mask, gamma=2, method="nearest-exact")
    assert list(found) == [final]
    torch.testing.assert_close(found[final], focal_loss(scores[final], mask, gamma=2))


def test_pi_l_follows_the_method_asked_for(batch: tuple[Tensor, Tensor]) -> None:
    images, _ = batch
    mask = torch.zeros(2, 64, 64, dtype=torch.uint8)
    mask[:, 0, 0] = 1
    scores = _scores("resnet34_ds", images)
    by_method = {method: losses("resnet34_ds", scores, mask, gamma=2, method=method) for method in METHODS}
    assert by_method["max"]["psi_0"] != by_method["majority"]["psi_0"]
    assert by_method["nearest-exact"]["psi_0"] == by_method["majority"]["psi_0"]
    assert by_method["max"]["psi_4"] == by_method["majority"]["psi_4"]
