"""Every path of a study is a property here; nobody else joins strings."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ShardSetPaths:
    """The files of one shard set (shards/FORMAT.md)."""

    root: Path

    @property
    def manifest(self) -> Path:
        """Written last: its presence means that the set is whole."""
        return self.root / "manifest.json"

    @property
    def index(self) -> Path:
        """One row a patch."""
        return self.root / "index.parquet"

    @property
    def config(self) -> Path:
        """The configuration that the set is being built with; written first."""
        return self.root / "config.json"

    def tar(self, slide_id: str) -> Path:
        """The WebDataset tar that holds the patches of one slide."""
        return self.root / "tars" / f"{slide_id}.tar"

    def rows(self, slide_id: str) -> Path:
        """The index rows of one slide; written after its tar, so its presence means that the slide is done."""
        return self.root / "rows" / f"{slide_id}.parquet"


@dataclass(frozen=True)
class RunPaths:
    """The files of one training run: one setting of one study."""

    root: Path

    @property
    def config(self) -> Path:
        """The merged configuration, with its digest."""
        return self.root / "config.json"

    @property
    def environment(self) -> Path:
        """Versions, commit and machine of the run's newest start."""
        return self.root / "environment.json"

    @property
    def metrics(self) -> Path:
        """One row per epoch and psi: losses, confusion counts, IoU."""
        return self.root / "metrics.parquet"

    @property
    def summary(self) -> Path:
        """The curves of the run so far, as a picture; drawn anew after each epoch."""
        return self.root / "training.png"

    @property
    def contact_sheet(self) -> Path:
        """Patches before and after augmentation, as this run sees them."""
        return self.root / "augmentation.png"

    @property
    def tensorboard(self) -> Path:
        """The folder that TensorBoard reads."""
        return self.root / "tensorboard"

    @property
    def last(self) -> Path:
        """The newest training state: weights, optimiser, position in the epoch."""
        return self.root / "checkpoints" / "last.pt"

    @property
    def holder(self) -> Path:
        """Which start of which job may write here: the newest one."""
        return self.root / "holder.json"

    def events(self, rank: int) -> Path:
        """The JSON lines that one rank wrote."""
        return self.root / "events" / f"rank-{rank}.jsonl"

    def weights(self, epoch: int) -> Path:
        """The network after `epoch` (the first is 1), kept while it is one of the best."""
        return self.root / "checkpoints" / f"epoch-{epoch:03d}.safetensors"

    def speedups(self, epoch: int, machine: str) -> Path:
        """What faster ways of inference change on Validation I and II, with these weights on one machine."""
        return self.root / "calibration" / f"epoch-{epoch:03d}-{machine}.json"

    def all_speedups(self, epoch: int) -> list[Path]:
        """The speed-up records of these weights, of all machines that measured one."""
        return sorted(self.root.glob(f"calibration/epoch-{epoch:03d}-*.json"))

    def int8_model(self, epoch: int, piece: str) -> Path:
        """A piece of the network in int8 for OpenVINO, made with the speed-up record; a .bin lies beside it."""
        return self.root / "calibration" / f"epoch-{epoch:03d}-{piece}-int8.xml"


@dataclass(frozen=True)
class AuditPaths:
    """The files of one setting's audit of the annotations: networks by fold, and what contradicts them."""

    root: Path

    @property
    def folds(self) -> Path:
        """Which slides are in which fold; written first."""
        return self.root / "folds.json"

    def run(self, fold: int) -> RunPaths:
        """The training that leaves out the slides of a fold."""
        return RunPaths(self.root / f"fold-{fold}")

    def rows(self, slide_id: str) -> Path:
        """What was found on one slide; written after its map, so its presence means that the slide is done."""
        return self.root / "rows" / f"{slide_id}.parquet"

    def probability_map(self, slide_id: str) -> Path:
        """What the network that did not see a slide says of it: 8-bit grey, 0 where no patch lies."""
        return self.root / "maps" / f"{slide_id}.png"

    @property
    def table(self) -> Path:
        """The rows of all slides, ranked."""
        return self.root / "audit.parquet"


