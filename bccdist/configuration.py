"""One configuration per stage; the defaults are the paper's, and a run is what differs from them.

[open] marks what the paper leaves open: the reading given is a default, and each has its own key.
"""

import io
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from bccdist.errors import ConfigurationError
from bccdist.files import digest_of, parse_json
from bccdist.seals import SEAL_KEY, check_seal, write_sealed_json

Setting = Literal["unet", "resnet34", "resnet34_ds", "resnet34_linear"]
SETTINGS: tuple[Setting, ...] = ("unet", "resnet34", "resnet34_ds", "resnet34_linear")
MaskDownsampling = Literal["nearest-exact", "majority", "max"]
Results = Literal["heatmaps", "tables", "report"]
AreaUnit = Literal["physical", "nominal"]
Switch = Literal["auto", "on", "off"]
TrainPrecision = Literal["float32", "tf32", "bf16"]
Precision = Literal["float32", "bf16", "int8"]
Engine = Literal["eager", "folded", "compiled", "openvino", "mnn"]
Tiling = Literal["paper", "dense"]
Blending = Literal["mean", "hann", "centre"]
Inference = Literal["exact", "certified"]
AugmentPlace = Literal["auto", "loader", "device"]
ImageCoding = Literal["jpeg", "png"]
JpegChroma = Literal["444", "422", "420"]
Psi = Literal["psi_0", "psi_1", "psi_2", "psi_3", "psi_4", "merged"]
NUM_BLOCKS = 5
"""Decoder blocks, k in the paper's eq. 1 and 2."""
PATCH_PX = 512
CELL_PX = 256
"""Half a patch: neighbouring patches of a heatmap are this far apart (section 2.4)."""
PHANTOM_WARNING = "PHANTOM DATA - drawn slides, not tissue"
"""The warning in every table and picture of phantom slides."""
PHANTOM_WEIGHTS_WARNING = "PHANTOM WEIGHTS - the network was trained on drawn slides, not on tissue"
"""The warning in every table and picture of what such a network says about real tissue."""


def psi_name(block: int) -> Psi:
    """The name of the output of decoder block `block`, 0 to 4."""
    names: tuple[Psi, ...] = ("psi_0", "psi_1", "psi_2", "psi_3", "psi_4")
    return names[block]


def pixel_px(psi: str) -> int:
    """The edge of one pixel of an output in target-frame pixels: 16 for psi_0, 1 for psi_4 and merged."""
    return 1 if psi == "merged" else 1 << (NUM_BLOCKS - 1 - int(psi.removeprefix("psi_")))


def phantom_warning(*, slides: bool, weights: bool = False) -> str:
    """Say what is not real, the slides or what the network learned from; empty where both are."""
    return PHANTOM_WARNING if slides else PHANTOM_WEIGHTS_WARNING if weights else ""


