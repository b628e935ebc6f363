"""The four networks have the paper's size, cost and shapes, and the linear merge is its eq. 2."""

import re
from collections import Counter

import pytest
import torch
from functional_networks import (
    RESNET34,
    State,
    decoder_scores,
    merged_scores,
    plain_features,
    resnet_features,
)
from torch import Tensor, nn

from bccdist.configuration import NUM_BLOCKS, SETTINGS, Setting, outputs_of, psi_name
from bccdist.networks.encoders import PlainEncoder, ResNet34Encoder
from bccdist.networks.unet import (
    DecoderBlock,
    DeeplySupervisedUNet,
    linear_merge,
    num_parameters,
    tumor_probability,
)

NUM_PARAMETERS: dict[Setting, int] = {
    "unet": 31_383_298,
    "resnet34": 24_436_258,
    "resnet34_ds": 24_437_226,
    "resnet34_linear": 24_437_226 + NUM_BLOCKS,
}
GIGA_MACS: dict[Setting, tuple[float, ...]] = {
    "unet": (24.8, 34.4, 44.1, 53.8, 61.0),
    "resnet34_ds": (21.6, 24.0, 26.4, 29.4, 31.2),
}
DECODER_CHANNELS: dict[Setting, tuple[int, ...]] = {
    "unet": (512, 256, 128, 64, 32),
    "resnet34_ds": (256, 128, 64, 32, 16),
}


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def _paper_network(setting: Setting) -> DeeplySupervisedUNet:
    """Full width, without memory for its weights."""
    with torch.device("meta"):
        return DeeplySupervisedUNet(setting)


def _meta_patch() -> Tensor:
    return torch.empty(1, 3, 512, 512, device="meta")


def _small_network(setting: Setting, *, width: int = 4) -> DeeplySupervisedUNet:
    torch.manual_seed(0)
    return DeeplySupervisedUNet(setting, width=width).eval()


def _five_scores(*, side_px: int) -> list[Tensor]:
    """Random score maps of eq. 2, coarsest first."""
    generator = torch.Generator().manual_seed(1)
    sides = [side_px >> (NUM_BLOCKS - 1 - block) for block in range(NUM_BLOCKS)]
    return [torch.randn(2, 2, side, side, generator=generator) for side in sides]


@pytest.mark.parametrize("setting", SETTINGS)
def test_number_of_parameters_is_the_papers(setting: Setting) -> None:
    assert num_parameters(_paper_network(setting)) == NUM_PARAMETERS[setting]


def test_plain_encoder_with_five_heads() -> None:
    other_heads = sum(num_parameters(nn.Conv2d(channels, 2, 1)) for channels in DECODER_CHANNELS["unet"][:-1])
    assert num_parameters(_paper_network("unet")) + other_heads == 31_385_226


def test_encoders_alone_have_the_papers_size() -> None:
    assert num_parameters(PlainEncoder(64)) == 18_817_856
    assert num_parameters(ResNet34Encoder(64)) == 21_284_672


@pytest.mark.parametrize("setting", GIGA_MACS)
def test_multiply_accumulates_up_to_each_psi_are_the_papers(setting: Setting) -> None:
    network = _paper_network(setting)
    macs: Counter[str] = Counter()
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda conv, _, out, name=name: macs.update({name: out.numel() * conv.weight[0].numel()})
            )
    network(_meta_patch())
    total = _below(macs, "encoder.")
    for block, giga_macs in enumerate(GIGA_MACS[setting]):
        total += _below(macs, f"blocks.{block}.")
        head = 512**2 // 4 ** (NUM_BLOCKS - 1 - block) * 2 * DECODER_CHANNELS[setting][block]
        assert (total + head) / 1e9 == pytest.approx(giga_macs, abs=0.05)


def _below(macs: Counter[str], prefix: str) -> int:
    return sum(count for name, count in macs.items() if name.startswith(prefix))


@pytest.mark.parametrize("setting", SETTINGS)
def test_outputs_of_a_patch(setting: Setting) -> None:
    scores = _paper_network(setting)(_meta_patch())
    assert tuple(scores) == outputs_of(setting)
    sizes = {psi_name(block): 32 << block for block in range(NUM_BLOCKS)} | {"merged": 512}
    assert {psi: tuple(score.shape) for psi, score in scores.items()} == {
        psi: (1, 2, sizes[psi], sizes[psi]) for psi in outputs_of(setting)
    }


