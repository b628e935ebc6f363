"""What a training run leaves behind that must not depend on how it came to its end."""

from typing import Any

import pyarrow.parquet as pq
import torch

from bccdist.paths import RunPaths

_TIMES = ("seconds", "patches_per_s", "loader_wait_share", "memory_gib")


def outcome(run: RunPaths) -> dict[str, Any]:
    """All that must not depend on how a run came to its end."""
    state = torch.load(run.last, weights_only=True)
    table = pq.read_table(run.metrics)
    return {
        "network": state["network"],
        "optimizer": state["optimizer"]["state"],
        "statistics": [rank["buffers"] for rank in state["ranks"]],
        "position": (state["position"]["epoch"], state["position"]["step"]),
        "weights": {path.name: path.read_bytes() for path in run.root.glob("checkpoints/*.safetensors")},
        "metrics": table.drop_columns(list(_TIMES)).to_pylist(),
    }


def assert_same(found: Any, expected: Any, where: str = "outcome") -> None:
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key, value in expected.items():
            assert_same(found[key], value, f"{where}.{key}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, value in enumerate(expected):
            assert_same(found[number], value, f"{where}[{number}]")
    else:
        assert found == expected or (found != found and expected != expected), where  # noqa: PLR0124 - NaN