def outputs_of(setting: Setting) -> tuple[Psi, ...]:
    """The outputs that a setting yields, the final one last: only heads that the loss reached."""
    every = tuple(psi_name(block) for block in range(NUM_BLOCKS))
    if setting == "resnet34_ds":
        return every
    if setting == "resnet34_linear":
        return (*every, "merged")
    return ("psi_4",)


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """How slides become patches."""

    target_mpp: float = 0.92
    """Resolution that the network sees, in um per pixel: 10x of the paper's scanner. [open]"""
    mpp_tolerance: float = 0.1
    """Relative deviation from the wanted um per pixel up to which a level is read without resampling. [open]"""
    stride_px: int = 256
    """Distance between neighbouring patches of Training, in pixels. [open]"""
    validation_stride_px: int = 512
    """Distance between neighbouring patches of Validation I, in pixels. [open]"""
    min_tissue_fraction: float = 0.01
    """Smallest share of tissue, 0 to 1, with which a patch is kept. [open]"""
    image_coding: ImageCoding = "jpeg"
    """Format of stored patches: jpeg, or png, which is lossless and takes five times the space."""
    jpeg_quality: int = 90
    """Quality of stored JPEGs, 1 to 100."""
    jpeg_chroma: JpegChroma = "444"
    """Resolution of colour in stored JPEGs: 444 keeps all of it, 422 half, 420 a quarter."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        _require(0 < self.target_mpp < float("inf"), "target_mpp", self.target_mpp, "above 0")
        _require(0 <= self.mpp_tolerance < 0.5, "mpp_tolerance", self.mpp_tolerance, "at least 0 and below 0.5")
        for name in ("stride_px", "validation_stride_px"):
            _require(0 < getattr(self, name) <= PATCH_PX, name, getattr(self, name), f"1 to {PATCH_PX}")
        _require(0 <= self.min_tissue_fraction <= 1, "min_tissue_fraction", self.min_tissue_fraction, "0 to 1")
        _require(1 <= self.jpeg_quality <= 100, "jpeg_quality", self.jpeg_quality, "1 to 100")
        for name, known in (("image_coding", get_args(ImageCoding)), ("jpeg_chroma", get_args(JpegChroma))):
            _require(getattr(self, name) in known, name, getattr(self, name), f"one of {known}")


@dataclass(frozen=True, kw_only=True)
class DrawCounts:
    """Draws per epoch of each pool of Table 2; None takes the ratio of `BalanceConfig` times the pool's patches."""

    tumor_free: int | None = None
    """Draws per epoch from patches with under 0.05 % of their pixels in Tumornest."""
    tumor: int | None = None
    """Draws per epoch from patches with at least 0.05 % of their pixels in Tumornest."""
    tumor_dense: int | None = None
    """Draws per epoch from patches with at least 10 % of their pixels in Tumornest, in addition."""
    stroma: int | None = None
    """Draws per epoch from patches with at least 0.05 % of their pixels in Stroma, in addition."""
    normal: int | None = None
    """Draws per epoch from patches with at least 0.05 % of their pixels in Normal (look-alikes), in addition."""

    def __post_init__(self) -> None:
        """Refuse negative counts."""
        for name, count in asdict(self).items():
            _require(count is None or count >= 0, f"draws.{name}", count, "at least 0 or None")


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """Table 2: draws per member of each pool and epoch; a ratio of the paper's counts by default."""

    tumor_free: float = 175_771 / 175_771
    """Draws per epoch and patch, from patches with under 0.05 % of their pixels in Tumornest."""
    tumor: float = 30_000 / 9_537
    """Draws per epoch and patch, from patches with at least 0.05 % of their pixels in Tumornest."""
    tumor_dense: float = 10_000 / 5_528
    """Draws per epoch and patch, from patches with at least 10 % of their pixels in Tumornest, in addition."""
    stroma: float = 20_000 / 9_096
    """Draws per epoch and patch, from patches with at least 0.05 % of their pixels in Stroma, in addition."""
    normal: float = 20_000 / 9_458
    """Draws per epoch and patch, from patches with at least 0.05 % of their pixels in Normal (look-alikes), in
    addition."""
    draws: DrawCounts = field(default_factory=DrawCounts)
    """Numbers of draws in place of ratios; a pool has one or the other."""

    def __post_init__(self) -> None:
        """Refuse negative ratios, and a pool with both a ratio of its own and a count."""
        counts = asdict(self.draws)
        defaults = {each.name: each.default for each in fields(self)}
        for name, count in counts.items():
            ratio = getattr(self, name)
            _require(0 <= ratio < float("inf"), name, ratio, "at least 0")
            is_one = count is None or ratio == defaults[name]
            _require(is_one, name, ratio, f"no ratio of its own, because draws.{name} is {count}")

    def num_draws(self, pool: str, *, num_members: int) -> int:
        """Draws per epoch of a pool with so many patches.

        Raises:
            ConfigurationError: a count above 0 is given for a pool without patches.
        """
        count: int | None = getattr(self.draws, pool)
        if count is None:
            ratio: float = getattr(self, pool)
            return round(ratio * num_members)
        expected = "0 or None, because no training patch is in the pool"
        _require(num_members > 0 or count == 0, f"draws.{pool}", count, expected)
        return count


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Ranges of the random changes to training patches (section 2.3); all of them [open]."""

    enabled: bool = True
    """Whether training patches are changed at random; if not, they are used as they are stored."""
    place: AugmentPlace = "auto"
    """Where patches are changed. loader: in the threads that read them; device: in batches where the network is; auto:
    device on a GPU, else loader."""
    rotation_deg: float = 360.0
    """Largest angle of rotation, in degrees; angles are uniform from 0."""
    scale: tuple[float, float] = (0.8, 1.25)
    """Smallest and largest magnification, log-uniform between them."""
    blur_sigma_px: float = 1.5
    """Largest sigma of Gaussian smoothing, in pixels; sigmas are uniform from 0."""
    stain: float = 0.15
    """Largest change of stain: densities of haematoxylin, eosin and residual are each multiplied by 1 -/+ this."""
    brightness: float = 0.05
    """Largest change of brightness: -/+ this is added to every optical density."""
    elastic_px: float = 8.0
    """Strength of the elastic deformation: standard deviation of the displacement at its nodes, in pixels."""
    elastic_grid: int = 8
    """Nodes of the elastic deformation along an edge of the patch."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        _require(0 <= self.rotation_deg <= 360, "rotation_deg", self.rotation_deg, "0 to 360")
        low, high = self.scale
        _require(0 < low <= high < float("inf"), "scale", self.scale, "two numbers above 0, the smaller one first")
        _require(0 <= self.stain < 1, "stain", self.stain, "at least 0 and below 1")
        for name in ("blur_sigma_px", "brightness", "elastic_px"):
            _require(0 <= getattr(self, name) < float("inf"), name, getattr(self, name), "at least 0")
        _require(self.elastic_grid >= 1, "elastic_grid", self.elastic_grid, "at least 1")
        known = get_args(AugmentPlace)
        _require(self.place in known, "place", self.place, f"one of {known}")


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """The arithmetic in which a network is trained; it is compared with float32 eager when a run starts."""

    precision: Literal["auto"] | TrainPrecision = "auto"
    """Precision of the forward pass. bf16: by autocast, weights and losses stay float32; auto: bf16 on a GPU that has
    it, else float32."""
    channels_last: Switch = "auto"
    """Whether channels come last in the network's memory, wherever its width allows it; auto: on a GPU. On the CPU
    batch statistics lose digits by it."""
    compile: Switch = "auto"
    """Whether the network goes through torch.compile; auto: on a GPU."""
    fused_adam: bool = True
    """Whether Adam updates all weights in one kernel."""
    sync_batch_norm: bool = False
    """Whether batch statistics are taken over all ranks instead of over each rank's patches; needs GPUs."""
    deterministic: bool = True
    """Whether only kernels are used that give the same bits each time, so that a resumed run ends as if it had never
    stopped."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        for name, known in (
            ("precision", ("auto", *get_args(TrainPrecision))),
            ("channels_last", get_args(Switch)),
            ("compile", get_args(Switch)),
        ):
            _require(getattr(self, name) in known, name, getattr(self, name), f"one of {known}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a setting is trained; the same for all four."""

    width: int = 64
    """Filters of the first encoder block; all others follow. The paper's is 64, less is a smaller network."""
    encoder: str = ""
    """timm's name of an encoder in place of ResNet34, such as convnext_tiny, with its own width; empty is the
    paper's."""
    encoder_weights: Path | None = None
    """File with the weights of a ResNet34 or ResNet18, or of the named encoder, that the encoder starts from; None
    starts at random. [open]"""
    freeze_encoder: bool = False
    """Whether the encoder stays as it starts: no gradients, and batch statistics as they are."""
    start_from: Path | None = None
    """File with a network of this product, of the same setting and width, that training starts from: its weights
    alone, with a fresh optimiser; None starts at random."""
    focal_gamma: float = 2.0
    """gamma of the focal loss; 0 is cross-entropy."""
    mask_downsampling: MaskDownsampling = "nearest-exact"
    """How masks are brought to the size of each output (eq. 1's Pi_l). [open]"""
    merge_weight_std: float = 0.1
    """Standard deviation of the linear merge's weights (eq. 2) at the start. [open]"""
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    """How often patches are drawn (Table 2)."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes to training patches."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    """Arithmetic of training; it does not change the method."""
    learning_rate: float = 5e-4
    """Adam's learning rate at the start."""
    lr_factor: float = 0.8
    """Factor by which the learning rate changes every `lr_every_epochs` epochs."""
    lr_every_epochs: int = 5
    """Number of epochs after which the learning rate is multiplied by `lr_factor`."""
    epochs: int = 40
    """Number of epochs of a run; raised later, a run that is done goes on."""
    global_batch: int = 64
    """Patches per optimiser step, over all ranks, whatever their number."""
    micro_batch: int = 16
    """Most patches in one forward pass of a rank; the gradients of several passes are added up."""
    max_steps: int | None = None
    """Most optimiser steps in an epoch, for trials; None is the whole epoch."""
    iou_probability: float = 0.5
    """Probability, 0 to 1, above which a pixel of Validation I is tumor for the IoU that ranks epochs (section 2.5).
    [open]"""
    keep_best: int = 5
    """Number of epochs, those with the highest IoU on Validation I, that are kept for the selection (section 2.5)."""
    num_workers: int = 4
    """Threads of each rank that read patches ahead; 0 reads them within the step."""
    save_every_min: float = 10.0
    """Minutes between saves within an epoch: what a crash can cost at most."""
    seed: int = 0
    """Seed of all that is random: first weights, draws and augmentation."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        _require(self.width >= 4 and self.width % 4 == 0, "width", self.width, "a multiple of 4")
        has_own_width = not self.encoder or self.width == 64
        _require(has_own_width, "width", self.width, f"64, because the encoder {self.encoder} has a width of its own")
        has_their_width = self.encoder_weights is None or self.width == 64
        _require(has_their_width, "width", self.width, "64, which the encoder_weights have")
        begins_somewhere = self.encoder_weights is not None or self.start_from is not None
        _require(
            begins_somewhere or not self.freeze_encoder,
            "freeze_encoder",
            self.freeze_encoder,
            "False without encoder_weights or start_from: the encoder would stay as chance made it",
        )
        _require(
            not (self.encoder and self.compute.sync_batch_norm),
            "compute.sync_batch_norm",
            self.compute.sync_batch_norm,
            f"False, because torch cannot exchange the batch statistics within the encoder {self.encoder}",
        )
        is_alone = self.start_from is None or self.encoder_weights is None
        _require(is_alone, "encoder_weights", self.encoder_weights, "None, because start_from has all weights")
        for name in ("focal_gamma", "merge_weight_std"):
            _require(0 <= getattr(self, name) < float("inf"), name, getattr(self, name), "at least 0")
        _require(0 < self.iou_probability < 1, "iou_probability", self.iou_probability, "above 0 and below 1")
        for name in ("learning_rate", "lr_factor"):
            _require(0 < getattr(self, name) < float("inf"), name, getattr(self, name), "above 0")
        known = get_args(MaskDownsampling)
        _require(self.mask_downsampling in known, "mask_downsampling", self.mask_downsampling, f"one of {known}")
        for name in ("epochs", "global_batch", "micro_batch", "keep_best", "lr_every_epochs"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.max_steps is None or self.max_steps >= 1, "max_steps", self.max_steps, "at least 1 or None")
        _require(self.num_workers >= 0, "num_workers", self.num_workers, "at least 0")
        _require(0 <= self.save_every_min < float("inf"), "save_every_min", self.save_every_min, "at least 0")
        _require(self.seed >= 0, "seed", self.seed, "at least 0")

    def check_ranks(self, world_size: int) -> None:
        """Refuse more ranks than a step has patches: some of them would have nothing to do.

        Raises:
            ConfigurationError: there are more ranks than patches in the global batch.
        """
        _require(
            self.global_batch >= world_size,
            "global_batch",
            self.global_batch,
            f"at least {world_size}: one patch for each rank",
        )


_EXACT_WAY = {"tiling": "paper", "blending": "mean", "precision": "float32", "exit": None, "cascade": False}
"""What certified verdicts are the same as: the reference of the calibration."""


@dataclass(frozen=True, kw_only=True)
class InferConfig:
    """How heatmaps are made; the um/px that the network sees stands in its weights."""

    mpp_tolerance: float = 0.1
    """Relative deviation from the wanted um per pixel up to which a level is read without resampling. [open]"""
    tiling: Literal["auto"] | Tiling = "paper"
    """How a slide is cut. paper: patches of 512 px that overlap by half, so that each pixel is computed four times;
    dense: large tiles of which the centre is kept; auto: dense where the speed-up record says that it changes no
    verdict."""
    halo_px: int | None = None
    """Margin of a dense tile that is computed and not kept, a multiple of 32 px; None takes the speed-up record's."""
    blending: Blending = "mean"
    """How overlapping patches of the paper's tiling are averaged: each alike, by Hann weights, or the nearest centre
    alone. [open]"""
    precision: Literal["auto"] | Precision = "float32"
    """Precision of the network. auto: the fastest that changes no verdict by the speed-up record; int8 needs that
    record, too."""
    engine: Literal["auto"] | Engine = "auto"
    """What runs the network. eager: torch as it comes, to which all others are compared; folded: batch normalisation
    folded into the convolutions, channels last; compiled: torch.compile; openvino and mnn: OpenVINO and MNN, on the
    CPU; auto: the fastest by the speed-up record where precision or tiling is auto, else OpenVINO on a CPU and
    torch.compile on a GPU where they are installed. With inference certified it is what computes exactly; the fast
    way runs by the engine that it was measured with."""
    exit: Literal["psi_0"] | None = None
    """Where the network ends. psi_0: after encoder and first decoder block; None: at its last output."""
    cascade: bool = False
    """Whether the blocks after psi_0 are computed only where psi_0 is undecided, within the band of the speed-up
    record."""
    inference: Inference = "exact"
    """How verdicts are reached. exact: in the way that the other flags name; certified: in the fastest calibrated way,
    and exactly (paper tiling, float32) in the sections whose verdict at the selection's thresholds the speed-up record
    does not let follow from it."""
    confidence: float = 0.95
    """Share of further slides, at least, whose sections lie within the bound that certified verdicts rest on."""
    check_share: float = 0.05
    """Share of the certified sections that are computed exactly as well, as a running check."""
    batch: int = 8
    """Patches per forward pass; dense tiles are as many as have that many pixels."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        _require(0 <= self.mpp_tolerance < 0.5, "mpp_tolerance", self.mpp_tolerance, "at least 0 and below 0.5")
        _require(self.batch >= 1, "batch", self.batch, "at least 1")
        for name, known in (
            ("tiling", ("auto", *get_args(Tiling))),
            ("blending", get_args(Blending)),
            ("precision", ("auto", *get_args(Precision))),
            ("engine", ("auto", *get_args(Engine))),
            ("exit", ("psi_0", None)),
            ("inference", get_args(Inference)),
        ):
            _require(getattr(self, name) in known, name, getattr(self, name), f"one of {known}")
        fits = self.halo_px is None or (0 <= self.halo_px <= CELL_PX and self.halo_px % 32 == 0)
        _require(fits, "halo_px", self.halo_px, f"a multiple of 32 up to {CELL_PX}, or None")
        is_alone = self.exit is None or not self.cascade
        _require(is_alone, "cascade", self.cascade, "False, because exit is psi_0 and leaves nothing to go on with")
        _require(0 < self.confidence < 1, "confidence", self.confidence, "above 0 and below 1")
        _require(0 <= self.check_share <= 1, "check_share", self.check_share, "from 0 to 1")
        if self.is_certified:
            for name, exact in _EXACT_WAY.items():
                reason = f"{exact!r}, because inference is certified, and finds the fast way by itself"
                _require(getattr(self, name) == exact, name, getattr(self, name), reason)

    @property
    def is_certified(self) -> bool:
        """Whether verdicts are to be certified in a fast way, where they can be."""
        return self.inference == "certified"

    @property
    def needs_speedups(self) -> bool:
        """Whether the speed-up record has to be there before heatmaps can be made like this."""
        is_dense_without_halo = self.tiling == "dense" and self.halo_px is None
        by_way = self.tiling == "auto" or is_dense_without_halo or self.precision in ("auto", "int8") or self.cascade
        return by_way or self.is_certified

    @property
    def without_speedups(self) -> "InferConfig":
        """This, or the paper's tiling in float32 without a cascade where this needs the speed-up record."""
        if not self.needs_speedups:
            return self
        return replace(self, tiling="paper", halo_px=None, precision="float32", cascade=False, inference="exact")


