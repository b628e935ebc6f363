"""A study of tiny slides for tests on a real Slurm: shards that are finished, and slides of all parts."""

from pathlib import Path

from places import REPOSITORY
from small_study import SLIDE_IDS, SmallStudy, annotated, tissue_picture, write_manifest, write_mask, write_slide

from bccdist.study import claim_study

NUM_VAL2, NUM_TEST = 2, 6
WIDTH_PX, HEIGHT_PX = 800, 560
TRAIN = ("--width", "4", "--global-batch", "2", "--micro-batch", "1", "--keep-best", "1", "--num-workers", "1")
"""Flags of a network so small that its steps are counted in hundredths of a second."""
SITE = ("--site", "mini", "--ranks-per-node", "2")
"""Flags of the test cluster."""


def write_slurm_study(folder: Path) -> SmallStudy:
    """Two Training slides, one of Validation I, two of Validation II, six of Test; the shard set is finished."""
    data = folder / "data"
    slides = [("val1-0", "val1"), ("train-0", "train"), ("train-1", "train")]
    for part, num in (("val2", NUM_VAL2), ("test", NUM_TEST)):
        slides += [(f"{part}-{number}", part) for number in range(num)]
    assert {name for name, _ in slides} > set(SLIDE_IDS)
    for seed, (name, _) in enumerate(slides):
        write_slide(data / f"{name}.tif", tissue_picture(WIDTH_PX, HEIGHT_PX, seed=seed))
        write_mask(data / f"{name}.png", annotated(WIDTH_PX, HEIGHT_PX))
    box = f"0,0,{2 * WIDTH_PX},{2 * HEIGHT_PX}"
    sections = [f"{name},{name}-s,{'Tumor' if int(name[-1]) % 2 else 'Normal'},{box}" for name, _ in slides]
    study = SmallStudy(manifest=write_manifest(data, slides, sections), root=folder / "study")
    study.build()
    study.finish()
    claim_study(study.root, study.manifest)
    return study


def launcher(name: str) -> str:
    """The path of a launcher within the repository."""
    assert (REPOSITORY / "jobs" / name).exists()
    return f"jobs/{name}"
