"""A model goes to other tools whole: each runs its export and finds our probabilities; each file says what it is."""

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import small_timm
import torch
from model_study import write_model_study
from numpy.typing import NDArray
from places import REPOSITORY, REQUIRE_ALL

from bccdist.configuration import PHANTOM_WEIGHTS_WARNING, AreaUnit, Psi, Setting, pixel_px
from bccdist.errors import ConfigurationError, ModelError
from bccdist.models.description import Description
from bccdist.models.exporting import export
from bccdist.models.exporting.bioimageio_package import _LICENCES
from bccdist.models.exporting.export import EXPORT_FORMATS, ExportFormat, export_model
from bccdist.models.exporting.maps import PatchScores, pixels_of_t_a
from bccdist.models.exporting.torchscript import EXTRA
from bccdist.models.model_file import CARD, ModelFile, read_model
from bccdist.models.network import load_network_of
from bccdist.models.packing import pack_model
from bccdist.networks.folding import channels_first
from bccdist.networks.inference import WholeNetwork
from bccdist.networks.openvino_engine import run_float_model

LARGEST_DIFFERENCE: dict[ExportFormat, float] = {
    "torchscript": 0.0,
    "bioimageio": 0.0,
    "onnx": 2e-4,
    "openvino": 2e-4,
    "wsinfer": 1e-6,
}
"""What the manual says of each; these networks were never trained, which makes their scores large."""
SETTINGS: tuple[tuple[Setting, bool, str], ...] = (
    ("resnet34_ds", False, "CC-BY-4.0"),
    ("resnet34_linear", True, "ask the laboratory"),
    ("unet", False, ""),
)
Export = Callable[[ExportFormat], Path]
pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda param: param[0])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    setting, phantom, licence = request.param
    folder = tmp_path_factory.mktemp("export")
    study = write_model_study(folder / "study", setting=setting, phantom=phantom)
    return pack_model(study.root, folder / "bcc.model", licence=licence)


@pytest.fixture(scope="module")
def exported(model: ModelFile) -> Export:
    """Exports a format once."""

    def folder_of(name: ExportFormat) -> Path:
        out = model.path.parent / "exports"
        if not (out / name).exists():
            require(*export._FORMATS[name].packages)
            (made,) = export_model(model, [name], out)
            assert made.difference <= LARGEST_DIFFERENCE[name]
        return out / name

    return folder_of


@pytest.fixture(scope="module")
def one_model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """For what is the same with every model."""
    folder = tmp_path_factory.mktemp("one")
    return pack_model(write_model_study(folder / "study").root, folder / "bcc.model")


def require(*packages: str) -> None:
    """Leave a test out, with a word, where a tool is not installed; CI demands all of them."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing and REQUIRE_ALL not in os.environ:
        pytest.skip(f"needs {', '.join(missing)}: install with `pip install -e '.[dev]'`")


def pictures(num: int, height_px: int, width_px: int, *, seed: int = 3) -> NDArray[np.uint8]:
    """Pixels as readers of slides give them: uint8 RGB [n, h, w, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (num, height_px, width_px, 3), dtype=np.uint8)


