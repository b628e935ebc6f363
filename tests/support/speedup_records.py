"""A speed-up record as the measuring job writes it."""

from dataclasses import replace
from typing import Any

from bccdist.sections.choices import Thresholds
from bccdist.speedups.machine import Machine
from bccdist.speedups.record import MeasuredBand, MeasuredOutput, MeasuredWay, SpeedupRecord


def measured_way(tiling: Any, precision: Any, engine: Any, speed: float, *changed: str) -> MeasuredWay:
    """A way that changed these verdicts."""
    return MeasuredWay(
        tiling=tiling,
        precision=precision,
        engine=engine,
        mpx_per_s=speed,
        max_difference=0.1,
        mean_difference=0.001,
        crossing_share=1e-4,
        changed_verdicts=changed,
        probe_sha256=f"{precision} {engine}",
        psi="psi_4",
        slide_levels=(1, 4),
        flip_levels=(2, 6, 50, 80, 120, 200, 256),
        ranges={"undecided_share": (0.1, 0.3)},
    )


def measured_band(low: float, saved: float, *changed: str) -> MeasuredBand:
    """A band up to 1 that changed these verdicts."""
    return MeasuredBand(low=low, high=1.0, undecided_share=0.5, saved_share=saved, changed_verdicts=changed)


MACHINE = Machine(
    device_type="cpu",
    name="a processor",
    instruction_set="avx2",
    num_threads=2,
    versions={"bccdist": "1", "openvino": "1", "torch": "1"},
)
RECORD = SpeedupRecord(
    setting="resnet34_ds",
    epoch=3,
    weights_digest="w",
    thresholds=Thresholds(t_p=0.6, t_a_um2=5120),
    machine=MACHINE,
    slide_ids=("v1", "v2"),
    num_sections=7,
    num_patches=100,
    receptive_field_px={"psi_0": {"99": 90, "99.9": 150}, "psi_4": {"99": 30, "99.9": 60}},
    halo_px=160,
    ways=(
        measured_way("paper", "float32", "eager", 1),
        measured_way("paper", "float32", "openvino", 2),
        measured_way("paper", "int8", "openvino", 4, "v1-s0/psi_4"),
        measured_way("dense", "float32", "openvino", 6),
        measured_way("dense", "int8", "openvino", 12, "v1-s0/psi_0", "v2-s1/psi_4"),
    ),
    bands=(measured_band(0.01, 0.1), measured_band(0.05, 0.2), measured_band(0.2, 0.3, "v1-s0")),
    outputs=(MeasuredOutput(psi="psi_0", patch_s=0.3, score_std=1.5),),
    int8_sha256={"whole": "i8", "first": "i8f", "first-with-features": "i8ff", "later": "i8l"},
    int8_origin="samples",
)


def calibrated(record: SpeedupRecord, **calibration: Any) -> SpeedupRecord:
    """A record whose fast ways were calibrated like this, and its exact ways, as always, were not."""
    ways = (
        replace(way, **({"slide_levels": (), "flip_levels": ()} if way.is_exact else calibration))
        for way in record.ways
    )
    return replace(record, ways=tuple(ways))
