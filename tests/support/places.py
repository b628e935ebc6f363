"""Where the tests find the repository and the real slides, and whether CI demands all of them."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIRE_ALL = "BCCDIST_REQUIRE_ALL_TESTS"
"""Set in CI: a test that would be left out fails instead."""
SHARED_DATA = "BCCDIST_SHARED_DATA"
"""Folder of the real slides and fixtures; by default beside the repository."""


def shared_data_folder() -> Path:
    """Where the real slides are, if anywhere."""
    return Path(os.environ.get(SHARED_DATA, REPOSITORY.parent / "shared" / "data"))
