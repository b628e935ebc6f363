"""A model file becomes what other tools read: a folder for each format, whole or absent, compared before that."""

import importlib.util
import io
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from zipfile import ZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bccdist.errors import BccdistError, ConfigurationError, ModelError
from bccdist.files import write_json
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.models.exporting import bioimageio_package, onnx_file, qupath_script, wsinfer_files
from bccdist.models.exporting.facts import INPUT, OUTPUT, export_card, export_facts, facts_line
from bccdist.models.exporting.maps import PatchScores, TumorMaps, drawn_patches, pixels_of_t_a
from bccdist.models.exporting.torchscript import run_torchscript, torchscript_bytes
from bccdist.models.model_file import ModelFile
from bccdist.models.network import load_network_of
from bccdist.networks.finite import require_sound
from bccdist.networks.folding import channels_first
from bccdist.networks.openvino_engine import run_float_model, write_float_model

ExportFormat = Literal["torchscript", "onnx", "openvino", "bioimageio", "wsinfer"]
METADATA, CARD = "metadata.json", "README.md"
MOST_DIFFERENCE = 0.5 / NUM_STEPS
"""Half a stored step: an export that is further off than that is not written."""
_NAMES = (INPUT, OUTPUT)
_NUM_COMPARED = 2
_TRACED_PX = 64


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One format, written and compared."""

    name: ExportFormat
    folder: Path
    difference: float
    """The largest difference of a probability between the written files, run by their tool's engine, and ours."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What all formats are made from."""

    model: ModelFile
    maps: TumorMaps
    """In torch's own memory order, in which float32 eager is the reference."""
    facts: Mapping[str, Any]
    patches: NDArray[np.uint8]
    """To compare with, [n, 3, p, p]."""
    expected: NDArray[np.float32]
    """Ours on them, [n, k, p, p]."""

    @property
    def sample(self) -> Tensor:
        """An input that is followed through the network."""
        return torch.zeros((1, 3, _TRACED_PX, _TRACED_PX))

    @property
    def line(self) -> str:
        """The facts in one line."""
        return facts_line(self.facts)


@dataclass(frozen=True, kw_only=True)
class _Format:
    """One format."""

    made_for: str
    write: Callable[[_Source, Path], float]
    """Writes its files into an empty folder, runs them, and returns the largest difference from ours."""
    packages: tuple[str, ...] = ()
    """What it needs beside torch, by the names under which they are imported."""


def export_model(model: ModelFile, formats: Sequence[ExportFormat], out: Path) -> Iterator[Exported]:
    """Write a model for other tools, each format to a folder of its own name in `out`, in place of what is there.

    Args:
        model: whose network and facts.
        formats: for which tools.
        out: the folder of the folders.

    Yields:
        each format, when its folder is there.

    Raises:
        ConfigurationError: no format is named, one needs a package that is not installed, or a file is where a folder
            belongs; then nothing is written. Or a folder holds what no export wrote; it stays as it was.
        ModelError: the file was changed after it was opened, t_A is no area within a patch, or what was written gives
            other probabilities; the folder of that format stays as it was.
        CheckpointError: the packed weights are not what this version can read.
        NotFiniteError: the network's numbers are not finite.
    """
    _require_packages(formats)
    _require_folders([out, *(out / name for name in formats)])
    source = _source(model)
    for name in dict.fromkeys(formats):
        with _atomic_folder(out / name) as partial:
            difference = _written(name, source, partial)
            # NaN is no difference that is small enough.
            if not difference <= MOST_DIFFERENCE:
                raise ModelError(
                    f"{out / name}: not written: its probabilities differ from ours by up to {difference:.2g}, more "
                    f"than half a stored step, {MOST_DIFFERENCE:.2g}; export another format, and report this"
                )
        yield Exported(name=name, folder=out / name, difference=difference)