def ours(model: ModelFile, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What float32 eager finds on the way of heatmaps, each pixel of a coarse output repeated: [n, k, h, w]."""
    network = load_network_of(model)
    whole = channels_first(WholeNetwork(network))
    with torch.inference_mode():
        found = whole(torch.from_numpy(images))
    sizes = [pixel_px(psi) for psi in network.outputs]
    return np.stack([each.numpy().repeat(n, 1).repeat(n, 2) for each, n in zip(found, sizes, strict=True)], axis=1)


def channels_before(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def by_tool(code: str, home: Path) -> str:
    """What a foreign tool prints, in a process and a home of its own."""
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home), "BIOIMAGEIO_CACHE_PATH": str(home)}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def texts_of(folder: Path) -> list[str]:
    """The facts and the card of an export."""
    if (folder / "metadata.json").exists():
        return [(folder / name).read_text(encoding="utf-8") for name in ("metadata.json", "README.md")]
    with ZipFile(folder / "bcc.bioimageio.zip") as archive:
        return [archive.read(name).decode() for name in ("rdf.yaml", "README.md")]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_libtorch_finds_our_bits_for_any_number_and_size(model: ModelFile, exported: Export) -> None:
    network = torch.jit.load(exported("torchscript") / "model.pt")
    for images in (pictures(3, 96, 160), pictures(1, 512, 512, seed=4)):
        given, expected = channels_before(images), ours(model, images)
        with torch.inference_mode():
            for pixels in (torch.from_numpy(given), torch.from_numpy(given).float()):
                assert np.array_equal(network(pixels).numpy(), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_goes_to_another_device_as_a_whole(exported: Export) -> None:
    """Its weights are parameters and buffers, and its code names no device and no constant but numbers."""
    path = exported("torchscript") / "model.pt"
    network = torch.jit.load(path)
    assert len(list(network.parameters())) > 20
    assert {"mean", "std"} <= dict(network.named_buffers()).keys()
    with ZipFile(path) as archive:
        (code,) = (name for name in archive.namelist() if name.endswith(".py"))
        assert "device" not in archive.read(code).decode()
        constants = [name for name in archive.namelist() if "/constants/" in name]
        assert all(archive.getinfo(name).file_size <= 8 for name in constants)


def test_onnx_runtime_finds_our_probabilities_for_any_number_and_size(model: ModelFile, exported: Export) -> None:
    folder = exported("onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for images in (pictures(3, 96, 160), pictures(1, 512, 512, seed=4)):
        (found,) = session.run(["tumor_probability"], {"rgb": channels_before(images).astype(np.float32)})
        assert np.abs(found - ours(model, images)).max() <= LARGEST_DIFFERENCE["onnx"]
    facts = json.loads(session.get_modelmeta().custom_metadata_map["bccdist"])
    assert facts == json.loads((folder / "metadata.json").read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_setting_of_one_output_on_a_resnet_is_ours_at_the_smallest_and_the_longest_sides(tmp_path: Path) -> None:
    require(*export._FORMATS["onnx"].packages)
    model = pack_model(write_model_study(tmp_path / "study", setting="resnet34").root, tmp_path / "bcc.model")
    made = {each.folder.name: each for each in export_model(model, ["torchscript", "onnx"], tmp_path)}
    assert all(each.difference <= LARGEST_DIFFERENCE[name] for name, each in made.items())  # type: ignore[index]
    import onnxruntime

    network = torch.jit.load(made["torchscript"].folder / "model.pt")
    session = onnxruntime.InferenceSession(made["onnx"].folder / "model.onnx", providers=["CPUExecutionProvider"])
    for images in (pictures(2, 32, 32), pictures(1, 32, 1056), pictures(5, 224, 96)):
        given, expected = channels_before(images), ours(model, images)
        with torch.inference_mode():
            assert np.array_equal(network(torch.from_numpy(given)).numpy(), expected)
        (found,) = session.run(["tumor_probability"], {"rgb": given.astype(np.float32)})
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= LARGEST_DIFFERENCE["onnx"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("encoder", ["small_half", "small_nhwc"])
def test_an_encoder_of_timm_is_packed_and_exported_by_its_name(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_timm.install(monkeypatch)
    model = pack_model(write_model_study(tmp_path / "study", encoder=encoder).root, tmp_path / "bcc.model")
    assert read_model(model.path).description.network.encoder == encoder
    assert f"with timm's encoder {encoder}" in model.read(CARD).decode()
    network = load_network_of(model)
    assert network.encoder_name == encoder
    (made,) = export_model(model, ["torchscript"], tmp_path)
    assert json.loads((made.folder / "metadata.json").read_text(encoding="utf-8"))["model"]["encoder"] == encoder
    images = pictures(2, 96, 160)
    with torch.inference_mode():
        found = torch.jit.load(made.folder / "model.pt")(torch.from_numpy(channels_before(images)))
    assert np.array_equal(found.numpy(), ours(model, images))


def test_an_encoder_that_a_format_cannot_hold_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise ValueError("an operator that is not known\nand much more")

    small_timm.install(monkeypatch)
    model = pack_model(write_model_study(tmp_path / "study", encoder="small").root, tmp_path / "bcc.model")
    monkeypatch.setitem(export._FORMATS, "onnx", replace(export._FORMATS["torchscript"], write=fail))
    with pytest.raises(ModelError) as caught:
        list(export_model(model, ["onnx"], tmp_path))
    assert str(caught.value) == (
        "onnx: not written: it cannot hold the encoder small of timm (ValueError: an operator that is not known); "
        "export another format"
    )
    assert not (tmp_path / "onnx").exists()


def test_openvino_finds_our_probabilities_for_any_number_and_size(model: ModelFile, exported: Export) -> None:
    folder = exported("openvino")
    images, given, found = pictures(3, 96, 160), folder.parent / "given.npy", folder.parent / "found.npy"
    np.save(given, channels_before(images).astype(np.float32))
    code = f"""
import sys; sys.modules["openvino_telemetry"] = None
import numpy, openvino
core = openvino.Core()
model = core.read_model({str(folder / "model.xml")!r})
compiled = core.compile_model(model, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
numpy.save({str(found)!r}, compiled({{"rgb": numpy.load({str(given)!r})}})["tumor_probability"])
print(model.get_rt_info(["bccdist"]).astype(str))
"""
    facts = json.loads(by_tool(code, folder.parent / "home"))
    assert np.abs(np.load(found) - ours(model, images)).max() <= LARGEST_DIFFERENCE["openvino"]
    assert facts == json.loads((folder / "metadata.json").read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["torchscript", "onnx", "openvino"])
@pytest.mark.parametrize("sides_px", [(31, 31), (64, 63), (95, 32), (48, 64)])
def test_sides_that_are_no_multiples_of_32_are_refused_by_every_runtime(
    exported: Export, name: ExportFormat, sides_px: tuple[int, int]
) -> None:
    """From 31 px the network would make maps of 32 px, without a word."""
    given = channels_before(pictures(1, *sides_px))
    with pytest.raises(RuntimeError, match=r"(?i)shape|reshape|dimension"):
        run_exported(name, exported(name), given)
    assert run_exported(name, exported(name), channels_before(pictures(1, 32, 64))).shape[2:] == (32, 64)


def run_exported(name: ExportFormat, folder: Path, given: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a format's own runtime gives, any error of which is a RuntimeError."""
    if name == "torchscript":
        network = torch.jit.load(next(folder.glob("*.pt")))
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(given)))
    if name == "openvino":
        return run_float_model(next(folder.glob("*.xml")), given.astype(np.float32))
    import onnxruntime

    session = onnxruntime.InferenceSession(next(folder.glob("*.onnx")))
    try:
        (found,) = session.run(None, {"rgb": given.astype(np.float32)})
    except Exception as error:  # of a module that ONNX Runtime does not name
        raise RuntimeError(str(error)) from error
    return np.asarray(found)


