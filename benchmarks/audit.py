"""Whether the audit of annotations finds errors that were planted: `python -m benchmarks.audit FOLDER`.

PHANTOM slides are drawn, and 5 % of the training outlines are made wrong: nests left out, outlines moved, kinds
swapped. Then the audit is launched as a lab would launch it. Counted is how many of the errors the first 10 % of its
list hold: as many rows as a tenth of the outlines that are annotated. Two controls rank in the same way by a network
that was trained on all slides, the wrong outlines among them: one was trained as the folds were, the other so long,
and without augmentation, that it learns by heart. A reviewer who knows the truth goes through the first 10 % and
decides as the page would keep it; the export of the review gives the corrected annotation, and a network is trained
on it from chance as the control's was. Both are held against the clean annotation of Validation I; so is one that was
trained on the clean annotation of Training.

Everything is launched as a user would, on local processes. What is done in FOLDER is not done again, and a training
that Ctrl-C ended goes on: so the command may be run in turns.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import shapely
import shapely.geometry
import tyro

from analysis.review.answers import now
from analysis.review.audit.decisions import Decided, keep
from analysis.review.audit.export import export_audit
from analysis.review.audit.session import AuditedStudy
from bccdist.audit.findings import Reason
from bccdist.audit.table import rank, read_audit
from bccdist.configuration import AugmentConfig, Setting, ShardConfig, TrainConfig
from bccdist.files import csv_text, write_json, write_text
from bccdist.log import set_up_logging
from bccdist.parts import Kind, Part
from bccdist.paths import StudyPaths
from bccdist.phantom.config import PhantomConfig
from bccdist.phantom.slides import make_phantom
from bccdist.shard_set.index import read_set
from bccdist.slides.manifest import Manifest, read_manifest
from bccdist.training.reporting.metrics import read_best_epochs, read_metrics
from jobs.launch_audit import AuditArguments
from jobs.launch_audit import main as launch_audit
from jobs.launch_shards import ShardsArguments
from jobs.launch_shards import main as launch_shards
from jobs.launch_train import TrainArguments
from jobs.launch_train import main as launch_train
from jobs.slurm.sites import ClusterConfig

FIRST = 0.1
"""Share of the list that is looked at."""
PHANTOM = PhantomConfig(
    num_train=10,
    num_val1=3,
    num_val2=0,
    num_test=0,
    sections_per_slide=(4, 4),
    slide_width_level0_px=4096,
    slide_height_level0_px=3072,
    tumor_share=0.75,
    annotated_share=1.0,
)
TRAIN = TrainConfig(
    width=16,
    epochs=3,
    global_batch=8,
    micro_batch=4,
    max_steps=50,
    learning_rate=2e-3,
    lr_factor=0.1,
    lr_every_epochs=2,
    num_workers=0,
)
"""A narrow network and few steps, as in the demonstration; the last epoch settles it."""
LOCAL = ClusterConfig(cluster="local", ranks_per_node=2, max_parallel=2)
_KINDS_OF_ERRORS = ("left out", "moved", "swapped")


@dataclass(frozen=True, kw_only=True)
class BenchmarkArguments:
    """Plant errors in annotations, and find them."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of slides and studies."""
    setting: Setting = "resnet34_ds"
    folds: int = 2
    share: float = 0.05
    """Share of the outlines that are made wrong."""
    seed: int = 23
    """Of the slides, of the errors, and of training."""
    target_mpp: float = 0.92
    """Resolution that the networks see, um per pixel; twice as many take a quarter of the patches."""
    by_heart: int = 6
    """The second control learns so many times as long; 0 leaves it out."""
    retrain: bool = True
    """Whether networks are trained on the corrected and on the clean annotation, too."""
    train: TrainConfig = field(default_factory=lambda: TRAIN)


class Planted(NamedTuple):
    """An error that was made."""

    error: str
    slide_id: str
    number: int
    """Of the wrong outline on its slide; -1 for one that was left out."""
    kind: str
    """The right one."""
    right: shapely.Polygon
    wrong: shapely.Polygon | None
    """Both in level-0 px."""


