"""bccdist: marks Basal Cell Carcinoma in whole-slide images and decides for each tissue section."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bccdist.configuration import InferConfig
    from bccdist.errors import BccdistError
    from bccdist.library.found import Found
    from bccdist.library.heatmap_file import HeatmapArray, HeatmapFile, open_heatmap
    from bccdist.library.model import Model, open_model
    from bccdist.library.study import Study, open_study

__version__ = "0.1.0"
__all__ = [
    "BccdistError",
    "Found",
    "HeatmapArray",
    "HeatmapFile",
    "InferConfig",
    "Model",
    "Study",
    "__version__",
    "open_heatmap",
    "open_model",
    "open_study",
]
_HOMES = {
    "BccdistError": "bccdist.errors",
    "Found": "bccdist.library.found",
    "HeatmapArray": "bccdist.library.heatmap_file",
    "HeatmapFile": "bccdist.library.heatmap_file",
    "InferConfig": "bccdist.configuration",
    "Model": "bccdist.library.model",
    "Study": "bccdist.library.study",
    "open_heatmap": "bccdist.library.heatmap_file",
    "open_model": "bccdist.library.model",
    "open_study": "bccdist.library.study",
}
"""The module of each name that is offered here; it is imported when the name is asked for first."""


def __getattr__(name: str) -> Any:
    """What `import bccdist` offers: commands import this package, too, and need none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The names that are offered, for who looks around."""
    return __all__
