"""FORMAT.md tells the truth: foreign tools read a set with its lines, and its columns are the schema's."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import webdataset
from small_study import DOWNSAMPLE, TUMORNEST, SmallStudy, write_finished_study

from bccdist.shard_set.index import SCHEMA

FORMAT = (Path(__file__).parents[2] / "shards" / "FORMAT.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    return write_finished_study(tmp_path_factory.mktemp("finished"))


# WebDataset leaves the last tar of an iteration open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_plain_webdataset_reads_pixels_and_exact_masks(finished: SmallStudy) -> None:
    tars = sorted(str(path) for path in (finished.shards.root / "tars").iterdir())
    samples = webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8").to_tuple("jpg", "mask.png", "json")
    num_samples = 0
    for image, mask, facts in samples:
        x, y = (start // DOWNSAMPLE for start in facts["origin_level0_px"])
        picture = _padded(finished.data / f"{facts['slide_id']}.tif", x, y, fill=255)
        annotation = _padded(finished.data / f"{facts['slide_id']}.png", x, y, fill=0)
        assert np.abs(image.astype(int) - picture).mean() < 2
        assert np.array_equal(mask[..., 0] == 255, annotation == TUMORNEST)
        assert set(np.unique(mask)) <= {0, 255}
        num_samples += 1
    assert num_samples == 5 * 3 * 2 + 3 * 2


def _padded(path: Path, x: int, y: int, *, fill: int) -> np.ndarray:
    """The pixels of a file in the target frame under a patch, filled up beyond the border."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    if path.suffix == ".tif":
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)[::DOWNSAMPLE, ::DOWNSAMPLE]
    inside = image[y : y + 512, x : x + 512]
    patch = np.full((512, 512, *image.shape[2:]), fill, dtype=np.uint8)
    patch[: inside.shape[0], : inside.shape[1]] = inside
    return patch


def test_the_lines_of_the_document_run(finished: SmallStudy) -> None:
    blocks = re.findall(r"```python\n(.*?)```", FORMAT, flags=re.DOTALL)
    code = "\n".join([*blocks, "print('JPEG', image[:3])"])
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=finished.shards.root, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    for expected in ("train-0 [0, 0] (512, 512) (512, 512)", "Training", "train-1", r"JPEG b'\xff\xd8\xff'"):
        assert expected in run.stdout


def test_columns_of_the_document_are_the_schemas() -> None:
    table = FORMAT.split("## index.parquet")[1].split("## manifest.json")[0]
    columns = [
        name for line in re.findall(r"^\|(.*?)\|", table, flags=re.MULTILINE) for name in re.findall(r"`(\w+)`", line)
    ]
    assert columns == SCHEMA.names
    assert all(field.metadata[b"description"] for field in SCHEMA)