def plant(folder: Path, manifest: Manifest, *, share: float, seed: int) -> list[Planted]:
    """Write a manifest to `folder` whose Training annotations have errors; returns these."""
    features = {
        slide.slide_id: _features(Path(str(slide.annotations[0]))) for slide in manifest.slides_of([Part.TRAINING])
    }
    places = [(slide_id, number) for slide_id, own in features.items() for number in range(len(own))]
    random = np.random.default_rng(seed)
    num = round(share * len(places))
    changes: dict[str, dict[int, tuple[str, Any]]] = {slide_id: {} for slide_id in features}
    for place in random.permutation(len(places)):
        slide_id, number = places[place]
        made = sum(map(len, changes.values()))
        if made == num:
            break
        error = _KINDS_OF_ERRORS[made % len(_KINDS_OF_ERRORS)]
        changed = _changed(features[slide_id][number], error, random)
        if changed is not None:
            changes[slide_id][number] = (error, changed[0])
    planted = []
    for slide_id, own in features.items():
        kept: list[dict[str, Any]] = []
        for number, feature in enumerate(own):
            error, changed = changes[slide_id].get(number, ("", feature))
            if error:
                wrong = None if changed is None else shapely.geometry.shape(changed["geometry"])
                at = -1 if changed is None else len(kept)
                right = shapely.geometry.shape(feature["geometry"])
                planted.append(Planted(error, slide_id, at, _kind_of(feature), right, wrong))
            kept += [] if changed is None else [changed]
        write_json(folder / "annotations" / f"{slide_id}.geojson", {"type": "FeatureCollection", "features": kept})
    write_slides(folder, manifest)
    return planted


def _features(path: Path) -> list[dict[str, Any]]:
    content: dict[str, Any] = json.loads(path.read_text())
    return list(content["features"])


def _kind_of(feature: Mapping[str, Any]) -> str:
    return str(feature["properties"]["classification"]["name"])


def _changed(feature: dict[str, Any], error: str, random: np.random.Generator) -> tuple[dict[str, Any] | None] | None:
    """The feature with an error, in a tuple, or (None,) where it is left out; None where it cannot have this error."""
    kind, shape = _kind_of(feature), shapely.geometry.shape(feature["geometry"])
    if error != "swapped" and kind != Kind.TUMORNEST:
        return None
    if error == "left out":
        return (None,)
    if error == "moved":
        left, top, right, bottom = shape.bounds
        angle, diameter = random.uniform(0, 2 * np.pi), np.hypot(right - left, bottom - top) / np.sqrt(2)
        by = random.uniform(0.5, 1.0) * diameter * np.array([np.cos(angle), np.sin(angle)])
        moved = shapely.transform(shape, lambda xy: xy + by)
        return ({**feature, "geometry": shapely.geometry.mapping(moved)},)
    other = random.choice([Kind.STROMA, Kind.NORMAL]) if kind == Kind.TUMORNEST else Kind.TUMORNEST
    properties = {**feature["properties"], "classification": {"name": str(other)}}
    return ({**feature, "properties": properties},)


def write_slides(folder: Path, manifest: Manifest) -> None:
    """A slides.csv beside annotations of Training; two slides each are of one patient."""
    rows = [
        {
            "slide_id": slide.slide_id,
            "part": slide.part.value,
            "path": slide.path,
            "annotation": f"annotations/{slide.slide_id}.geojson"
            if slide.part is Part.TRAINING
            else slide.annotations[0],
            "patient_id": f"{slide.part.short}-{number // 2}",
            "scanner": slide.scanner,
        }
        for part in (Part.TRAINING, Part.VALIDATION_1)
        for number, slide in enumerate(manifest.slides_of([part]))
    ]
    write_text(folder / "slides.csv", csv_text(tuple(rows[0]), rows))
    sections = manifest.path.with_name("sections.csv")
    write_text(folder / "sections.csv", sections.read_text())


class Found(NamedTuple):
    """How many errors a list holds in its first part."""

    by_error: dict[str, tuple[int, int]]
    """Found and planted."""
    num_looked_at: int

    @property
    def recall(self) -> float:
        """Share of all errors."""
        return sum(found for found, _ in self.by_error.values()) / sum(num for _, num in self.by_error.values())