@dataclass(frozen=True, kw_only=True)
class SpeedupsConfig:
    """How faster ways of inference are measured against the paper's, on Validation I and II."""

    max_slides: int | None = 3
    """Number of slides, the first of Validation I, on which every way is timed, its pixels are compared and the bands
    of the cascade are tried; None takes all. Verdicts and curves are compared on all of Validation I and II."""
    num_samples: int = 64
    """Number of patches of tissue that int8 takes its ranges from."""
    num_field_samples: int = 8
    """Number of patches of tissue on which the receptive field is measured."""
    mpp_tolerance: float = 0.1
    """Relative deviation from the wanted um per pixel up to which a level is read without resampling. [open]"""
    batch: int = 8
    """Patches per forward pass."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        _require(self.max_slides is None or self.max_slides >= 1, "max_slides", self.max_slides, "at least 1 or None")
        _require(0 <= self.mpp_tolerance < 0.5, "mpp_tolerance", self.mpp_tolerance, "at least 0 and below 0.5")
        for name in ("num_samples", "num_field_samples", "batch"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """How epoch and thresholds are chosen (section 2.5)."""

    beta: float = 1.5
    """beta of F_beta: 1.5 favours sensitivity."""
    probability_step: float = 0.05
    """Distance of the probability thresholds tried: t_p runs from this to 1 minus this. [open]"""
    area_step_um2: float = 1280.0
    """Distance of the area thresholds tried: t_A runs over the multiples of this. [open]"""
    num_area_steps: int = 16
    """Number of area thresholds tried. [open]"""
    area_unit: AreaUnit = "physical"
    """How areas are counted. physical: in um2 by the slide's um/px; nominal: as if 1 um/px, as the paper seems to.
    [open]"""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        for name in ("beta", "area_step_um2"):
            _require(0 < getattr(self, name) < float("inf"), name, getattr(self, name), "above 0")
        _require(0 < self.probability_step <= 0.5, "probability_step", self.probability_step, "above 0, at most 0.5")
        _require(self.num_area_steps >= 1, "num_area_steps", self.num_area_steps, "at least 1")
        known = get_args(AreaUnit)
        _require(self.area_unit in known, "area_unit", self.area_unit, f"one of {known}")


@dataclass(frozen=True, kw_only=True)
class CopyOutConfig:
    """Where results are copied to."""

    to: str
    """Address of a folder, without any secret."""
    what: tuple[Results, ...] = ("heatmaps", "tables", "report")
    """Which results; the report with its pictures."""
    even_out_of_date: bool = False
    """Copy what is out of date, too; the list at the target says so."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        known = get_args(Results)
        _require(bool(self.what) and set(self.what) <= set(known), "what", self.what, f"some of {known}")


