"""What is installed of that which not everybody needs, and which code this is; nothing is imported to say so."""

import importlib.util
import os
import shutil
import sys
import zipimport
from pathlib import Path

import bccdist


def imported_code() -> str | None:
    """The name of the archive that this code was imported from, as in the study's folder `code`; None elsewhere."""
    loader = bccdist.__spec__.loader if bccdist.__spec__ else None
    return Path(loader.archive).stem if isinstance(loader, zipimport.zipimporter) else None


def has_openvino() -> bool:
    """Whether OpenVINO and NNCF can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("openvino", "nncf"))


def has_mnn() -> bool:
    """Whether MNN can be imported, and ONNX, by which a network gets to it."""
    return all(importlib.util.find_spec(name) is not None for name in ("MNN", "onnx"))


def lack_for_dicom() -> str | None:
    """What is not installed of that which writes DICOM, if anything, and how to install it."""
    missing = [name for name in ("highdicom", "pydicom") if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"DICOM needs {' and '.join(missing)}, not installed here; install with `pip install 'bccdist[dicom]'`"


def lack_for_timm() -> str | None:
    """What is not installed of that which makes encoders beyond the paper's, and how to install it."""
    # Another way than find_spec for what was imported already, which may have no spec.
    if "timm" in sys.modules or importlib.util.find_spec("timm") is not None:
        return None
    return "timm is not installed; install it with `pip install 'bccdist[timm]'`, or train without encoder"


def lack_for_compiling(*, for_gpu: bool) -> str | None:
    """What torch.compile lacks on this machine, if anything."""
    if for_gpu and importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    compiler = os.environ.get("CXX", "g++")
    return None if shutil.which(compiler) else f"the C++ compiler {compiler} was not found"