def found_in(table: pa.Table, planted: Sequence[Planted], *, unit: str) -> Found:
    """What the first part of an audit's list holds of the errors."""
    rows = [row for row in table.to_pylist() if (row["unit"] == "patch") == (unit == "patch")]
    num = round(FIRST * sum(row["unit"] == ("patch" if unit == "patch" else "outline") for row in rows))
    first = [row for row in rows if row["rank"] <= num]
    is_found = [any(shows(row, error) for row in first) for error in planted]
    by_error = {
        name: (
            sum(found for found, error in zip(is_found, planted, strict=True) if error.error == name),
            sum(error.error == name for error in planted),
        )
        for name in _KINDS_OF_ERRORS
    }
    return Found(by_error, num)


def shows(row: Mapping[str, Any], error: Planted) -> bool:
    """Whether a row leads to an error: it is the outline, a region on half of it, or a patch that holds its middle."""
    if row["slide_id"] != error.slide_id:
        return False
    if row["unit"] == "outline":
        return bool(row["id"] == f"{error.slide_id}/outline-{error.number}")
    if row["unit"] == "patch":
        x, y = error.right.centroid.coords[0]
        left, top = row["x_level0_px"], row["y_level0_px"]
        return bool(left <= x < left + row["width_level0_px"] and top <= y < top + row["height_level0_px"])
    region = shapely.from_wkb(row["geometry"])
    shared = region.intersection(error.right).area
    return bool(error.error != "swapped" and shared >= 0.5 * min(region.area, error.right.area))


def fixes_of(table: pa.Table, planted: Sequence[Planted], num: int) -> dict[str, Kind | None]:
    """What a reviewer who knows the truth makes of the first rows: of errors alone, as the audit proposes."""
    fixes: dict[str, Kind | None] = {}
    for row in table.to_pylist():
        if row["unit"] == "patch" or row["rank"] > num:
            continue
        for error in planted:
            if shows(row, error):
                # An outline that was moved where no shift fits goes; its nest comes back as a region.
                lost = error.error == "moved" and row["unit"] == "outline" and row["reason"] != Reason.MOVED
                fixes[row["id"]] = None if lost else Kind(error.kind)
    return fixes


def write_fixed(study: StudyPaths, setting: Setting, out: Path, fixes: Mapping[str, Kind | None]) -> None:
    """Decide as a reviewer on the page does, and export the corrected annotations."""
    audited = AuditedStudy(study, setting)
    about = {"reviewer": "who knows the truth", "setting": setting, "audit": audited.digest, "decision": "fix"}
    for row, kind in fixes.items():
        keep(study, Decided(at=now(), id=row, kind=kind and kind.value, **about))
    export_audit(study.root, setting, out)


def in_sample(study: StudyPaths, manifest: Manifest, setting: Setting, epoch: int | None = None) -> pa.Table:
    """A control: the same list by the network that was trained on all slides, of its best epoch or another."""
    from bccdist.audit.scoring import SlidePatches, audit_slide, open_scorer, rows_of

    run = study.run(setting)
    scorer = open_scorer(run.weights(epoch or read_best_epochs(run)[0]))
    patches = SlidePatches.of(read_set(study.shards.root))
    return rank(
        rows_of(
            slide.slide_id,
            audit_slide(slide, manifest.kinds, patches, scorer),
            fold=0,
            weights_digest=scorer.weights_digest,
            is_phantom=True,
        )
        for slide in manifest.slides_of([Part.TRAINING])
    )


def num_learned(table: pa.Table, planted: Sequence[Planted]) -> int:
    """Errors with which a network agrees: no row that leads to it says anything else."""
    rows = [row for row in table.to_pylist() if row["unit"] != "patch" and row["reason"] != Reason.AGREES]
    return sum(not any(shows(row, error) for row in rows) for error in planted)


def trained(folder: Path, arguments: BenchmarkArguments, name: str, train: TrainConfig) -> StudyPaths:
    """A study of the manifest in a folder, with its shards and one training."""
    shared: dict[str, Any] = {"study": folder / name, "cluster": LOCAL, "only_missing": True}
    shards = ShardConfig(target_mpp=arguments.target_mpp)
    launch_shards(ShardsArguments(**shared, manifest=folder / "slides.csv", config=shards))
    launch_train(TrainArguments(**shared, setting=arguments.setting, config=train))
    return StudyPaths(folder / name)


