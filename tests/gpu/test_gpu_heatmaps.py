"""Heatmaps on a GPU: every engine gives float32 eager's of the CPU, in any thread, with memory that a slide bounds."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from heatmap_slides import MPP, grey_picture, write_slide
from numpy.typing import NDArray
from torch import Tensor

from bccdist.configuration import Psi
from bccdist.heatmaps.layout import PAPER
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import PredictionTally, SlidePass, predict_rows
from bccdist.heatmaps.predictors import make_predictor
from bccdist.networks.engines import Arithmetic, candidates, make_runner
from bccdist.networks.inference import WholeNetwork
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.slides.slide import Slide
from bccdist.speedups.probes import machine_of, probe_sha256

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]
CPU = torch.device("cpu")
BATCH = 16
Heatmap = dict[Psi, NDArray[np.uint8]]


@pytest.fixture(scope="module")
def network() -> DeeplySupervisedUNet:
    """With batch statistics that are not those of a fresh network, and scores whose sizes spread probabilities."""
    torch.manual_seed(0)
    network = DeeplySupervisedUNet("resnet34_linear", width=16).train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(3):
            patches = torch.randint(0, 256, (2, 128, 128, 3), generator=generator, dtype=torch.uint8)
            network(to_network_input(patches))
        for head in network.heads.values():
            head.weight.mul_(8)
    return network.eval()


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 x 7 cells, 48 overlapping patches: full batches and others."""
    return write_slide(tmp_path_factory.mktemp("slide") / "slide.tif", grey_picture(7 * 256, 5 * 256))


def _heatmap(
    network: DeeplySupervisedUNet, path: Path, method: Method, device: torch.device
) -> tuple[Heatmap, PredictionTally]:
    predictor = make_predictor(network, method, device=device, int8_file=Path)
    return _predicted(path, SlidePass(predictors=[predictor], batch=BATCH, device=device))


