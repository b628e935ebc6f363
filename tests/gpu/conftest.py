"""What the tests on a GPU share."""

import os

import pytest
import torch

# Read once, when cuBLAS is first used in a process: before whatever comes first.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The first GPU."""
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    return device
