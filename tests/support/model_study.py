"""A study with thresholds and a small network that was never trained, for the tests of the model that leaves it."""

from pathlib import Path

import torch
from study_folders import sections, write_metrics
from study_folders import write_study as write_ledger

from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig, Setting, TrainConfig, claim_config
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import save_network, weights_digest
from bccdist.paths import StudyPaths
from bccdist.study import claim_study

SETTING: Setting = "resnet34_ds"
EPOCH = 2
PATIENT, SCANNER = "patient-Anna-1961", "a scanner"


def write_model_study(
    root: Path,
    *,
    setting: Setting = SETTING,
    seed: int = 0,
    phantom: bool = False,
    width: int = 4,
    encoder: str = "",
) -> StudyPaths:
    """A study as far as its selection; of its shard set only the manifest is there."""
    paths = StudyPaths(root)
    _write_manifest(root / "data")
    claim_study(root, root / "data" / "slides.csv")
    _write_shards(paths)
    torch.manual_seed(seed)
    run = paths.run(setting)
    save_network(
        run.weights(EPOCH),
        _settled(DeeplySupervisedUNet(setting, width=width, encoder=encoder)),
        {"target_mpp": "0.92", "phantom": str(phantom).lower(), "epoch": str(EPOCH)},
    )
    config = TrainConfig(encoder=encoder) if encoder else TrainConfig(width=width, encoder_weights=None)
    claim_config(run.config, config, setting=setting)
    write_metrics(paths, setting, {EPOCH: 0.5})
    changes = {
        "setting": setting,
        "epoch": EPOCH,
        "weights_digest": weights_digest(run.weights(EPOCH)),
        "phantom": phantom,
        "phantom_weights": phantom,
    }
    rows = [
        row
        for slide_id, part, counts in (
            ("slide-2", "Validation I", (3, 1, 1, 4)),
            ("slide-3", "Validation II", (4, 0, 1, 3)),
            ("Test-0000", "Test", (2, 1, 1, 2)),
        )
        for row in sections(
            **dict(zip(("tp", "fn", "fp", "tn"), counts, strict=True)), part=part, slide_id=slide_id, **changes
        )
    ]
    write_ledger(root, rows, iou={EPOCH: 0.5})
    select_thresholds(root, SelectConfig())
    return paths


def _settled(network: DeeplySupervisedUNet) -> DeeplySupervisedUNet:
    """With statistics of some patches in its normalisations, as training leaves them: scores are small then."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 128, 128))
    return network.eval()


def _write_manifest(folder: Path) -> None:
    folder.mkdir(parents=True)
    lines = ["slide_id,part,path,annotation,patient_id,scanner"]
    for number, part in enumerate(("Training", "Training", "Validation I", "Validation II", "Test")):
        for suffix in ("tif", "png"):
            (folder / f"slide-{number}.{suffix}").write_bytes(bytes([number]) * 10)
        lines.append(f"slide-{number},{part},slide-{number}.tif,slide-{number}.png,{PATIENT}-{number},{SCANNER}")
    (folder / "slides.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_shards(paths: StudyPaths) -> None:
    from bccdist.seals import write_sealed_json
    from bccdist.shard_set.index import FORMAT_VERSION

    parts = {"Training": {"num_patches": 30}, "Validation I": {"num_patches": 10}}
    write_sealed_json(paths.shards.manifest, {"format_version": FORMAT_VERSION, "parts": parts})
