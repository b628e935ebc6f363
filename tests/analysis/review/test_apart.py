"""Large slides are read by a process of its own: what comes of it is the same, and the server holds little of it."""

import os
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest
from review_study import SETTING, copied_study, original, serving

from analysis.outlines.chosen_regions import read_tissue
from analysis.review.apart import find_mapped, in_own_process
from analysis.review.session import Newest
from bccdist.errors import SlideError


def test_what_is_found_apart_is_what_is_found_here_and_lies_in_files_that_go_with_it() -> None:
    record = original().manifest.slide("test-0")
    here, apart = read_tissue(record, 0.92), find_mapped(record, 0.92)
    for there in (apart.slide, apart.tissue_at(0.92)):
        np.testing.assert_array_equal(there.tissue, here.tissue)
        np.testing.assert_array_equal(there.distances_um, here.distances_um)
        assert (there.properties, there.size_level0_px) == (here.properties, here.size_level0_px)
    folder = apart.folder
    assert folder.exists()
    del apart, there
    assert not folder.exists()


@pytest.mark.slow
def test_a_large_slide_is_served_as_a_small_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = copied_study(tmp_path)

    def seen() -> list[bytes]:
        with serving(paths) as client:
            place = f"{SETTING}/val1-0"
            client.timeout = 120
            return [client.get(f"/api/{each}").content for each in (f"regions/{place}", f"heatmap/{place}/psi_4")]

    small = seen()
    monkeypatch.setattr("analysis.review.session.LARGE_PX", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert seen() == small
    assert not list(tmp_path.glob("bccdist-review-*")), "nothing is left when the server ends"


def test_regions_are_packed_for_whoever_takes_that(tmp_path: Path) -> None:
    with serving(copied_study(tmp_path)) as client:
        packed = client.get(f"/api/regions/{SETTING}/val1-0")
        plain = client.get(f"/api/regions/{SETTING}/val1-0", headers={"accept-encoding": "identity"})
    assert (packed.headers["content-encoding"], "content-encoding" in plain.headers) == ("gzip", False)
    assert packed.json() == plain.json()


def _end() -> None:
    os._exit(9)


def test_a_process_that_is_ended_is_said() -> None:
    with pytest.raises(SlideError, match="perhaps for want of memory"):
        in_own_process(_end)


def test_two_who_ask_for_the_same_have_it_made_once() -> None:
    made, newest, barrier = [], Newest(2), Barrier(4)

    def ask() -> None:
        barrier.wait()
        newest.get("slide", lambda: made.append(1))

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