def _predicted(path: Path, how: SlidePass) -> tuple[Heatmap, PredictionTally]:
    tally = PredictionTally.of(how)
    with Slide(path, target_mpp=MPP) as slide:
        cells = np.ones((-(-slide.height_px // 256), -(-slide.width_px // 256)), dtype=bool)
        rows = list(predict_rows(slide, cells, how, tally))
    outputs = how.predictors[0].outputs
    return {psi: np.concatenate([row.maps[0][psi] for row in rows]) for psi in outputs}, tally


@pytest.fixture(scope="module")
def expected(network: DeeplySupervisedUNet, slide_path: Path) -> Heatmap:
    """Float32 eager on the CPU."""
    found, _ = _heatmap(network, slide_path, Method(engine="eager"), CPU)
    assert np.ptp(found["merged"]) > 20
    return found


def test_all_engines_of_a_gpu_are_there(gpu: torch.device) -> None:
    found = {str(each) for each in candidates(gpu)}
    assert {"float32 eager", "float32 folded", "float32 compiled", "bf16 folded", "bf16 compiled"} <= found


@pytest.mark.parametrize("engine", ["eager", "folded", "compiled"])
def test_a_float32_heatmap_is_the_cpus_within_a_step(
    engine: str, network: DeeplySupervisedUNet, slide_path: Path, expected: Heatmap, gpu: torch.device
) -> None:
    found, tally = _heatmap(network, slide_path, Method(engine=engine), gpu)  # type: ignore[arg-type]
    for psi, pixels in expected.items():
        # Rounding of 1e-5 can take a probability over the edge between two of the 255 stored steps.
        assert np.abs(found[psi].astype(int) - pixels).max() <= 1, psi
    assert tally.network_s[0] > 0


@pytest.mark.parametrize("engine", ["folded", "compiled"])
def test_a_bf16_heatmap_is_near(
    engine: str, network: DeeplySupervisedUNet, slide_path: Path, expected: Heatmap, gpu: torch.device
) -> None:
    found, _ = _heatmap(network, slide_path, Method(engine=engine, precision="bf16"), gpu)  # type: ignore[arg-type]
    for psi, pixels in expected.items():
        difference = np.abs(found[psi].astype(int) - pixels)
        # 8 bits through some 45 layers: about 1 % of a score's spread, some steps of 255 in the mean.
        assert difference.mean() < 4, psi
        assert np.percentile(difference, 99.9) < 32, psi


def test_dense_patches_and_a_cascade_are_the_cpus(
    network: DeeplySupervisedUNet, slide_path: Path, gpu: torch.device
) -> None:
    for method in (Method(engine="folded", tiling="dense", halo_px=64), Method(engine="folded", band=(0.45, 0.55))):
        found, _ = _heatmap(network, slide_path, method, gpu)
        expected, _ = _heatmap(network, slide_path, method, CPU)
        for psi, pixels in expected.items():
            difference = np.abs(found[psi].astype(int) - pixels)
            # A patch at the very edge of the band may be decided otherwise; then its pixels are psi_0's.
            assert np.percentile(difference, 99) <= 1, (method, psi)


def test_a_compiled_network_gives_the_same_in_every_slides_thread(
    network: DeeplySupervisedUNet, slide_path: Path, gpu: torch.device
) -> None:
    predictor = make_predictor(network, Method(engine="compiled", precision="bf16"), device=gpu, int8_file=Path)
    how = SlidePass(predictors=[predictor], batch=BATCH, device=gpu)
    first, second = (_predicted(slide_path, how)[0] for _ in range(2))
    # No tolerance: each slide has threads of its own, and the same kernels.
    assert all((first[psi] == second[psi]).all() for psi in first)


def _in_thread(work: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the test raises it
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_the_last_gpu_computes_and_is_timed_in_a_thread(
    network: DeeplySupervisedUNet, slide_path: Path, expected: Heatmap
) -> None:
    last = torch.device("cuda", torch.cuda.device_count() - 1)

    def work() -> None:
        found, tally = _heatmap(network, slide_path, Method(engine="folded"), last)
        assert np.abs(found["merged"].astype(int) - expected["merged"]).max() <= 1
        assert tally.network_s[0] > 0

    _in_thread(work)


def _patches(num: int, gpu: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(num)
    return torch.randint(0, 256, (num, 512, 512, 3), generator=generator, dtype=torch.uint8).to(gpu)


@pytest.mark.parametrize("arithmetic", ["float32 eager", "float32 folded", "bf16 folded"])
def test_a_batch_is_not_waited_for_and_can_be_captured(
    arithmetic: str, network: DeeplySupervisedUNet, gpu: torch.device
) -> None:
    precision, engine = arithmetic.split()
    runner = make_runner(
        WholeNetwork(network),
        Arithmetic(precision=precision, engine=engine),  # type: ignore[arg-type]
        device=gpu,
    )
    patches = _patches(4, gpu)
    expected = runner(patches)
    stream = torch.cuda.Stream(gpu)
    stream.wait_stream(torch.cuda.current_stream(gpu))
    with torch.cuda.stream(stream):
        for _ in range(3):
            runner(patches)
    torch.cuda.current_stream(gpu).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # refuses whatever waits for the GPU, or copies from the CPU's own memory
        found = runner(patches)
    graph.replay()
    # No tolerance: the same kernels.
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_memory_does_not_grow_with_a_slides_height(
    network: DeeplySupervisedUNet, gpu: torch.device, tmp_path: Path
) -> None:
    peaks = []
    for height_cells in (8, 24):
        path = write_slide(tmp_path / f"{height_cells}.tif", grey_picture(1024, height_cells * 256))
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(gpu)
        _heatmap(network, path, Method(engine="folded"), gpu)
        peaks.append(torch.cuda.max_memory_allocated(gpu))
    # The same rows of cells are held; the allocator's blocks may differ by a little.
    assert peaks[1] <= 1.05 * peaks[0]


@pytest.mark.parametrize("engine", ["eager", "folded"])
def test_probes_give_the_same_digest_after_larger_batches(
    engine: str, network: DeeplySupervisedUNet, gpu: torch.device
) -> None:
    method = Method(engine=engine)  # type: ignore[arg-type]
    fresh, used = (make_predictor(network, method, device=gpu, int8_file=Path) for _ in range(2))
    used(_patches(BATCH, gpu))
    # No tolerance: a speed-up record is refused where this digest is another.
    assert probe_sha256(fresh, gpu) == probe_sha256(used, gpu)
    assert machine_of(gpu).device_type == "cuda"
    assert PAPER.patch_px == 512
