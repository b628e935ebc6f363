"""A trained model in Python: opened without torch, and applied to slides (paper, section 2.4)."""

import os
import re
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from threading import RLock
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from bccdist.configuration import PHANTOM_WEIGHTS_WARNING, InferConfig, Inference, Precision
from bccdist.errors import BccdistError, ConfigurationError, ModelError, StageFailedError
from bccdist.library.progress import Progress, ProgressLine, Told
from bccdist.log import LOG
from bccdist.models.description import Description
from bccdist.models.model_file import CARD, ModelFile, read_model

if TYPE_CHECKING:
    from bccdist.library.found import Found
    from bccdist.library.predicting import ReadyNetwork
    from bccdist.slides.manifest import SlideRecord

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """How slides are to be predicted."""

    out: Path | None
    config: InferConfig
    told: Told
    num_slides: int = 1


class Model:
    """A trained model: its network with the thresholds of its verdicts; made by `open_model`.

    Its network is loaded when the first slide is predicted, and kept until the model is closed. One slide is predicted
    at a time, also where several threads ask; all cores, or the GPU, work on it.

    Attributes:
        path: of the model file.
        description: all that the file says of itself.
    """

    def __init__(self, file: ModelFile, *, device: str | None = None) -> None:
        self.path: Path = file.path
        self.description: Description = file.description
        self._file = file
        self._device = device
        self._networks: dict[InferConfig, ReadyNetwork] = {}
        self._turn = RLock()
        self._folder = Path(tempfile.mkdtemp(prefix="bccdist-model-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self._folder, True)

    @property
    def card(self) -> str:
        """The model card, as Markdown.

        Raises:
            ModelError: the file was changed after it was opened.
        """
        return self._file.read(CARD).decode()

    def predict(
        self,
        slide: PathLike,
        *,
        slide_id: str | None = None,
        mpp: float | None = None,
        out: PathLike | None = None,
        precision: Literal["auto"] | Precision | None = None,
        inference: InferConfig | Inference | None = None,
        progress: bool | Told = True,
    ) -> "Found":
        """Find the sections of a slide, make its heatmaps, and judge each section.

        Args:
            slide: the slide's file.
            slide_id: what it is called; None takes the file's name without its ending.
            mpp: um per level-0 pixel, where the file does not say it, or wrongly.
            out: folder that keeps the heatmaps; None keeps them as long as what is returned. A heatmap of this slide
                by this model that is there already is read instead of made again.
            precision: of the network, in place of that of `inference`.
            inference: how: certified, exact, or in all details; None is the paper's way, as the launchers' is.
                certified takes the fastest way of the model's speed-up record, and computes exactly where a verdict
                does not follow from it.
            progress: whether a line tells how far it is, or what is called with each `Progress`.

        Raises:
            SlideError: the slide is not there, cannot be read, or has no um/px that fits the network.
            ModelError: the model is closed, does not fit this version, or holds no speed-up record that is needed.
            ConfigurationError: something that is asked for is not possible; or at `out` lie heatmaps of other origin.
            HeatmapError: the heatmaps cannot be written.
            NotFiniteError: the network gives something else than probabilities.
        """
        self._require_open()
        if not isinstance(slide, str | os.PathLike):
            raise ConfigurationError(f"{slide!r}: expected the path of a slide; `predict_many` takes several")
        wish = _Wish(out=_folder(out), config=self._config(precision, inference), told=_told(progress))
        return self._predict(_record(Path(slide), slide_id, mpp), wish)

    def predict_many(
        self,
        slides: Mapping[str, PathLike] | Iterable[PathLike],
        *,
        out: PathLike | None = None,
        precision: Literal["auto"] | Precision | None = None,
        inference: InferConfig | Inference | None = None,
        progress: bool | Told = True,
        failures: MutableMapping[str, str] | None = None,
    ) -> "Iterator[Found]":
        """Predict slides one after the other; each result comes as soon as it is there.

        A slide that fails is told at once and costs no other. The error that names all of them comes at the end,
        where `list(...)` loses the others: with `failures` they are written there, and there is no error.

        Args:
            slides: the slides' files; or by slide_id, where files of several folders have one name.
            out: as in `predict`, and so are all others.
            precision: of the network.
            inference: how.
            progress: whether a line tells how far it is.
            failures: takes why a slide failed, by slide_id.

        Raises:
            ConfigurationError: two slides have one name, or something that is asked for is not possible.
            ModelError: the model is closed, or does not fit.
            StageFailedError: at the end, some slides failed and `failures` was not given; it says which and why.
        """
        self._require_open()
        if isinstance(slides, str | os.PathLike):
            raise ConfigurationError(f"{slides}: a single slide, expected several; `predict` takes one")
        given = list(slides.items() if isinstance(slides, Mapping) else ((None, path) for path in slides))
        paths = {_slide_id(Path(path)) if name is None else name: Path(path) for name, path in given}
        if len(paths) < len(given):
            raise ConfigurationError(_double_names([Path(path) for _, path in given]))
        config = self._config(precision, inference)
        wish = _Wish(out=_folder(out), config=config, told=_told(progress), num_slides=len(paths))
        return self._predict_each(paths, wish, failures)

    def _predict_each(
        self, paths: Mapping[str, Path], wish: _Wish, kept: MutableMapping[str, str] | None
    ) -> "Iterator[Found]":
        failures: MutableMapping[str, str] = {} if kept is None else kept
        # What stops all slides comes before the first.
        self._network(wish.config)
        for number, (slide_id, path) in enumerate(paths.items(), start=1):
            try:
                found = self._predict(_record(path, slide_id, None), wish, number)
            except (BccdistError, OSError) as error:
                failures[slide_id] = str(error)
                LOG.error(f"slide {slide_id}: FAILED: {error}")
                continue
            yield found
        if failures and kept is None:
            listed = "\n".join(f"  - {slide_id}: {reason}" for slide_id, reason in failures.items())
            done = ", the others are done" if len(failures) < len(paths) else ""
            raise StageFailedError(f"{len(failures)} of {len(paths)} slide(s) failed{done}:\n{listed}")

    def _predict(self, record: "SlideRecord", wish: _Wish, number: int = 1) -> "Found":
        with self._turn:
            network = self._network(wish.config)
            from bccdist.library.predicting import find_on_slide

            progress = Progress(slide_id=record.slide_id, number=number, num_slides=wish.num_slides)
            started_s = monotonic()

            def tell(share: float, result: str = "") -> None:
                wish.told(replace(progress, share=share, elapsed_s=monotonic() - started_s, result=result))

            try:
                found = find_on_slide(network, record, out=wish.out, told=tell)
            finally:
                if isinstance(wish.told, ProgressLine):
                    wish.told.clear()
            tell(1.0, found.summary)
            return found

    def _network(self, config: InferConfig) -> "ReadyNetwork":
        """The network in one way of inference, loaded when it is asked for first."""
        with self._turn:
            self._require_open()
            if config not in self._networks:
                _import_torch()
                from bccdist.library.predicting import device_of, ready_network

                folder = Path(tempfile.mkdtemp(dir=self._folder))
                self._networks[config] = ready_network(self._file, config, device_of(self._device), folder)
            return self._networks[config]

    def _config(
        self, precision: Literal["auto"] | Precision | None, inference: InferConfig | Inference | None
    ) -> InferConfig:
        config = inference
        if not isinstance(config, InferConfig):
            usual = InferConfig(mpp_tolerance=self.description.network.mpp_tolerance)
            config = usual if config is None else replace(usual, inference=config)
        return config if precision is None else replace(config, precision=precision)

    def _require_open(self) -> None:
        if not self._remove.alive:
            raise ModelError(f"{self.path}: this model was closed; open it again with bccdist.open_model")

    def close(self) -> None:
        """Let go of the network; what was found with it stays. OpenVINO keeps what it compiled until Python ends."""
        with self._turn:
            if self._networks:
                from bccdist.library.predicting import give_back

                self._networks.clear()
                give_back()
            self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """What it is, in a line."""
        network, selection = self.description.network, self.description.selection
        warning = f"; {PHANTOM_WEIGHTS_WARNING}" if self.description.trained_on.phantom else ""
        return (
            f"<{self.path.name}: {network.setting}, width {network.width}, {network.target_mpp:g} um/px; Tumor by "
            f"{selection.psi} from {selection.t_p:g} and {selection.t_a_um2:g} um2{warning}>"
        )


def _import_torch() -> None:
    """Import torch and what needs it, whole whatever happens: Ctrl-C does not reach the thread that does it.

    A torch that was imported by half crashes Python when it is imported again.
    """
    with ThreadPoolExecutor(1) as thread:
        thread.submit(import_module, "bccdist.library.predicting").result()


def _record(path: Path, slide_id: str | None, mpp: float | None) -> "SlideRecord":
    """The slide as a row of a manifest; whether it is drawn stands in its file.

    Raises:
        SlideError: the file is not there or no slide.
        ConfigurationError: the slide_id cannot name a file.
    """
    from bccdist.parts import Part
    from bccdist.phantom.pyramid import SOFTWARE
    from bccdist.slides.manifest import PHANTOM_SCANNER, SlideRecord
    from bccdist.slides.slide import read_scale

    slide_id = _slide_id(path) if slide_id is None else slide_id
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+-]*", slide_id):
        raise ConfigurationError(f"slide_id is {slide_id!r}; use letters, digits, '_', '-' and '+': it names a file")
    _mpp, properties = read_scale(path, mpp)
    scanner = PHANTOM_SCANNER if properties.get("tiff.Software") == SOFTWARE else ""
    # A part says which role a slide has in a study; outside of one it only has to be named.
    return SlideRecord(slide_id=slide_id, part=Part.TEST, path=path, mpp=mpp, scanner=scanner)


def _slide_id(path: Path) -> str:
    """The id of a slide that is given alone, as the launcher makes it."""
    from bccdist.slides.finder import slide_id_of

    return slide_id_of(Path(path.name))


def _double_names(paths: list[Path]) -> str:
    """Say which slides have one name."""
    counts = Counter(map(_slide_id, paths))
    name = next(name for name, num in counts.items() if num > 1)
    same = ", ".join(str(path) for path in paths if _slide_id(path) == name)
    return f"{counts[name]} slides would be called {name}: {same}; give a mapping from slide_id to path instead"


def _folder(out: PathLike | None) -> Path | None:
    """The folder for the heatmaps, if one is named.

    Raises:
        ConfigurationError: it is a file, or cannot be made.
    """
    if out is None:
        return None
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"out is {out}, which is a file, expected a folder or nothing there")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"out is {out}, where no folder can be made: {error.strerror}") from error
    return folder


def _told(progress: bool | Told) -> Told:
    if callable(progress):
        return progress
    return ProgressLine() if progress else lambda _: None


def open_model(path: PathLike, *, device: str | None = None) -> Model:
    """Open a model file; its bytes are compared with their seal, and torch is not loaded yet.

    Args:
        path: what `python jobs/pack_model.py` made.
        device: where slides are predicted: `cpu`, `cuda` or `cuda:1`; None is a GPU where there is one.

    Raises:
        ModelError: it is missing, damaged, cut short, no model, or of a newer version.
    """
    return Model(read_model(Path(path)), device=device)
