"""A chosen network leaves its study as one file with all that its verdicts depend on, and nobody's name."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pyarrow.parquet as pq
import pytest
import torch
from damage import assert_never_used
from model_study import EPOCH, PATIENT, SCANNER, SETTING, write_model_study
from speedup_records import RECORD, measured_way

from bccdist.configuration import PHANTOM_WEIGHTS_WARNING
from bccdist.errors import CheckpointError, LedgerError, ModelError
from bccdist.models.model_file import CARD, DESCRIPTION, GRID, REFERENCE, WEIGHTS, ModelFile, read_model, write_model
from bccdist.models.network import load_network_of
from bccdist.models.packing import pack_model
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import load_network, save_network, weights_digest
from bccdist.paths import StudyPaths
from bccdist.sections.choices import read_choices
from bccdist.slides.versions import SECTION_METHOD
from bccdist.speedups.record import read_speedups, write_speedups


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    return write_model_study(tmp_path_factory.mktemp("model") / "study")


@pytest.fixture
def model(study: StudyPaths, tmp_path: Path) -> ModelFile:
    return pack_model(study.root, tmp_path / "bcc.model", licence="CC-BY-4.0")


def test_the_network_in_it_is_the_chosen_one(study: StudyPaths, model: ModelFile) -> None:
    network, chosen = load_network_of(model), load_network(study.run(SETTING).weights(EPOCH))[0]
    assert (network.setting, network.width, network.training) == (SETTING, 4, False)
    assert all(torch.equal(tensor, chosen.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert model.read(WEIGHTS) == study.run(SETTING).weights(EPOCH).read_bytes()
    assert model.description.network.weights_digest == weights_digest(study.run(SETTING).weights(EPOCH))


def test_it_says_what_a_verdict_depends_on(study: StudyPaths, model: ModelFile) -> None:
    (choice,) = read_choices(study)
    facts = model.description
    assert (facts.selection.t_p, facts.selection.t_a_um2) == (choice.t_p, choice.t_a_um2)
    assert (facts.selection.psi, facts.selection.area_unit) == ("psi_4", "physical")
    assert facts.selection.counts == {"tp": 7, "fn": 1, "fp": 2, "tn": 7, "num_review": 0}
    assert (facts.network.target_mpp, facts.network.mpp_tolerance, facts.network.patch_px) == (0.92, 0.1, 512)
    assert facts.network.outputs == ("psi_0", "psi_1", "psi_2", "psi_3", "psi_4")
    assert facts.network.mean_rgb == (0.485, 0.456, 0.406)
    assert facts.section_method == SECTION_METHOD


def test_it_says_what_it_was_trained_on(model: ModelFile) -> None:
    trained = model.description.trained_on
    assert trained.num_slides == {"Training": 2, "Validation I": 1, "Validation II": 1, "Test": 1}
    assert trained.num_patients["Training"] == 2
    assert trained.num_patches == {"Training": 30, "Validation I": 10}
    assert trained.scanners == {SCANNER: 2}
    assert not trained.phantom
    assert trained.configuration["width"] == 4


def test_the_whole_grid_of_its_setting_is_in_it(study: StudyPaths, model: ModelFile) -> None:
    grid = pq.read_table(io.BytesIO(model.read(GRID)))
    assert grid.num_rows == pq.read_table(study.grid).num_rows > 100


def test_reference_rows_are_those_of_validation(model: ModelFile) -> None:
    reference = pq.read_table(io.BytesIO(model.read(REFERENCE))).to_pandas()
    assert set(reference["part"]) == {"Validation I", "Validation II"}
    assert len(reference) == 17
    assert reference["slide"].nunique() == 2


def test_it_names_no_slide_section_patient_or_folder(study: StudyPaths, tmp_path: Path) -> None:
    ways = (measured_way("paper", "int8", "openvino", 4, "Anna-s1/psi_4", "Anna-s2/psi_4"),)
    record = replace(RECORD, slide_ids=("Anna-slide",), ways=ways, bands=(), weights_digest="w")
    write_speedups(study.run(SETTING).speedups(EPOCH, "cpu"), record)
    model = pack_model(study.root, tmp_path / "bcc.model")
    texts = [model.read(name) for name in model.names()]
    frames = [pq.read_table(io.BytesIO(model.read(name))).to_pandas() for name in (GRID, REFERENCE)]
    with ZipFile(model.path) as archive:
        texts += [archive.read(DESCRIPTION), *(frame.to_csv().encode() for frame in frames)]
    found = b"\n".join(texts)
    for name in (PATIENT, "slide-0", "slide-2", "Anna", str(study.root)):
        assert name.encode() not in found, name
    study.run(SETTING).speedups(EPOCH, "cpu").unlink()


def test_speedup_records_come_with_it_and_say_the_same_without_names(study: StudyPaths, tmp_path: Path) -> None:
    path = study.run(SETTING).speedups(EPOCH, "cpu")
    write_speedups(path, RECORD)
    study.run(SETTING).int8_model(EPOCH, "whole").write_text("<net/>")
    model = pack_model(study.root, tmp_path / "bcc.model")
    copy = tmp_path / path.name
    copy.write_bytes(model.read(f"speedups/{path.name}"))
    packed = read_speedups(copy, weights_digest="w")
    assert [len(way.changed_verdicts) for way in packed.ways] == [0, 0, 1, 0, 2]
    assert packed.fastest(tilings=["dense", "paper"], precisions=["int8", "float32"]) == RECORD.ways[3]
    assert model.read(f"speedups/epoch-{EPOCH:03d}-whole-int8.xml") == b"<net/>"
    for left in path.parent.iterdir():
        left.unlink()


def test_equal_studies_give_equal_files(study: StudyPaths, model: ModelFile, tmp_path: Path) -> None:
    again = pack_model(study.root, tmp_path / "again.model", licence="CC-BY-4.0")
    assert again.path.read_bytes() == model.path.read_bytes()


def test_foreign_tools_open_it(model: ModelFile) -> None:
    with ZipFile(model.path) as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read(DESCRIPTION))["format"] == "bccdist model"
        assert archive.namelist()[0] == DESCRIPTION


def test_the_card_has_a_hub_s_head_the_licence_and_the_decision(model: ModelFile) -> None:
    card = model.read(CARD).decode()
    assert card.startswith("---\nlicense: CC-BY-4.0\n")
    assert "at least 1280 um2" in card
    assert "7 TP, 1 FN, 2 FP, 7 TN" in card
    assert PHANTOM_WEIGHTS_WARNING not in card


def test_a_phantom_s_model_says_so(tmp_path: Path) -> None:
    study = write_model_study(tmp_path / "study", phantom=True)
    model = pack_model(study.root, tmp_path / "bcc.model")
    assert model.description.trained_on.phantom
    assert PHANTOM_WEIGHTS_WARNING in model.read(CARD).decode()


def test_every_damage_is_an_error_that_names_the_file(model: ModelFile) -> None:
    def read() -> dict[str, bytes]:
        opened = read_model(model.path)
        return {name: opened.read(name) for name in opened.names()}

    assert assert_never_used(model.path, read, seed=3, num=80) > 70


def test_a_newer_version_is_refused(model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bccdist.models.description.FORMAT_VERSION", 2)
    path = tmp_path / "newer.model"
    write_model(path, {}, model.description)
    with pytest.raises(ModelError, match=r"newer\.model: its format version is 2, this version of bccdist reads 1"):
        read_model(path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bcc.model"
    with pytest.raises(ModelError, match="no model file there"):
        read_model(path)
    path.write_bytes(b"text")
    with pytest.raises(ModelError, match="no model file"):
        read_model(path)
    with ZipFile(path, "w") as archive:
        archive.writestr("a", b"b")
    with pytest.raises(ModelError, match="that no version of bccdist packed"):
        read_model(path)


def test_weights_of_another_training_are_refused(tmp_path: Path) -> None:
    study = write_model_study(tmp_path / "study")
    metadata = {"target_mpp": "0.92", "phantom": "false", "epoch": "2"}
    save_network(study.run(SETTING).weights(EPOCH), DeeplySupervisedUNet(SETTING, width=4), metadata)
    with pytest.raises(CheckpointError, match="but the selection judged"):
        pack_model(study.root, tmp_path / "bcc.model")
    assert not (tmp_path / "bcc.model").exists()


def test_a_study_without_selection_is_refused(tmp_path: Path) -> None:
    study = write_model_study(tmp_path / "study")
    study.selection.unlink()
    with pytest.raises(LedgerError, match="no thresholds were selected yet"):
        pack_model(study.root, tmp_path / "bcc.model")


def test_it_opens_without_torch_in_less_than_a_second(model: ModelFile) -> None:
    code = (
        "import sys, time; start = time.process_time()\n"
        "from pathlib import Path; from bccdist.models.model_file import read_model\n"
        f"read_model(Path({str(model.path)!r}))\n"
        "assert 'torch' not in sys.modules\n"
        "print(time.process_time() - start)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 1.0
