"""Which packages that not everybody needs are installed; none is imported, and torch is not needed to ask."""

import importlib.util


def has_openvino() -> bool:
    """Whether OpenVINO and NNCF can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("openvino", "nncf"))