@pytest.mark.slow
def test_bioimageio_core_s_own_test_passes_and_finds_our_probabilities(model: ModelFile, exported: Export) -> None:
    require("bioimageio")
    package = exported("bioimageio") / "bcc.bioimageio.zip"
    folder = package.parent.parent
    images, given, found = pictures(1, 544, 512), folder / "given.npy", folder / "found.npy"
    np.save(given, channels_before(images))
    code = f"""
import json, numpy
from bioimageio.core import create_prediction_pipeline, load_description, test_model
from bioimageio.core.digest_spec import create_sample_for_model
summary = test_model({str(package)!r})
model = load_description({str(package)!r})
sample = create_sample_for_model(model, inputs={{"rgb": numpy.load({str(given)!r})}})
output = create_prediction_pipeline(model).predict_sample_without_blocking(sample)
numpy.save({str(found)!r}, output.members["tumor_probability"].data.to_numpy())
errors = [[detail.name, error.msg] for detail in summary.details for error in detail.errors]
print("\\n" + json.dumps([summary.status, errors, model.config.model_dump(mode="json")["bccdist"]]))
"""
    status, errors, facts = json.loads(by_tool(code, folder / "home").splitlines()[-1])
    assert (status, errors) == ("passed", [])
    # It mirrors the picture at its edges by the halo, and cuts off what it finds there.
    halo = facts["tiling"]["halo_px"]
    around = np.pad(images, ((0, 0), (halo, halo), (halo, halo), (0, 0)), mode="symmetric")
    expected = ours(model, around)[:, :, halo:-halo, halo:-halo]
    assert np.abs(np.load(found) - expected).max() <= LARGEST_DIFFERENCE["bioimageio"]
    assert facts["model"]["sha256"].startswith(model.digest)
    assert facts["decision"]["t_a_um2"] == model.description.selection.t_a_um2


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_wsinfer_zoo_takes_the_configuration_and_its_probability_is_ours(model: ModelFile, exported: Export) -> None:
    require("wsinfer_zoo")
    folder = exported("wsinfer")
    code = f"""
import dataclasses, json
from wsinfer_zoo.client import ModelConfiguration
text = open({str(folder / "config.json")!r}).read()
print(json.dumps(dataclasses.asdict(ModelConfiguration.from_dict(json.loads(text)))))
"""
    taken = json.loads(by_tool(code, folder.parent / "home"))
    assert (taken["spacing_um_px"], taken["patch_size_pixels"], taken["class_names"]) == (
        0.92,
        512,
        ["Normal", "Tumor"],
    )
    normalise = {
        name: torch.tensor(values)[:, None, None] for name, values in taken["transform"][2]["arguments"].items()
    }
    images = pictures(2, 512, 512)
    # What torchvision's ToTensor and Normalize compute, which WSInfer takes.
    given = torch.from_numpy(channels_before(images)).float().div(255).sub(normalise["mean"]).div(normalise["std"])
    network = torch.jit.load(folder / "torchscript_model.pt")
    with torch.inference_mode():
        found = network(given).softmax(dim=1)[:, 1].numpy()
    psi = model.description.selection.psi
    final = ours(model, images)[:, model.description.network.outputs.index(psi)].reshape(2, -1)
    # 1280 um2 are 1512.3 pixels of 0.92 um.
    assert found == pytest.approx(np.sort(final)[:, -1513], abs=LARGEST_DIFFERENCE["wsinfer"])


