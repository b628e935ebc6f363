"""The software that made an evidence pack, as a CycloneDX 1.6 bill of materials in JSON."""

import platform
import re
import uuid
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from typing import Any

import bccdist

_LONGEST_LICENCE = 64
"""Some distributions put the licence's whole text where its name belongs."""


def bill_of_materials(made_at: str) -> dict[str, Any]:
    """Every installed distribution with version, licence and what it depends on, Python, and bccdist itself.

    Args:
        made_at: UTC, ISO 8601.
    """
    installed = {_normal(each.name): each for each in distributions() if each.name}
    installed.pop("bccdist", None)
    refs = {name: f"pkg:pypi/{name}@{each.version}" for name, each in sorted(installed.items())}
    python = f"pkg:generic/python@{platform.python_version()}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": made_at,
            "component": {
                "type": "application",
                "bom-ref": "bccdist",
                "name": "bccdist",
                "version": bccdist.__version__,
            },
        },
        "components": [
            {"type": "platform", "bom-ref": python, "name": "python", "version": platform.python_version()},
            *(_component(installed[name], refs[name]) for name in refs),
        ],
        "dependencies": [
            {"ref": "bccdist", "dependsOn": [python, *refs.values()]},
            *({"ref": ref, "dependsOn": _needs(installed[name], refs)} for name, ref in refs.items()),
        ],
    }


def _component(installed: Distribution, ref: str) -> dict[str, Any]:
    licence = _licence(installed)
    return {
        "type": "library",
        "bom-ref": ref,
        "name": installed.name,
        "version": installed.version,
        "purl": ref,
        **({"licenses": [licence]} if licence else {}),
    }


def _licence(installed: Distribution) -> dict[str, Any]:
    about = installed.metadata.json
    if expression := about.get("license_expression"):
        return {"expression": str(expression)}
    classifiers = [str(each) for each in about.get("classifier", [])]
    named = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License :: ")]
    name = str(about.get("license") or "").strip()
    if not name or len(name) > _LONGEST_LICENCE or "\n" in name:
        name = ", ".join(named)
    return {"license": {"name": name}} if name else {}


def _needs(installed: Distribution, refs: dict[str, str]) -> list[str]:
    """What a distribution asks for and is installed."""
    names: Iterable[str] = (re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in installed.requires or [])
    return sorted({refs[name] for name in map(_normal, names) if name in refs} - {refs[_normal(installed.name)]})


def _normal(name: str) -> str:
    """A distribution's name as package URLs write it."""
    return re.sub(r"[-_.]+", "-", name).lower()