def encoder_against(precision: str, engine: str, encoder: str) -> str | None:
    """Why a network with an encoder of timm cannot be run so, and what to do; None where it can."""
    if not encoder or (precision != "int8" and engine not in ("openvino", "mnn")):
        return None
    return (
        f"the encoder {encoder} of timm is run by torch alone, not by OpenVINO or MNN and not in int8; "
        "set precision to float32 and engine to auto, folded or eager"
    )


StageConfig = ShardConfig | TrainConfig | InferConfig | SelectConfig | SpeedupsConfig | CopyOutConfig


_PACE = ("num_workers", "save_every_min")
"""What says how fast or how safe a stage is and not what comes out."""
_LATER = {"encoder": "", "freeze_encoder": False}
"""Keys that came later, with the values at which all is as before: there they name nothing, and old runs go on."""
_GROWS = ("epochs",)
"""What may be raised for work that has begun: the outcome is then as if so much had been asked for at first."""
_WEIGHTS_SHA256 = "encoder_weights_sha256"
_PLACES = ("start_from",)
"""Where a file lies whose SHA-256 names the work."""


def _require(condition: bool, name: str, got: Any, expected: str) -> None:
    if not condition:
        raise ConfigurationError(f"{name} is {got!r}, expected {expected}")


def config_digest(config: StageConfig) -> str:
    """Twelve hex digits that name what decides the outcome in a configuration."""
    return digest_of(_decisive(_json_values(asdict(config))))