@dataclass(frozen=True)
class StudyPaths:
    """The files of one study: a manifest taken through all stages."""

    root: Path
    shown_in: Path | None = None
    """Folder for tables, pictures and the report, in place of the study's own, which may be read-only."""

    def shown(self) -> Path:
        """The folder of all that is counted and drawn from the study's results."""
        return self.root if self.shown_in is None else self.shown_in

    @property
    def study(self) -> Path:
        """What the study is made of: its manifest, and whether it is a phantom."""
        return self.root / "study.json"

    @property
    def kept_manifest(self) -> Path:
        """A copy of slides.csv as of the newest launch, with sections.csv and kinds.toml beside it."""
        return self.root / "manifest" / "slides.csv"

    @property
    def model(self) -> Path:
        """The model that a cohort's slides are judged by; a study, which trains its own, has none."""
        return self.root / "model.bcc"

    @property
    def site_choice(self) -> Path:
        """A site's own thresholds for the cohort's model; where it is not there the model's hold."""
        return self.root / "site_choice.json"

    @property
    def shards(self) -> ShardSetPaths:
        """The shard set."""
        return ShardSetPaths(self.root / "shards")

    @property
    def runs(self) -> Path:
        """The folder of the training runs, one a setting."""
        return self.root / "runs"

    def run(self, setting: str) -> RunPaths:
        """The training run of one setting."""
        return RunPaths(self.runs / setting)

    def audit(self, setting: str) -> AuditPaths:
        """The audit of the annotations by one setting."""
        return AuditPaths(self.runs / setting / "audit")

    @property
    def sections(self) -> Path:
        """The section ledger: every slide's rows in one file."""
        return self.root / "sections.parquet"

    @property
    def ledger(self) -> Path:
        """The folder of the ledger's rows, a file per setting, epoch and slide."""
        return self.root / "ledger"

    def ledger_rows(self, setting: str, epoch: int, slide_id: str) -> Path:
        """The ledger's rows of one slide; written after its heatmap, so its presence means done."""
        return self.ledger / setting / f"epoch-{epoch:03d}" / f"{slide_id}.parquet"

    def heatmaps(self, setting: str) -> Path:
        """The folder of a setting's heatmaps, of all epochs."""
        return self.root / "heatmaps" / setting

    def heatmap(self, setting: str, epoch: int, slide_id: str) -> Path:
        """The zipped OME-Zarr of one slide."""
        return self.heatmaps(setting) / f"epoch-{epoch:03d}" / f"{slide_id}.ozx"

    @property
    def labels(self) -> Path:
        """A sections.csv whose labels take the place of the ledger's, as long as it is there."""
        return self.root / "labels.csv"

    @property
    def labels_lock(self) -> Path:
        """Locked while somebody changes the labels."""
        return self.root / "labels.lock"

    @property
    def goals(self) -> Path:
        """How good the verdicts on Test were to be, and when that was stated; in the study, wherever it is shown."""
        return self.root / "goals.json"

    @property
    def fingerprints(self) -> Path:
        """The folder of the slides' fingerprints, by content."""
        return self.root / "fingerprints"

    @property
    def failures(self) -> Path:
        """The folder of the failures, by stage."""
        return self.root / "failures"

    def failure(self, stage: str, slide_id: str) -> Path:
        """Why a stage could not process a slide; removed once it could."""
        return self.failures / stage / f"{slide_id}.json"

    @property
    def tables(self) -> Path:
        """Selection, tables and their parquet."""
        return self.shown() / "tables"

    @property
    def report(self) -> Path:
        """One page about the study."""
        return self.shown() / "report.html"

    @property
    def selection(self) -> Path:
        """The chosen (epoch, t_p, t_A) per setting."""
        return self.root / "tables" / "selection.parquet"

    @property
    def grid(self) -> Path:
        """The whole selection grid: counts per setting, epoch, t_p and t_A."""
        return self.root / "tables" / "grid.parquet"

    def origin(self, result: str) -> Path:
        """What a result was made from: selection, tables, report, figures or overlays."""
        return self.root / "tables" / f"{result}-made-from.json"

    @property
    def figures(self) -> Path:
        """The paper's figures, each with its table beside it."""
        return self.shown() / "figures"

    def figure(self, name: str) -> Path:
        """The picture of one figure."""
        return self.figures / f"{name}.png"

    @property
    def overlays(self) -> Path:
        """The folder of the pictures of slides, by setting."""
        return self.shown() / "overlays"

    def overlay(self, setting: str, slide_id: str) -> Path:
        """The picture of one slide with heatmap, section boxes and verdicts."""
        return self.overlays / setting / f"{slide_id}.png"

    def regions(self, setting: str, slide_id: str, *, asked: str = "") -> Path:
        """The Tumor regions and sections of one slide, as QuPath opens them: zipped GeoJSON.

        Those of another output or threshold than the selected ones, which `asked` names, lie in a folder of their own.
        """
        folder = f"{setting}.{asked}" if asked else setting
        return self.shown() / "regions" / folder / f"{slide_id}.geojson.zip"

    def heatmap_tiff(self, setting: str, slide_id: str, psi: str) -> Path:
        """An output of one slide as a pyramidal TIFF."""
        return self.shown() / "heatmap_tiffs" / setting / f"{slide_id}.{psi}.tif"

    def dicom_segmentation(self, setting: str, slide_id: str) -> Path:
        """The final output of one slide as a DICOM segmentation."""
        return self.shown() / "dicom" / setting / f"{slide_id}.seg.dcm"

    def dicom_report(self, setting: str, slide_id: str) -> Path:
        """The verdicts on one slide's sections as a DICOM report of measurements."""
        return self.shown() / "dicom" / setting / f"{slide_id}.sr.dcm"

    @property
    def review(self) -> Path:
        """The folder of what reviewers said about sections."""
        return self.root / "review"

    @property
    def review_plan(self) -> Path:
        """Which sections are reviewed blind, and in which order; claimed by the first reviewer."""
        return self.review / "review.json"

    def review_journal(self, reviewer: str) -> Path:
        """What one reviewer said, as JSON lines in the order of time; `reviewer` is fit for a file's name."""
        return self.review / f"journal-{reviewer}.jsonl"

    def audit_journal(self, reviewer: str) -> Path:
        """What one reviewer said about annotations that an audit found, as JSON lines in the order of time."""
        return self.review / f"audit-{reviewer}.jsonl"

    @property
    def transfer(self) -> Path:
        """The folder of what says whether a cohort's model holds on its slides."""
        return self.shown() / "transfer"

    @property
    def copied_out(self) -> Path:
        """Where results were copied to at last, and how far."""
        return self.root / "copied_out.json"

    @property
    def logs(self) -> Path:
        """Submitit's folder: one log per job and task."""
        return self.root / "logs"

    @property
    def usage(self) -> Path:
        """The folder of what tasks and their slides took: a file of JSON lines for each job."""
        return self.root / "usage"

    @property
    def journal(self) -> Path:
        """What was submitted, as JSON lines in the order of time."""
        return self.root / "jobs.jsonl"

    @property
    def launch_lock(self) -> Path:
        """Locked while a launcher submits or, on local processes, runs jobs of this study; launch.json says which."""
        return self.root / "launch.lock"

    @property
    def code(self) -> Path:
        """The folder of the code that jobs run: one archive per state of the repository."""
        return self.root / "code"
