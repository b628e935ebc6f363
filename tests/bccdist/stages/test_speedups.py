"""The exact side of a calibration is what the ledger holds, where that was made exactly of the same weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from heatmap_slides import MPP, pink_picture, write_slide

from bccdist.configuration import InferConfig
from bccdist.files import write_text
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import save_network
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import Manifest, read_manifest
from bccdist.stages.epochs import infer_slides
from bccdist.stages.speedups import exact_rows_of


def _study(folder: Path) -> tuple[StudyPaths, Manifest]:
    picture = pink_picture(700, 520, islands=[(100, 100, 300, 330)])
    picture = (picture - np.random.default_rng(0).integers(0, 40, picture.shape)).astype(np.uint8)
    write_slide(folder / "v.tif", picture)
    write_text(folder / "slides.csv", "slide_id,part,path\nv,val2,v.tif\n")
    paths = StudyPaths(folder / "study")
    torch.manual_seed(1)
    network = DeeplySupervisedUNet("resnet34_ds", width=8).train()
    with torch.no_grad():
        network(to_network_input(torch.randint(0, 256, (4, 128, 128, 3), dtype=torch.uint8)))
    save_network(
        paths.run("resnet34_ds").weights(3), network, {"epoch": "3", "target_mpp": str(MPP), "phantom": "true"}
    )
    return paths, read_manifest(folder / "slides.csv")


def _infer(paths: StudyPaths, manifest: Manifest, config: InferConfig) -> None:
    infer_slides(manifest.path, ["v"], paths.root, "resnet34_ds", [3], config, num_workers=0)


@pytest.mark.parametrize(
    ("config", "is_exact"),
    [
        (InferConfig(engine="folded"), True),
        (InferConfig(engine="folded", tiling="dense", halo_px=64), False),
        (InferConfig(engine="folded", blending="hann"), False),
    ],
)
def test_only_rows_that_were_made_exactly_are_taken(tmp_path: Path, config: InferConfig, is_exact: bool) -> None:
    paths, manifest = _study(tmp_path)
    exact_rows = exact_rows_of(paths, manifest, "resnet34_ds", 3, config.mpp_tolerance)
    record = manifest.slide("v")
    assert exact_rows(record, MPP) is None, "nothing was made yet"
    _infer(paths, manifest, config)
    rows = exact_rows(record, MPP)
    assert (rows is not None) == is_exact
    if rows is not None:
        assert {row["psi"] for row in rows} >= {"psi_0", "psi_4"}
        # Another um/px of the slide, or of the network, is another picture.
        assert exact_rows(replace(record, mpp=MPP), MPP) is None
        assert exact_rows(record, 2 * MPP) is None
