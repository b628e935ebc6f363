"""MNN's sessions: the same bits by any number of threads, small rounding at any size, faults in words."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bccdist.errors import ConfigurationError
from bccdist.networks import mnn_engine
from bccdist.networks.folding import folded
from bccdist.networks.inference import WholeNetwork
from bccdist.networks.inputs import to_network_input
from bccdist.networks.mnn_engine import MnnRunner
from bccdist.networks.unet import DeeplySupervisedUNet

ROUNDING = 5e-5
"""Of probabilities, on patches of the paper's size; MNN's own choice for that size had 4e-3."""


@pytest.fixture
def threads() -> Callable[[int], None]:
    """Set torch's number of threads, which a runner takes for its own."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def _module(width: int = 8) -> nn.Module:
    torch.manual_seed(0)
    network = DeeplySupervisedUNet("resnet34_ds", width=width).train()
    with torch.no_grad():
        for _ in range(3):
            network(to_network_input(_patches(2, 128)))
    return folded(WholeNetwork(network.eval()))


def _patches(num: int, edge_px: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randint(0, 256, (num, 3, edge_px // 8, edge_px // 8), generator=generator).float()
    smooth = nn.functional.interpolate(coarse, size=(edge_px, edge_px), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).to(torch.uint8).contiguous()


def _are_equal(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_threads_and_earlier_sizes_change_no_bit(threads: Callable[[int], None]) -> None:
    module, patches = _module(), _patches(3, 128)
    found = []
    for num_threads, earlier_px in ((1, 128), (2, 64), (4, 192)):
        threads(num_threads)
        runner = MnnRunner(module)
        runner(_patches(1, earlier_px))
        found.append(runner(patches))
    assert _are_equal(found[0], found[1])
    assert _are_equal(found[0], found[2])


def test_several_threads_may_call_one_runner(threads: Callable[[int], None]) -> None:
    threads(2)
    runner = MnnRunner(_module())
    sizes = (64, 128, 96, 160) * 2
    expected = [runner(_patches(2, edge_px)) for edge_px in sizes]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda edge_px: runner(_patches(2, edge_px)), sizes))
    assert all(_are_equal(one, other) for one, other in zip(found, expected, strict=True))


class _Watched:
    """An interpreter of MNN, and whether it is computing."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self.is_computing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._interpreter, name)

    def runSession(self, session: Any) -> int:  # noqa: N802 (MNN's name)
        self.is_computing = True
        code = int(self._interpreter.runSession(session))
        self.is_computing = False
        return code


def test_no_session_waits_for_another(threads: Callable[[int], None]) -> None:
    """Sessions of one interpreter would: no small patch would be computed before the large one is."""
    threads(2)
    runner = MnnRunner(_module(width=16))
    runner(_patches(2, 64))
    slow, quick = runner._idle.get(), runner._idle.get()
    watched = slow._interpreter = _Watched(slow._interpreter)
    large, small = (_patches(1, edge_px).float().numpy() for edge_px in (1024, 64))
    num_meanwhile = 0
    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(slow, [large])
        while not computing.done():
            was_computing = watched.is_computing
            quick([small])
            num_meanwhile += was_computing and watched.is_computing
    assert num_meanwhile >= 5


def test_nothing_is_printed_and_no_file_stays_open_or_behind(tmp_path: Path) -> None:
    """In a process of its own, because C writes what it holds at its end."""
    code = """
import gc, os, tempfile, torch
from pathlib import Path
from torch import nn
from bccdist.networks.mnn_engine import MnnRunner
def files():
    return [each for each in Path("/dev/fd").iterdir() if "bccdist-mnn" in os.path.realpath(each)]
torch.set_num_threads(2)
runner = MnnRunner(nn.Conv2d(8, 2, 3, padding=1))
runner(torch.rand(2, 8, 64, 64))
held = len(files())
del runner
gc.collect()
print(held, len(files()), list(Path(tempfile.gettempdir()).iterdir()))
"""
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "2 0 []\n", "")


def test_rounding_stays_small_on_patches_of_the_papers_size() -> None:
    module, patches = _module(width=16), _patches(1, 512)
    with torch.no_grad():
        expected = module(patches)
    found = MnnRunner(module)(patches)
    assert max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True)) < ROUNDING


def test_a_size_that_the_network_cannot_take_is_an_error_and_the_next_one_is_computed() -> None:
    runner = MnnRunner(_module())
    expected = runner(_patches(1, 64))
    with pytest.raises(ConfigurationError, match=r"MNN ended with code 3 for inputs of \[\(1, 72, 72, 3\)\]"):
        runner(_patches(1, 72))
    assert _are_equal(runner(_patches(1, 64)), expected)


def test_a_converter_that_fails_is_told_by_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnn_engine, "_CONVERT", "import sys; print('no such layer'); sys.exit(3)")
    with pytest.raises(ConfigurationError, match=r"converter ended with 3 .* no such layer; set engine to auto"):
        MnnRunner(_module())(_patches(1, 64))


def test_nothing_of_mnn_is_imported_before_a_network_is_run() -> None:
    """Its module MNN.tools reports to its makers and installs a package, so nothing may import it at all."""
    text = Path(mnn_engine.__file__).read_text(encoding="utf-8")
    assert "import MNN.tools" not in text
    MnnRunner(_module())(_patches(1, 64))
    assert not [name for name in sys.modules if name.startswith("MNN.tools")]