def _written(name: ExportFormat, source: _Source, folder: Path) -> float:
    """The largest difference of a format that was written from ours.

    Raises:
        ModelError: the format cannot hold an encoder of timm, which may compute what nobody tried.
    """
    try:
        return _FORMATS[name].write(source, folder)
    except Exception as error:
        encoder = source.maps.network.encoder_name
        if not encoder or isinstance(error, BccdistError):
            raise
        reason = next(iter(str(error).strip().splitlines()), "")[:200]
        raise ModelError(
            f"{name}: not written: it cannot hold the encoder {encoder} of timm ({type(error).__name__}: {reason}); "
            "export another format"
        ) from error


def _require_packages(formats: Sequence[ExportFormat]) -> None:
    if not formats:
        raise ConfigurationError(f"no format is named; give one or more of {', '.join(_FORMATS)}")
    needed = {package: name for name in formats for package in _FORMATS[name].packages}
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        wanting = ", ".join(f"{package} (for {needed[package]})" for package in missing)
        raise ConfigurationError(
            f"not installed: {wanting}; install with `pip install 'bccdist[export]'`, or leave the format out"
        )


def _require_folders(places: Sequence[Path]) -> None:
    for place in places:
        if place.exists() and not place.is_dir():
            raise ConfigurationError(f"{place}: a file, where a folder belongs; give another folder, or remove it")


def _source(model: ModelFile) -> _Source:
    maps = cast("TumorMaps", channels_first(TumorMaps(load_network_of(model))).requires_grad_(requires_grad=False))
    require_sound(maps)
    patches = drawn_patches(model.description.network.patch_px, num=_NUM_COMPARED)
    with torch.inference_mode():
        expected = maps(torch.from_numpy(patches)).numpy()
    return _Source(model=model, maps=maps, facts=export_facts(model), patches=patches, expected=expected)


@contextmanager
def _atomic_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, in its place on success, gone on error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, former = (path.with_name(f"{path.name}.{word}-{uuid.uuid4().hex}") for word in ("partial", "former"))
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            _require_nothing_strange(path, partial)
            path.rename(former)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def _require_nothing_strange(path: Path, partial: Path) -> None:
    """A folder that happens to have a format's name may be anybody's."""
    ours = {entry.name for entry in partial.iterdir()}
    if strange := sorted(entry.name for entry in path.iterdir() if entry.name not in ours):
        raise ConfigurationError(
            f"{path}: not replaced, because it holds {', '.join(strange[:3])}, which no export wrote; give another "
            "folder, or move it away"
        )


def _write_torchscript(source: _Source, folder: Path) -> float:
    data = torchscript_bytes(source.maps, source.sample, source.line)
    (folder / "model.pt").write_bytes(data)
    (folder / "qupath.groovy").write_text(qupath_script.qupath_script(source.facts, "model.pt"), encoding="utf-8")
    _describe(source, folder, "torchscript", source.facts)
    return _difference(run_torchscript(data, torch.from_numpy(source.patches)).numpy(), source.expected)


def _write_onnx(source: _Source, folder: Path) -> float:
    data = onnx_file.onnx_bytes(source.maps, source.sample, names=_NAMES, facts=source.line)
    (folder / "model.onnx").write_bytes(data)
    _describe(source, folder, "onnx", source.facts)
    return _difference(onnx_file.run_onnx(data, source.patches.astype(np.float32)), source.expected)


def _write_openvino(source: _Source, folder: Path) -> float:
    path = folder / "model.xml"
    write_float_model(source.maps, source.sample, path, names=_NAMES, facts=source.line)
    _describe(source, folder, "openvino", source.facts)
    return _difference(run_float_model(path, source.patches.astype(np.float32)), source.expected)


