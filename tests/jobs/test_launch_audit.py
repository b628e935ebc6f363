"""The launch of an audit deals the folds once, and says in a line what is wrong before it does anything."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_study import SmallStudy, write_finished_study

from bccdist.errors import ConfigurationError
from bccdist.paths import StudyPaths
from bccdist.shard_set.folds import Folds, claim_folds, read_folds
from bccdist.study import claim_study
from jobs import launch_audit
from jobs.launch_audit import AuditArguments, main
from jobs.slurm.sites import ClusterConfig

SETTING = "resnet34"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    small = write_finished_study(tmp_path_factory.mktemp("audit"), width_px=800, height_px=560)
    claim_study(small.root, small.manifest)
    return small


@pytest.fixture
def small(original: SmallStudy, tmp_path: Path) -> SmallStudy:
    return original.copied_to(tmp_path)


def arguments(small: SmallStudy, **changes: object) -> AuditArguments:
    asked = AuditArguments(study=small.root, cluster=ClusterConfig(cluster="local"), setting=SETTING, folds=2)
    return replace(asked, **changes)  # type: ignore[arg-type]


def test_a_dry_run_names_each_folds_training_and_the_comparison_and_writes_nothing(
    small: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments(small, dry_run=True))
    said = capsys.readouterr().out
    for name in ("audit-train-resnet34-fold-1", "audit-train-resnet34-fold-2", "audit-resnet34"):
        assert name in said
    assert not StudyPaths(small.root).audit(SETTING).root.exists()


def test_more_folds_than_patients_are_refused(small: SmallStudy) -> None:
    with pytest.raises(ConfigurationError, match="folds is 3, expected 2 to 2: Training has slides of 2 patient"):
        main(arguments(small, folds=3))
    slides = small.manifest.read_text().splitlines()
    patients = ["patient_id", *("" if "val1" in line else "p" for line in slides[1:])]
    small.manifest.write_text("".join(f"{line},{each}\n" for line, each in zip(slides, patients, strict=True)))
    with pytest.raises(ConfigurationError, match="expected 2 to 1: Training has slides of 1 patient"):
        main(arguments(small))


def test_a_study_without_patches_is_told_to_make_them(small: SmallStudy) -> None:
    small.shards.manifest.unlink()
    with pytest.raises(ConfigurationError, match=r"an audit needs the study's patches: .* run the shards stage"):
        main(arguments(small))


def test_other_folds_later_are_refused_in_a_line_and_nothing_is_launched(
    small: SmallStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    launch_entries = launch_audit.launch_entries

    def only_begin(*_: object, begin: object, **__: object) -> None:
        begun.append(begin() if callable(begin) else None)

    monkeypatch.setattr(launch_audit, "launch_entries", only_begin)
    main(arguments(small))
    monkeypatch.setattr(launch_audit, "launch_entries", launch_entries)
    path = StudyPaths(small.root).audit(SETTING).folds
    assert read_folds(path).slides == {1: ("train-0",), 2: ("train-1",)}
    path.unlink()
    # As it was dealt for three patients, of whom one has gone.
    slides = {1: ("train-0",), 2: ("train-1",), 3: ("gone",)}
    claim_folds(path, Folds(num=3, shard_set="abc", slides=slides))
    with pytest.raises(ConfigurationError, match="this audit was begun with 3 folds, and 2 are asked for"):
        main(arguments(small))
    assert begun == [None]
