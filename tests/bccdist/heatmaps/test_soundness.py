"""What is no probability never becomes a heatmap: slide, patch, output and layer are named."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heatmap_slides import ALL_PSIS, MPP, PlainPredictor, grey_picture, write_slide
from torch import Tensor, nn

from bccdist.configuration import Blending, Psi, pixel_px
from bccdist.errors import NotFiniteError
from bccdist.heatmaps.layout import PAPER, Layout, dense_layouts
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import PredictionTally, SlidePass, predict_rows
from bccdist.heatmaps.predictors import make_predictor
from bccdist.heatmaps.stitching import are_probabilities, to_steps
from bccdist.networks import engines
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.slides.slide import Slide

pytestmark = pytest.mark.usefixtures("one_torch_thread")
_CPU = torch.device("cpu")
_SIZE_PX = (1100, 600)


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "slide-7.tif", grey_picture(*_SIZE_PX))


class _Unsound:
    """Gives 0.25, but for one number in the patch that comes second."""

    def __init__(self, value: float, psi: Psi = "psi_4") -> None:
        self.outputs = ALL_PSIS
        self.num_seen = 0
        self._value = value
        self._psi = psi
        self._bad: Tensor | None = None

    def __call__(self, patches_NPP3: Tensor) -> dict[Psi, Tensor]:
        num, edge = len(patches_NPP3), patches_NPP3.shape[1]
        found = {psi: torch.full((num, edge // pixel_px(psi), edge // pixel_px(psi)), 0.25) for psi in self.outputs}
        for number, patch in enumerate(patches_NPP3):
            self.num_seen += 1
            if self._bad is None and self.num_seen == 2:
                self._bad = patch.clone()
            if self._bad is not None and torch.equal(patch, self._bad):
                middle = found[self._psi].shape[-1] // 2
                found[self._psi][number, middle, middle] = self._value
        return found


def _predict(path: Path, predictor: Any, *, layout: Layout = PAPER, blending: Blending = "mean") -> None:
    how = SlidePass(predictors=[predictor], layout=layout, blending=blending, batch=4, device=_CPU)
    with Slide(path, target_mpp=MPP) as slide:
        for _ in predict_rows(slide, np.ones((3, 5), dtype=bool), how, PredictionTally.of(how)):
            pass


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.01, -0.01, 300.0])
@pytest.mark.parametrize("psi", ["psi_0", "psi_4"])
def test_one_wrong_number_is_an_error_that_names_slide_patch_and_output(
    slide_path: Path, value: float, psi: Psi
) -> None:
    with pytest.raises(NotFiniteError, match=rf"slide-7\.tif: the patch at x 0, y -256 px .* has a {psi} that is"):
        _predict(slide_path, _Unsound(value, psi))


@pytest.mark.parametrize("blending", ["mean", "hann", "centre"])
@pytest.mark.parametrize("layout", [PAPER, dense_layouts(64)[0]], ids=["paper", "dense"])
def test_whatever_the_tiling(slide_path: Path, layout: Layout, blending: Blending) -> None:
    with pytest.raises(NotFiniteError, match=r"slide-7\.tif"):
        _predict(slide_path, _Unsound(math.nan), layout=layout, blending=blending)


def _network() -> DeeplySupervisedUNet:
    torch.manual_seed(0)
    network = DeeplySupervisedUNet("resnet34_ds", width=8).eval()
    with torch.no_grad():
        network.get_submodule("blocks.1.convs.0.0").weight[0] = 3e38  # type: ignore[operator, union-attr]
    return network


@pytest.mark.parametrize(
    "changes", [{}, {"band": (0.0, 1.0)}, {"engine": "folded"}, {"engine": "folded", "precision": "bf16"}], ids=str
)
def test_features_that_overflow_on_tissue_name_slide_and_layer(
    slide_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "require_sound", lambda _: None)  # as if noise had not shown it
    method = Method(**{"engine": "eager", **changes})
    predictor = make_predictor(_network(), method, device=_CPU, int8_file=Path)
    with pytest.raises(NotFiniteError, match=r"slide-7\.tif: .*psi_.*it begins in layer blocks\.1\.convs\.0\.0;"):
        _predict(slide_path, predictor)


def test_a_predictor_without_a_known_network_says_so(slide_path: Path) -> None:
    class Nan(nn.Module):
        outputs = ("psi_0",)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"psi_0": torch.full((len(x), 2, 32, 32), math.nan)}

    with pytest.raises(NotFiniteError, match="which layer it begins in is not known"):
        _predict(slide_path, PlainPredictor(Nan()))


@pytest.mark.parametrize("make", [lambda: torch.tensor([0.5, math.nan]), lambda: torch.tensor([[1.1]])])
def test_what_is_no_probability_is_not_stored(make: Callable[[], Tensor]) -> None:
    assert not are_probabilities([torch.zeros(3), make()])
    with pytest.raises(NotFiniteError, match="not stored"):
        to_steps(make())


def test_rounding_beyond_the_ends_is_no_fault() -> None:
    ends = torch.tensor([-1e-7, 0.0, 1.0, 1 + 1e-6])
    assert are_probabilities([ends])
    assert to_steps(ends).tolist() == [0, 0, 255, 255]