def claim_config(path: Path, config: StageConfig, **context: Any) -> str:
    """Write a stage's configuration to its folder, or check that the one there is the same.

    What changes only how fast a stage is, or how much a crash costs (`num_workers`, `save_every_min`), may differ; it
    is recorded as it was at first. `epochs` may be raised, and is recorded as it is now.

    Args:
        path: the folder's config.json.
        config: the configuration of this run.
        context: what else names the work, such as the digest of the manifest.

    Returns:
        The digest of configuration and context.

    Raises:
        ConfigurationError: the folder was made with another configuration, or before one of its keys existed (the
            message lists the differences); or its configuration is damaged.
    """
    values = _json_values({**asdict(config), **context})
    if not path.exists():
        digest = digest_of(_decisive(values))
        write_sealed_json(path, {**values, "digest": digest})
        return digest
    there = read_claimed(path)
    if differences := [*_differences(there, values), *_lowered(there, values)]:
        raise ConfigurationError(
            f"{path.parent} was made with another configuration ({'; '.join(differences)}); "
            "nothing was changed: give the same configuration or another folder"
        )
    grown = {name: values[name] for name in _GROWS if name in values}
    if any(there[name] != value for name, value in grown.items()):
        write_sealed_json(path, {**there, **grown})
    # Its own name, which is in all that it has made; versions that counted the epochs gave another one.
    return str(there["digest"])