@pytest.mark.parametrize("setting", SETTINGS)
def test_outputs_of_a_small_wide_image(setting: Setting) -> None:
    scores = _small_network(setting)(torch.randn(2, 3, 64, 96))
    final = next(reversed(scores))
    assert final == ("merged" if setting == "resnet34_linear" else "psi_4")
    assert scores[final].shape == (2, 2, 64, 96)
    if "psi_0" in scores:
        assert scores["psi_0"].shape == (2, 2, 4, 6)
    assert all(score.isfinite().all() for score in scores.values())


@pytest.mark.parametrize("setting", GIGA_MACS)
def test_encoder_and_decoder_halve_and_double(setting: Setting) -> None:
    network = _paper_network(setting)
    shapes: list[tuple[int, ...]] = []
    for block in network.blocks:
        block.register_forward_hook(lambda _module, _input, out: shapes.append(tuple(out.shape[1:])))
    features = [tuple(feature.shape[1:]) for feature in network.encoder(_meta_patch())]
    network(_meta_patch())
    deep = 512 if setting == "resnet34_ds" else 1024
    stem_and_next = (64, 64) if setting == "resnet34_ds" else (64, 128)
    encoder_channels = (*stem_and_next, deep // 4, deep // 2, deep)
    assert features == [(channels, 256 >> at, 256 >> at) for at, channels in enumerate(encoder_channels)]
    assert shapes == [(channels, 32 << at, 32 << at) for at, channels in enumerate(DECODER_CHANNELS[setting])]


def test_plain_encoder_strides_instead_of_pooling() -> None:
    network = _paper_network("unet")
    assert not any("pool" in type(module).__name__.lower() for module in network.modules())
    convs = [module for module in network.encoder.modules() if isinstance(module, nn.Conv2d)]
    assert [(conv.kernel_size[0], conv.stride[0]) for conv in convs] == [(7, 2)] + [(3, 2), (3, 1)] * 4


def test_resnet34_has_its_one_pool_and_its_blocks() -> None:
    encoder = ResNet34Encoder(8)
    assert sum(isinstance(module, nn.MaxPool2d) for module in encoder.modules()) == 1
    layers = (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4)
    assert [len(layer) for layer in layers] == [3, 4, 6, 3]
    assert {"conv1.weight", "bn1.running_mean", "layer2.0.downsample.0.weight"} <= set(encoder.state_dict())


@pytest.mark.parametrize("setting", SETTINGS)
def test_only_the_heads_have_a_bias(setting: Setting) -> None:
    network = _paper_network(setting)
    convs = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    heads = {name for name, conv in convs.items() if conv.bias is not None}
    assert heads == {f"heads.{psi}" for psi in outputs_of(setting) if psi != "merged"}
    num_norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert num_norms == len(convs) - len(heads)


@pytest.mark.parametrize("setting", SETTINGS)
def test_width_scales_every_block(setting: Setting) -> None:
    half, full = _norm_channels(setting, 32), _norm_channels(setting, 64)
    assert full == [2 * channels for channels in half]


def _norm_channels(setting: Setting, width: int) -> list[int]:
    """Every conv that is followed by a BN, by its filters."""
    with torch.device("meta"):
        network = DeeplySupervisedUNet(setting, width=width)
    return [module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def test_a_decoder_block_upsamples_with_half_pixel_centres() -> None:
    block = DecoderBlock(1, 1, 4)
    block.convs = nn.Sequential()
    out = block(torch.tensor([[[[0.0, 1.0]]]]), torch.full((1, 1, 2, 4), 7.0))
    assert out[0, 0].tolist() == [[0.0, 0.25, 0.75, 1.0]] * 2
    assert (out[0, 1] == 7).all()


def test_linear_merge_is_eq_2() -> None:
    scores, weights = _five_scores(side_px=64), torch.tensor([0.1590, -0.1645, 0.1603, -0.2963, 0.0036])
    expected = merged_scores([score.double() for score in scores], weights.double())
    merged = linear_merge(scores, weights)
    torch.testing.assert_close(merged.double(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(tumor_probability(merged).double(), expected.softmax(dim=1)[:, 1], atol=1e-6, rtol=0)


def test_the_standard_model_is_a_special_case_of_the_merge() -> None:
    scores = _five_scores(side_px=32)
    assert torch.equal(linear_merge(scores, torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])), scores[-1])


def test_the_merged_output_merges_the_other_outputs() -> None:
    network = _small_network("resnet34_linear")
    scores = network(torch.randn(1, 3, 64, 64))
    *psis, merged = scores.values()
    assert torch.equal(merged, linear_merge(psis, network.merge_weights))
    gradient = torch.autograd.grad(merged.square().mean(), network.merge_weights)[0]
    assert gradient.shape == (NUM_BLOCKS,)
    assert (gradient != 0).all()


def test_merge_weights_start_small_and_random() -> None:
    starts = torch.stack([DeeplySupervisedUNet("resnet34_linear", width=4).merge_weights for _ in range(40)])
    assert 0.07 < starts.std().item() < 0.13
    assert not hasattr(DeeplySupervisedUNet("resnet34_ds", width=4), "merge_weights")


def test_tumor_probability_is_the_softmax() -> None:
    scores = torch.randn(3, 2, 8, 12, dtype=torch.float64) * 20
    torch.testing.assert_close(tumor_probability(scores), scores.softmax(dim=1)[:, 1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("setting", SETTINGS)
def test_equal_seeds_give_equal_networks(setting: Setting) -> None:
    first, second = _small_network(setting), _small_network(setting)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("width", [4, 16])
def test_the_memory_format_of_the_input_does_not_matter(width: int) -> None:
    network = _small_network("resnet34_ds", width=width)
    images = torch.randn(2, 3, 64, 64)
    first, last = (network(images.to(memory_format=form)) for form in (torch.contiguous_format, torch.channels_last))
    assert all(torch.equal(first[psi], last[psi]) for psi in first)


def _generic_network(setting: Setting) -> DeeplySupervisedUNet:
    """Float64, and its batch normalisation is no identity, as it would be at the start."""
    network = _small_network(setting, width=4).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low in ((module.weight, 0.5), (module.running_var, 0.5), (module.bias, -0.2)):
                    assert tensor is not None
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
                assert module.running_mean is not None
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.2)
    return network


def _functional_name(name: str) -> str:
    """Of a tensor of the library's network in the second one."""
    if found := re.fullmatch(r"blocks\.(\d)\.convs\.(\d)\.(\d)\.(\w+)", name):
        block, conv, layer, tensor = found.groups()
        return f"decoder.{block}.{'conv' if layer == '0' else 'bn'}{int(conv) + 1}.{tensor}"
    return name.removeprefix("encoder.")


def _functional_state(network: DeeplySupervisedUNet) -> State:
    """Copies of all tensors; those that are trained get gradients."""
    trained = dict(network.named_parameters())
    return {
        _functional_name(name): tensor.clone().requires_grad_(name in trained)
        for name, tensor in network.state_dict().items()
    }


def _functional_scores(setting: Setting, state: State, images: Tensor, *, training: bool) -> State:
    if setting == "unet":
        features = plain_features(state, images, training=training)
    else:
        features = resnet_features(state, RESNET34, images, training=training)
    scores = decoder_scores(state, features, training=training)
    if setting == "resnet34_linear":
        scores["merged"] = merged_scores(list(scores.values()), state["merge_weights"])
    return scores


def _backward(scores: State) -> None:
    """From a sum in which every score has a factor of its own."""
    generator = torch.Generator().manual_seed(3)
    factors = {psi: torch.randn(score.shape, generator=generator).to(score) for psi, score in scores.items()}
    torch.stack([(factors[psi] * score).mean() for psi, score in scores.items()]).sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_network_is_the_one_written_in_functions(setting: Setting, training: bool) -> None:
    network = _generic_network(setting).train(training)
    state = _functional_state(network)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found, expected = network(images), _functional_scores(setting, state, images, training=training)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    _backward(found)
    _backward(expected)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.any(), name
        torch.testing.assert_close(parameter.grad, state[_functional_name(name)].grad, rtol=1e-7, atol=1e-10)
    for name, buffer in network.named_buffers():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(buffer, state[_functional_name(name)], rtol=1e-9, atol=1e-11)