def _write_bioimageio(source: _Source, folder: Path) -> float:
    weights = torchscript_bytes(source.maps, source.sample, source.line)
    card = export_card(source.model, source.facts, made_for=_FORMATS["bioimageio"].made_for)
    package = bioimageio_package.bioimageio_bytes(
        weights, source.facts, card, patches=source.patches[:1], maps=source.expected[:1]
    )
    (folder / "bcc.bioimageio.zip").write_bytes(package)
    with ZipFile(io.BytesIO(package)) as archive:
        found = run_torchscript(archive.read(bioimageio_package.WEIGHTS), torch.from_numpy(source.patches))
    return _difference(found.numpy(), source.expected)


def _write_wsinfer(source: _Source, folder: Path) -> float:
    facts, selection = wsinfer_files.for_patches(source.facts), source.model.description.selection
    num_pixels = pixels_of_t_a(source.model.description)
    scores = PatchScores(source.maps.network, selection.psi, num_pixels)
    # The whole patch is followed, because t_A may have more pixels than a small one.
    sample = torch.zeros((1, *source.patches.shape[1:]))
    data = torchscript_bytes(scores, sample, facts_line(facts))
    (folder / wsinfer_files.WEIGHTS).write_bytes(data)
    (folder / wsinfer_files.CONFIGURATION).write_text(wsinfer_files.wsinfer_configuration(facts), encoding="utf-8")
    _describe(source, folder, "wsinfer", facts)
    normalised = (torch.from_numpy(source.patches).float() - source.maps.mean) / source.maps.std
    found = run_torchscript(data, normalised).softmax(dim=1)[:, 1].numpy()
    return _difference(found, _of_patches(source, selection.psi, num_pixels))


def _of_patches(source: _Source, psi: str, num_pixels: int) -> NDArray[np.float32]:
    """The largest t_p at which so many pixels of each patch are Tumor, from our own maps."""
    network = source.maps.network
    times = source.facts["output"]["pixel_px"][psi]
    own_size = source.expected[:, network.outputs.index(psi), ::times, ::times].reshape(len(source.expected), -1)
    return np.sort(own_size, axis=1)[:, -num_pixels]


def _describe(source: _Source, folder: Path, name: ExportFormat, facts: Mapping[str, Any]) -> None:
    """Card and facts beside the files of a format."""
    write_json(folder / METADATA, facts)
    card = export_card(source.model, facts, made_for=_FORMATS[name].made_for)
    (folder / CARD).write_text(card, encoding="utf-8")


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    if found.shape != expected.shape:
        raise ModelError(
            f"the exported network gives an array of {found.shape}, ours of {expected.shape}; report this"
        )
    return float(np.abs(found - expected).max())


_FORMATS: dict[ExportFormat, _Format] = {
    "torchscript": _Format(
        made_for=(
            "`model.pt` is TorchScript, for programs with libtorch: C++, Java, and QuPath by its Deep Java Library "
            "(`qupath.groovy`, which was not run in QuPath)."
        ),
        write=_write_torchscript,
    ),
    "onnx": _Format(
        made_for="`model.onnx` is for ONNX Runtime and all else that reads ONNX.",
        write=_write_onnx,
        packages=("onnx", "onnxruntime"),
    ),
    "openvino": _Format(
        made_for="`model.xml` and `model.bin` are for OpenVINO 2025 or later, in float32.",
        write=_write_openvino,
        packages=("openvino",),
    ),
    "bioimageio": _Format(
        made_for=(
            "The zip is a package for programs that read bioimage.io's model description, such as "
            "bioimageio.core, and QuPath's extension, for which it has to be unpacked; it was not run in QuPath."
        ),
        write=_write_bioimageio,
    ),
    "wsinfer": _Format(
        made_for=(
            "`config.json` and `torchscript_model.pt` are for WSInfer, which judges patches: it has no score maps, "
            "no regions and no sections. A region that crosses patches may be missed, and scattered pixels may be "
            "taken for one."
        ),
        write=_write_wsinfer,
    ),
}
EXPORT_FORMATS: tuple[ExportFormat, ...] = tuple(_FORMATS)
