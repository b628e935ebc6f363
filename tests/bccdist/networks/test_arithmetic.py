"""Settings of torch are in force where they are asked for, and set back even after an error."""

import pytest
import torch

from bccdist.networks.arithmetic import torch_settings


def _settings() -> tuple[object, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        torch.backends.cudnn.rnn.fp32_precision,  # type: ignore[attr-defined]
    )


def test_settings_hold_inside_and_are_set_back() -> None:
    before = _settings()
    with torch_settings(deterministic=(True, True), matmul_precision="high", cudnn_benchmark=True):
        assert _settings()[:4] == (True, True, "high", True)
        with torch_settings(cudnn_precision="ieee"):
            assert _settings()[2:] == ("high", True, "ieee", "ieee")
    assert _settings() == before


def test_settings_are_set_back_after_an_error() -> None:
    before = _settings()
    with pytest.raises(ZeroDivisionError), torch_settings(cudnn_precision="tf32", deterministic=(True, False)):
        _ = 1 / 0
    assert _settings() == before