class _Known(torch.nn.Module):
    """A network whose first patch has an area of t_A at 0.9, and whose second one has a pixel less."""

    def __init__(self, psi: Psi, num_pixels: int) -> None:
        super().__init__()
        self._psi = psi
        self._num_pixels = num_pixels

    def forward(self, _: torch.Tensor) -> dict[Psi, torch.Tensor]:
        probability = torch.full((2, 64 * 64), 0.2)
        probability[0, : self._num_pixels] = 0.9
        probability[1, 1 : self._num_pixels] = 0.9
        tumor = probability.logit().reshape(2, 64, 64)
        return {self._psi: torch.stack([torch.zeros_like(tumor), tumor], dim=1)}


def test_a_patch_is_tumor_in_wsinfer_where_as_much_of_it_as_t_a_is(one_model: ModelFile) -> None:
    num_pixels, psi = pixels_of_t_a(one_model.description), one_model.description.selection.psi
    assert num_pixels == 1513
    module = PatchScores(_Known(psi, num_pixels), psi, num_pixels)  # type: ignore[arg-type]
    scores = module(torch.zeros(2, 3, 64, 64))
    assert scores.softmax(dim=1)[:, 1].tolist() == pytest.approx([0.9, 0.2], abs=1e-6)


@pytest.mark.parametrize("name", EXPORT_FORMATS)
def test_every_format_says_what_it_needs_and_what_it_is(
    model: ModelFile, exported: Export, name: ExportFormat
) -> None:
    facts, card = texts_of(exported(name))
    for text in (facts, card):
        assert model.digest in text
        assert model.description.licence in text
        assert (PHANTOM_WEIGHTS_WARNING in text) == model.description.trained_on.phantom
        assert "0.92" in text
        assert "For research use only" in text
    for word in ("t_p", "t_a_um2", "area_unit", "step_px", "mean_rgb", "target_mpp", "psi_4", "halo_px"):
        assert f'"{word}"' in facts