def refuse_another(path: Path, config: StageConfig) -> None:
    """Refuse a configuration that a folder was not made with, where nothing is written: its context is not compared.

    Raises:
        ConfigurationError: the folder was made with another one, or its configuration is damaged.
    """
    here = _json_values(asdict(config))
    there = {name: value for name, value in read_claimed(path).items() if name in here}
    if differences := _differences(there, here):
        raise ConfigurationError(f"{path.parent} was made with another configuration ({'; '.join(differences)})")


def read_claimed(path: Path) -> dict[str, Any]:
    """What `claim_config` wrote to a folder's config.json.

    Raises:
        ConfigurationError: it is damaged, or was changed by hand.
    """
    data = path.read_bytes()
    advice = "changed by hand, or damaged; put it back from where it is whole"
    is_sealed = check_seal(path, io.BytesIO(data), error=ConfigurationError, advice=advice)
    values: dict[str, Any] = parse_json(data, path)
    values.pop(SEAL_KEY, None)
    # Versions before its seal had all but the pace in the digest.
    digest = digest_of(_without(values, (*_PACE, "digest")))
    if not is_sealed and values.get("digest") != digest:
        raise ConfigurationError(
            f"{path}: damaged or changed by hand: its content has the digest {digest}, and it says "
            f"{values.get('digest')}; put it back from where it is whole"
        )
    return values


