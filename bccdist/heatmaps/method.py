"""The way in which heatmaps are made: tiling, blending, precision, engine, exit, cascade, nothing left open."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from bccdist.configuration import Blending, Engine, InferConfig, Precision, Tiling
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.layout import PAPER, Layout, dense_layout
from bccdist.networks.engines import Arithmetic, resolve_engine


@dataclass(frozen=True, kw_only=True)
class Method:
    """How heatmaps are made; the defaults are the paper's way."""

    tiling: Tiling = "paper"
    halo_px: int = 0
    """Margin of a dense patch that is computed and not kept."""
    blending: Blending = "mean"
    precision: Precision = "float32"
    engine: Engine
    """It gives the same numbers but for rounding, so it does not name the heatmap."""
    exit: Literal["psi_0"] | None = None
    band: tuple[float, float] | None = None
    """The later blocks are computed where psi_0's probability lies within it; None computes them everywhere."""
    int8_sha256: str | None = None
    """Names the int8 weights, which follow from the patches that their ranges were taken from."""

    @classmethod
    def of(
        cls,
        config: InferConfig,
        device: torch.device,
        *,
        band: tuple[float, float] | None = None,
        encoder: str = "",
    ) -> Self:
        """What a configuration without `auto` means on a device.

        Args:
            config: its tiling, precision and halo are no longer open.
            device: where the network runs; an engine `auto` is the fastest that is installed for it.
            band: of the cascade.
            encoder: of the network, where it is timm's.

        Raises:
            ConfigurationError: something is still open, or is not possible on the device.
        """
        if config.tiling == "auto" or config.precision == "auto":
            raise ConfigurationError(
                f"tiling is {config.tiling!r} and precision {config.precision!r}, expected none of them to be 'auto', "
                "which only a speed-up record resolves; run `python jobs/launch_calibrate.py` first"
            )
        is_dense = config.tiling == "dense"
        return cls(
            tiling=config.tiling,
            halo_px=config.halo_px or 0 if is_dense else 0,
            # Dense patches do not overlap, so there is nothing to blend.
            blending="mean" if is_dense else config.blending,
            precision=config.precision,
            engine=resolve_engine(config.precision, config.engine, device, encoder=encoder),
            exit=config.exit,
            band=band,
        )

    @property
    def arithmetic(self) -> Arithmetic:
        """Precision and engine."""
        return Arithmetic(precision=self.precision, engine=self.engine)

    def layout(self, cells: NDArray[np.bool_]) -> Layout:
        """Where patches lie on a slide with tissue in these cells, bool [rows, cols]."""
        return PAPER if self.tiling == "paper" else dense_layout(self.halo_px, cells)

    @property
    def names_heatmap(self) -> dict[str, Any]:
        """All of it that shapes a heatmap."""
        return {name: value for name, value in asdict(self).items() if name != "engine"}

    @property
    def pieces(self) -> tuple[str, ...]:
        """The pieces of the network that it runs (`bccdist.heatmaps.predictors.piece_of`)."""
        if self.exit:
            return ("first",)
        return ("first-with-features", "later") if self.band else ("whole",)