def best_iou(study: StudyPaths, setting: Setting) -> float:
    """The best IoU on Validation I."""
    metrics = read_metrics(study.run(setting).metrics)
    return float(metrics[metrics["is_final"]]["iou"].max())


def main(arguments: BenchmarkArguments) -> None:
    """Print what was found."""
    start_s = time.monotonic()
    set_up_logging()
    folder, setting, seed = arguments.folder.resolve(), arguments.setting, arguments.seed
    train = replace(arguments.train, seed=seed)
    drawn = make_phantom(folder / "phantom", replace(PHANTOM, seed=seed), report=lambda _: None)
    clean = read_manifest(drawn)
    planted = plant(folder / "planted", clean, share=arguments.share, seed=seed)
    manifest = read_manifest(folder / "planted" / "slides.csv")
    study = trained(folder / "planted", arguments, "study", train)
    launch_audit(
        AuditArguments(
            study=study.root, cluster=LOCAL, only_missing=True, setting=setting, folds=arguments.folds, config=train
        )
    )
    out_of_fold = read_audit(study.audit(setting).table)
    lists = {"out of fold": out_of_fold, "in sample": in_sample(study, manifest, setting)}
    print(
        f"{len(planted)} errors in {num_outlines(out_of_fold)} outlines of "
        f"{len(manifest.slides_of([Part.TRAINING]))} slides; {setting}, width {train.width}, "
        f"{arguments.folds} folds, seed {seed}, {arguments.target_mpp} um/px"
    )
    if arguments.by_heart:
        long = replace(train, epochs=arguments.by_heart * train.epochs, lr_every_epochs=arguments.by_heart * 2)
        long = replace(long, augment=AugmentConfig(enabled=False), keep_best=long.epochs)
        learned = trained(folder / "planted", arguments, "by-heart", long)
        lists["in sample, by heart"] = in_sample(learned, manifest, setting, long.epochs)
    for name, table in lists.items():
        print(f"{name}: agrees with {num_learned(table, planted)} of the errors")
        for unit in ("place", "patch"):
            print(told(name, unit, found_in(table, planted, unit=unit)), flush=True)
    if arguments.retrain:
        compare_retrained(arguments, train, clean, study, planted)
    print(f"{time.monotonic() - start_s:.0f} s")


def compare_retrained(
    arguments: BenchmarkArguments, train: TrainConfig, clean: Manifest, study: StudyPaths, planted: Sequence[Planted]
) -> None:
    """Print how good networks are that were trained with the errors, after the fix, and without any."""
    folder, setting = arguments.folder.resolve(), arguments.setting
    out_of_fold = read_audit(study.audit(setting).table)
    fixes = fixes_of(out_of_fold, planted, found_in(out_of_fold, planted, unit="place").num_looked_at)
    print(f"{len(fixes)} rows fixed", flush=True)
    if not fixes:
        return
    if not (folder / "fixed" / "slides.csv").exists():
        write_fixed(study, setting, folder / "fixed", fixes)
    for slide in clean.slides_of([Part.TRAINING]):
        drawn = Path(str(slide.annotations[0])).read_text()
        write_text(folder / "clean" / "annotations" / f"{slide.slide_id}.geojson", drawn)
    write_slides(folder / "clean", clean)
    for name in ("planted", "fixed", "clean"):
        iou = best_iou(trained(folder / name, arguments, "study", train), setting)
        print(f"IoU on the clean Validation I, trained on the {name} annotation: {iou:.4f}", flush=True)


def num_outlines(table: pa.Table) -> int:
    """Outlines that are annotated."""
    return Counter(table["unit"].to_pylist())["outline"]


def told(name: str, unit: str, found: Found) -> str:
    """A line of the result."""
    parts = ", ".join(f"{error} {num} of {total}" for error, (num, total) in found.by_error.items())
    what = "patches" if unit == "patch" else "outlines and regions"
    return f"{name}, first {found.num_looked_at} {what}: recall {found.recall:.0%} ({parts})"


if __name__ == "__main__":
    main(tyro.cli(BenchmarkArguments, default=BenchmarkArguments(folder=Path("studies/audit"))))