def test_the_facts_stand_inside_of_torchscript_too(exported: Export) -> None:
    folder = exported("torchscript")
    with ZipFile(folder / "model.pt") as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(EXTRA))
        facts = json.loads(archive.read(name))
    assert facts == json.loads((folder / "metadata.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", EXPORT_FORMATS)
def test_no_path_of_this_machine_is_in_any_file(model: ModelFile, exported: Export, name: ExportFormat) -> None:
    named = [
        str(place).encode() for place in (REPOSITORY, model.path.parent, sys.prefix, Path.home(), "site-packages")
    ]
    for path in exported(name).iterdir():
        data = path.read_bytes()
        if path.suffix == ".zip":
            with ZipFile(path) as archive:
                data += b"".join(map(archive.read, archive.namelist()))
        assert not [place for place in named if place in data], path


@pytest.mark.slow
def test_equal_models_give_equal_bytes_also_in_another_process(one_model: ModelFile, tmp_path: Path) -> None:
    require("onnx", "onnxruntime", "openvino")
    here = {made.name: made.folder for made in export_model(one_model, EXPORT_FORMATS, tmp_path / "here")}
    copy, again = tmp_path / "copy.model", tmp_path / "again"
    shutil.copy(one_model.path, copy)
    script = REPOSITORY / "jobs" / "export_model.py"
    words = [sys.executable, script, copy, "--to", *EXPORT_FORMATS, "--out", again]
    ran = subprocess.run(words, capture_output=True, check=False, text=True)
    assert ran.returncode == 0, ran.stderr
    assert f"{again / 'torchscript'}: largest difference of a probability from ours 0\n" in ran.stdout
    for name in EXPORT_FORMATS:
        files = sorted(path.name for path in here[name].iterdir())
        assert files == sorted(path.name for path in (again / name).iterdir())
        for file in files:
            assert (again / name / file).read_bytes() == (here[name] / file).read_bytes(), (name, file)


def test_qupath_s_script_has_the_model_s_numbers(one_model: ModelFile, tmp_path: Path) -> None:
    (made,) = export_model(one_model, ["torchscript"], tmp_path)
    script = (made.folder / "qupath.groovy").read_text(encoding="utf-8")
    for line in (
        "def patchPx = 512",
        "def haloPx = 64",
        "def umPerPixel = 0.92",
        'def outputs = ["psi_0", "psi_1", "psi_2", "psi_3", "psi_4"] as String[]',
        'new File("model.pt")',
        f'"bccdist {one_model.digest}"',
        "It was not run in QuPath",
    ):
        assert line in script
    assert script.count("(") == script.count(")")
    assert "{" not in script


def test_a_missing_package_is_named_with_its_extra_before_anything_is_written(
    one_model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    missing = r"not installed: onnx \(for onnx\), onnxruntime \(for onnx\), openvino \(for openvino\); install with "
    with pytest.raises(ConfigurationError, match=missing + r"`pip install 'bccdist\[export\]'`"):
        list(export_model(one_model, ["torchscript", "onnx", "openvino"], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("difference", [0.01, float("nan")])
def test_an_export_that_differs_is_not_written_and_what_was_there_stays(
    one_model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, difference: float
) -> None:
    (made,) = export_model(one_model, ["torchscript"], tmp_path)
    before = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    real = export.run_torchscript
    monkeypatch.setattr(export, "run_torchscript", lambda *given: real(*given) + difference)
    with pytest.raises(ModelError, match="torchscript: not written: its probabilities differ"):
        list(export_model(one_model, ["torchscript"], tmp_path))
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["torchscript"]


@pytest.mark.parametrize("name", EXPORT_FORMATS)
def test_a_full_disk_leaves_nothing_half_made(
    one_model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: ExportFormat
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    require(*export._FORMATS[name].packages)
    monkeypatch.setattr(export, "export_card", full)
    with pytest.raises(OSError, match="No space left"):
        list(export_model(one_model, [name], tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["", "torchscript"])
def test_a_file_where_a_folder_belongs_is_named_and_stays(one_model: ModelFile, tmp_path: Path, place: str) -> None:
    out = tmp_path / "exports"
    path = out / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"{path.name}: a file, where a folder belongs"):
        list(export_model(one_model, ["torchscript"], out))
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_folder_of_somebody_else_s_is_not_replaced(one_model: ModelFile, tmp_path: Path) -> None:
    mine = tmp_path / "torchscript" / "thesis.txt"
    mine.parent.mkdir()
    mine.touch()
    with pytest.raises(ConfigurationError, match=r"not replaced, because it holds thesis\.txt, which no export wrote"):
        list(export_model(one_model, ["torchscript"], tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == ["torchscript", "thesis.txt"]


def test_no_format_is_an_error_that_lists_all(one_model: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="no format is named; give one or more of torchscript, onnx, openvino"
    ):
        list(export_model(one_model, [], tmp_path))


def with_t_a(facts: Description, t_a_um2: float, unit: AreaUnit) -> Description:
    return replace(facts, selection=replace(facts.selection, t_a_um2=t_a_um2, area_unit=unit))


@pytest.mark.parametrize(
    ("t_a_um2", "unit", "num"), [(1280, "nominal", 1280), (0.8464 * 4, "physical", 4), (0, "nominal", 1)]
)
def test_t_a_becomes_pixels_by_its_unit(one_model: ModelFile, t_a_um2: float, unit: AreaUnit, num: int) -> None:
    assert pixels_of_t_a(with_t_a(one_model.description, t_a_um2, unit)) == num


def test_an_area_larger_than_a_patch_is_refused_for_a_tool_of_patches(one_model: ModelFile, tmp_path: Path) -> None:
    facts = with_t_a(one_model.description, 300_000, "physical")
    with pytest.raises(ModelError, match="a patch has 262144: a tool that judges patches one by one cannot decide"):
        list(export_model(replace(one_model, description=facts), ["wsinfer"], tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_every_licence_that_goes_into_a_package_is_one_that_it_may_hold(tmp_path: Path) -> None:
    require("bioimageio")
    code = f"""
from bioimageio.spec.model.v0_5 import LicenseId
for licence in {sorted(_LICENCES)!r}:
    LicenseId(licence)
print("all")
"""
    assert by_tool(code, tmp_path / "home").strip() == "all"


def test_an_archive_of_a_package_is_read_by_any_program(one_model: ModelFile, tmp_path: Path) -> None:
    (made,) = export_model(one_model, ["bioimageio"], tmp_path)
    with ZipFile(made.folder / "bcc.bioimageio.zip") as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("rdf.yaml"))["inputs"][0]["axes"][2]["scale"] == 0.92
        assert np.load(io.BytesIO(archive.read("test_input.npy"))).dtype == np.uint8
