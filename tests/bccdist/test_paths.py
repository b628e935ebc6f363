"""Every path of a study lies in its folder, and no two of them are the same."""

from pathlib import Path

from bccdist.paths import RunPaths, ShardSetPaths, StudyPaths

STUDY = StudyPaths(Path("study"))


def properties(paths: StudyPaths | RunPaths | ShardSetPaths) -> list[Path]:
    """All paths that need no argument."""
    names = [name for name, value in vars(type(paths)).items() if isinstance(value, property)]
    return [path for name in names if isinstance(path := getattr(paths, name), Path)]


def every_path() -> list[Path]:
    """All paths of a study, those with arguments for some of their values."""
    paths = properties(STUDY) + properties(STUDY.shards)
    for slide_id in ("a", "b"):
        paths += [STUDY.shards.tar(slide_id), STUDY.shards.rows(slide_id)]
        paths += [STUDY.failure(stage, slide_id) for stage in ("shards", "inference")]
    paths += [STUDY.figure(name) for name in ("figure4", "figure5")]
    for setting in ("unet", "resnet34"):
        run = STUDY.run(setting)
        paths += [*properties(run), run.events(0), run.events(1), run.weights(1), run.weights(40)]
        paths += [run.speedups(epoch, device) for epoch in (1, 40) for device in ("cpu", "cuda")]
        paths += [run.int8_model(epoch, piece) for epoch in (1, 40) for piece in ("whole", "later")]
        paths += [STUDY.overlay(setting, slide_id) for slide_id in ("a", "b")]
        paths += [STUDY.regions(setting, slide_id) for slide_id in ("a", "b")]
        paths += [STUDY.heatmap_tiff(setting, slide_id, psi) for slide_id in ("a", "b") for psi in ("psi_0", "psi_4")]
        for epoch in (1, 40):
            paths += [STUDY.ledger_rows(setting, epoch, slide_id) for slide_id in ("a", "b")]
            paths += [STUDY.heatmap(setting, epoch, slide_id) for slide_id in ("a", "b")]
    return paths


def test_every_path_lies_in_the_study() -> None:
    assert all(path.is_relative_to(STUDY.root) and path != STUDY.root for path in every_path())


def test_no_two_paths_are_the_same() -> None:
    assert len(set(every_path())) == len(every_path())


def test_epochs_sort_by_name() -> None:
    weights = [STUDY.run("unet").weights(epoch) for epoch in (1, 9, 10, 100)]
    assert sorted(weights) == weights
