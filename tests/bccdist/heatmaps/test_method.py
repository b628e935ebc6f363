"""A configuration without anything open becomes one method, and what shapes a heatmap names it."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from bccdist.configuration import InferConfig
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.layout import PAPER
from bccdist.heatmaps.method import Method

_CPU = torch.device("cpu")
_EVERYWHERE = np.ones((8, 8), dtype=bool)


def test_the_default_is_the_papers_way() -> None:
    method = Method.of(InferConfig(engine="eager"), _CPU)
    assert method == Method(engine="eager")
    assert method.layout(_EVERYWHERE) == PAPER
    assert method.pieces == ("whole",)


def test_a_halo_of_ones_own_needs_no_speedup_record() -> None:
    config = InferConfig(tiling="dense", halo_px=96, blending="hann")
    assert not config.needs_speedups
    method = Method.of(config, _CPU)
    assert method.layout(_EVERYWHERE).patch_px == 4 * 256 + 2 * 96
    assert method.blending == "mean"  # dense patches do not overlap


@pytest.mark.parametrize("asked", [{"tiling": "auto"}, {"precision": "auto"}])
def test_what_is_still_open_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="'auto', which only a speed-up record resolves"):
        Method.of(InferConfig(**asked), _CPU)


def test_what_names_a_heatmap_is_all_but_the_engine() -> None:
    first, second = (Method(engine=engine) for engine in ("eager", "folded"))  # type: ignore[arg-type]
    assert first.names_heatmap == second.names_heatmap
    assert set(asdict(first)) - set(first.names_heatmap) == {"engine"}