def _lowered(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """What was asked for less of than the folder was made for: done work is not taken back."""
    return [
        f"{name}: there {there[name]}, here {here[name]}, and it can only be raised"
        for name in _GROWS
        if name in here and here[name] < there[name]
    ]


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """What decides the outcome and differs, by dotted key; a key may be on one side alone."""
    texts_there, texts_here = (dict(_dotted_texts(_decisive(side))) for side in (there, here))
    pairs = {
        key: (texts_there.get(key, "not set"), texts_here.get(key, "not set"))
        for key in sorted(texts_there.keys() | texts_here.keys())
    }
    if all(_WEIGHTS_SHA256 in side for side in (there, here)):
        pairs.pop("encoder_weights", None)  # where the file lies; what it holds is compared
    return [f"{key}: there {one}, here {other}" for key, (one, other) in pairs.items() if one != other]


def _dotted_texts(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each value as it is shown, under its key; those of a nested configuration as `compute.precision`."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _dotted_texts(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", repr(value)


def _json_values(values: dict[str, Any]) -> dict[str, Any]:
    """The values as they come back from a JSON file; paths become texts."""
    return json.loads(json.dumps(values, default=os.fspath))  # type: ignore[no-any-return]


def _decisive(values: dict[str, Any]) -> dict[str, Any]:
    """The keys that decide what comes out."""
    unused = [name for name, value in _LATER.items() if values.get(name) == value]
    return _without(values, (*_PACE, *_GROWS, *_PLACES, *unused, "digest"))


def _without(values: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}
