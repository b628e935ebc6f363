"""What certified inference lacks is told before anything is queued, all of it at once."""

from dataclasses import replace
from pathlib import Path

import pytest
from speedup_records import RECORD
from study_folders import sections, write_study

from bccdist.configuration import InferConfig
from bccdist.errors import ConfigurationError
from bccdist.files import write_text
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.speedups.record import write_speedups
from bccdist.stages.stage import Epochs
from bccdist.study import claim_study
from jobs.launch_infer import InferArguments, main
from jobs.launch_study import StudyArguments
from jobs.slurm.sites import ClusterConfig


@pytest.fixture
def study(tmp_path: Path) -> StudyPaths:
    """A study of two slides whose files are there, with nothing trained."""
    for slide_id, part in (("v", "val2"), ("t", "test")):
        write_text(tmp_path / f"{slide_id}.tif", part)
    write_text(tmp_path / "slides.csv", "slide_id,part,path\nv,val2,v.tif\nt,test,t.tif\n")
    paths = write_study(tmp_path / "study", sections(tp=1, fn=0, fp=0, tn=1))
    claim_study(paths.root, tmp_path / "slides.csv")
    return paths


def lacks(paths: StudyPaths, epochs: Epochs, *parts: str) -> str:
    arguments = InferArguments(
        study=paths.root,
        cluster=ClusterConfig(cluster="local"),
        parts=parts,
        epochs=epochs,
        config=InferConfig(inference="certified"),
    )
    with pytest.raises(ConfigurationError, match="nothing was launched") as told:
        main(arguments)
    assert not paths.journal.exists()
    return str(told.value)


@pytest.mark.parametrize("parts", [("val2",), ("val1", "val2", "test")])
@pytest.mark.parametrize("epochs", ["best", "chosen"])
def test_what_feeds_the_selection_is_never_certified(
    study: StudyPaths, parts: tuple[str, ...], epochs: Epochs
) -> None:
    assert "Validation II feed the selection: ask for inference exact there" in lacks(study, epochs, *parts)


def test_the_best_epochs_are_never_certified(study: StudyPaths) -> None:
    assert "epochs best feed the selection" in lacks(study, "best", "test")


def test_without_a_selection_there_is_nothing_to_certify(study: StudyPaths) -> None:
    assert "inference is certified, which needs what the selection chooses" in lacks(study, "chosen", "test")


@pytest.mark.parametrize(("num_slides", "said"), [(2, "at most 0.666"), (12, "at most 0.923")])
def test_too_few_calibrated_slides_for_the_confidence_are_said_with_what_they_bear(
    study: StudyPaths, num_slides: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = Choice(
        setting="resnet34_ds",
        epoch=7,
        psi="psi_4",
        t_p=0.6,
        t_a_um2=5120,
        beta=1.5,
        area_unit="physical",
        weights_digest="abcdefabcdef",
    )
    monkeypatch.setattr("jobs.launch_infer.chosen_epochs", lambda _paths: {"resnet34_ds": 7})
    monkeypatch.setattr("jobs.launch_infer.read_choices", lambda _paths: [choice])
    ways = tuple(replace(way, slide_levels=(1,) * num_slides) for way in RECORD.ways)
    record = replace(RECORD, ways=ways, epoch=choice.epoch, weights_digest=choice.weights_digest)
    write_speedups(study.run(choice.setting).speedups(choice.epoch, record.machine.key), record)
    text = lacks(study, "chosen", "test")
    assert f"{num_slides} slides of Validation I and II were calibrated" in text
    assert said in text


def test_without_a_record_what_to_run_is_said(study: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.launch_infer.chosen_epochs", lambda _paths: {"resnet34_ds": 7})
    told = lacks(study, "chosen", "test")
    assert "no speed-up record of resnet34_ds, epoch 7: run `python jobs/launch_calibrate.py`" in told


def test_a_whole_study_measures_first_and_keeps_validation_exact(tmp_path: Path) -> None:
    arguments = StudyArguments(
        study=tmp_path / "study",
        cluster=ClusterConfig(cluster="local"),
        manifest=tmp_path / "slides.csv",
        infer=InferConfig(inference="certified"),
    )
    entries = {
        stage.kind + "".join(part.short for part in stage.parts): each for stage, each in arguments.entries.items()
    }
    infers = [each for each in entries.values() if isinstance(each, InferConfig)]
    assert [each.inference for each in infers] == ["exact", "certified"]
    assert "speedups" in {stage.kind for stage in arguments.entries}


@pytest.mark.parametrize(
    "change", [{"tiling": "dense"}, {"precision": "int8"}, {"exit": "psi_0"}, {"cascade": True}, {"blending": "hann"}]
)
def test_certified_finds_its_fast_way_by_itself(change: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="because inference is certified"):
        InferConfig(inference="certified", **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"confidence": 1.0}, {"confidence": 0.0}, {"check_share": 1.5}])
def test_promises_that_nobody_can_keep_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(change))):
        InferConfig(inference="certified", **change)
