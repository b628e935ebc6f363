"""A stage of a study as a value: which it is, and everything that launching, status and planning need to know of it.

`bccdist.stages.table` holds the stages of the method. Nothing here needs torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from bccdist.configuration import Setting, StageConfig
from bccdist.errors import ConfigurationError
from bccdist.parts import Part
from bccdist.paths import RunPaths, StudyPaths
from bccdist.slides.manifest import Manifest
from bccdist.usage import Fields

Epochs = Literal["best", "chosen"]
"""best: the best by IoU on Validation I. chosen: the one that the selection chose."""
Needs = Literal["cores", "gpu", "ranks"]
"""What a job gets. cores: one process; gpu: one process with a GPU where there is one; ranks: training's processes."""


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """How far one stage is."""

    num_done: int
    """Slides; epochs for training, settings for the selection, 1 for what is done at once."""
    num_total: int | None
    """None where it is not known yet."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why a slide could not be processed, by slide_id; slides that are done by now are not among them."""
    at_work: tuple[str, ...] = ()
    """Slides that a process began and has not ended; it may have been killed."""
    detail: str = ""
    """How far, in a few words."""
    eta_s: float | None = None
    """Seconds that are left at the pace of the newest work; None where no pace is known."""
    is_out_of_date: bool = False
    """Whether it was whole, and what it was made from has changed since."""
    missing: tuple[str, ...] = ()
    """Slides that are not done, in the manifest's order; failed ones and those at work are among them."""

    @property
    def is_whole(self) -> bool:
        """Whether all of the stage is done."""
        return self.num_total is not None and self.num_done >= self.num_total


FoldersOf = Callable[["Stage", StudyPaths], Sequence[Path]]
ProgressReader = Callable[["Stage", StudyPaths, Manifest, float | None], StageProgress]
"""Reads from a study's folder how far a stage is; the last argument is as in `Stage.progress`."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage. Kind, setting, parts, epochs and fold name it, in memory and on disk; all else follows from them."""

    kind: str
    """What it does, in a word."""
    setting: Setting | None = None
    """Setting that it works for; None where it works for all at once, or has not been given one yet."""
    parts: tuple[Part, ...] = ()
    """Parts whose slides it works on."""
    epochs: Epochs | None = None
    """Epochs that its heatmaps are of."""
    fold: int | None = None
    """Fold of Training that its network does not see, the first being 1; None where it sees all."""
    entry: str = field(compare=False)
    """Function that its jobs call, as module:function. It is called by keyword with those of manifest_path,
    slide_ids, study_root, setting, epochs, fold and config that it has parameters for."""
    read_progress: ProgressReader = field(compare=False, repr=False)
    """Reads how far it is; what it makes, and whose presence means done, is known there."""
    folders_of: FoldersOf = field(default=lambda _stage, _paths: (), compare=False, repr=False)
    """Files and folders that what it makes lies in; what has a slide's name there counts as that slide's."""
    after: tuple["Stage", ...] = field(default=(), compare=False, repr=False)
    """Stages that it waits for, where they are launched with it; of the same setting if it has one."""
    needs_success: bool = field(default=True, compare=False)
    """Whether it waits for their success; if not, it works on what there is once they have ended."""
    is_for_each_setting: bool = field(default=False, compare=False)
    """Whether a study has one for each setting."""
    is_for_each_slide: bool = field(default=False, compare=False)
    """Whether it is an array of jobs, to which the slides of its parts are dealt out."""
    needs: Needs = field(default="cores", compare=False)
    """What one of its jobs gets of the machine."""
    config: StageConfig | None = field(default=None, compare=False)
    """How it is done; None where nothing can be chosen, or nothing is launched."""

    @property
    def name(self) -> str:
        """What people and Slurm call it, such as shards, train-unet or infer-unet-val1-val2; nobody takes it apart."""
        fold = None if self.fold is None else f"fold-{self.fold}"
        words = [self.kind, self.setting, fold, *(part.short for part in self.parts if self.epochs)]
        usual = "chosen" if self.parts == (Part.TEST,) else "best"
        return "-".join(word for word in [*words, self.epochs if self.epochs != usual else None] if word)

    @property
    def its_setting(self) -> Setting:
        """The setting of a stage that is for one.

        Raises:
            ConfigurationError: it has not been given one.
        """
        if self.setting is None:
            raise ConfigurationError(f"{self.kind} is for one setting, and none is given")
        return self.setting

    @property
    def failures(self) -> str:
        """The name of its folder of failures, which stages of one kind and setting share."""
        return failures_name(self.kind, self.setting)

    @property
    def fields(self) -> dict[str, Any]:
        """What names it, for a file."""
        parts = [part.short for part in self.parts]
        # Named only where there is one, so that records of before name the same stage.
        fold = {} if self.fold is None else {"fold": self.fold}
        return {"kind": self.kind, "setting": self.setting, "parts": parts, "epochs": self.epochs, **fold}

    def run(self, paths: StudyPaths) -> RunPaths:
        """The training run of a stage that is for one setting."""
        setting = self.its_setting
        return paths.run(setting) if self.fold is None else paths.audit(setting).run(self.fold)

    def is_like(self, other: Self) -> bool:
        """Whether both are the same entry of the table, perhaps for other settings or parts."""
        return (self.kind, self.epochs) == (other.kind, other.epochs)

    def waits_for(self, other: Self) -> bool:
        """Whether it is to begin after another one that is launched with it."""
        is_named = any(each.is_like(other) for each in self.after)
        return is_named and (self.setting is None or other.setting in (None, self.setting))

    def progress(self, paths: StudyPaths, manifest: Manifest, *, since_s: float | None = None) -> StageProgress:
        """How far it is, read from the study's folder alone.

        Args:
            paths: the study.
            manifest: its slides.
            since_s: take the pace from files written after this time, in seconds since 1970; None is all of them.
        """
        return self.read_progress(self, paths, manifest, since_s)


def failures_name(kind: str, setting: str | None) -> str:
    """The folder of failures of a kind: settings may be at work at the same time, so each has its own."""
    return f"{kind}-{setting}" if setting else kind


def find_stage(fields: Fields, table: Sequence[Stage]) -> Stage | None:
    """The stage that some fields name; None where the table has no such entry, as of another version."""
    if not fields.keys() >= {"kind", "setting", "parts", "epochs"}:
        return None
    parts = tuple(Part.parse(part) for part in fields["parts"])
    for stage in table:
        if (stage.kind, stage.epochs) == (fields["kind"], fields["epochs"]):
            return replace(stage, setting=fields["setting"], parts=parts, fold=fields.get("fold"))
    return None
