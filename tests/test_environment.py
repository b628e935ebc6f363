"""pyproject.toml, environment.yml and constraints.txt name the same packages, bounds and versions that fit them."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parent.parent
CONDA_NAMES = {
    "torch": "pytorch",
    "opencv-python-headless": "opencv",
    "openslide-bin": "openslide",
    "matplotlib": "matplotlib-base",
    "duckdb": "python-duckdb",
}
OTHER_VERSIONS = {"openslide-bin"}
"""Its versions count the builds of the wheel, which conda-forge's package has none of."""
CONDA_ONLY = {"python", "pip"}
PIP_ONLY = {"mnn"}
"""What environment.yml leaves to pip."""


def project() -> dict[str, Requirement]:
    """The direct dependencies of pyproject.toml, those for development included."""
    table = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [Requirement(text) for text in table["dependencies"] + table["optional-dependencies"]["dev"]]
    assert len({requirement.name for requirement in requirements}) == len(requirements)
    return {requirement.name: requirement for requirement in requirements}


def conda() -> dict[str, SpecifierSet]:
    """The packages of environment.yml: `  - name>=version` lines under `dependencies:`."""
    _, listed = (REPOSITORY / "environment.yml").read_text(encoding="utf-8").split("\ndependencies:\n")
    lines = [line.strip() for line in listed.splitlines()]
    packages = [re.fullmatch(r"- ([a-z0-9.-]+)(\S*)", line) for line in lines if line and not line.startswith("#")]
    assert all(packages), "environment.yml has a line that this test cannot read"
    return {package[1]: SpecifierSet(package[2]) for package in packages if package}


def pinned() -> dict[str, Version]:
    """The versions of constraints.txt."""
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "constraints.txt has a line that is no `name==version`"
    return {name: Version(version) for name, version in pairs}


def test_both_environments_name_the_same_packages() -> None:
    assert {CONDA_NAMES.get(name, name) for name in project()} - PIP_ONLY == set(conda()) - CONDA_ONLY


@pytest.mark.parametrize("name", sorted(set(project()) - OTHER_VERSIONS - PIP_ONLY))
def test_both_environments_have_the_same_lower_bound(name: str) -> None:
    specifier = conda()[CONDA_NAMES.get(name, name)]
    assert specifier == project()[name].specifier
    assert [bound.operator for bound in specifier] == [">="]


def test_both_environments_need_the_same_python() -> None:
    table = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert conda()["python"] == SpecifierSet(table["project"]["requires-python"])
    (bound,) = conda()["python"]
    assert f"py{bound.version.replace('.', '')}" == table["tool"]["ruff"]["target-version"]
    assert bound.version == table["tool"]["mypy"]["python_version"]


@pytest.mark.parametrize("name", sorted(project()))
def test_every_package_is_pinned_to_a_version_within_its_bounds(name: str) -> None:
    assert name in pinned()
    assert pinned()[name] in project()[name].specifier


def test_nothing_is_pinned_that_is_not_needed() -> None:
    assert set(pinned()) == set(project())


def test_torch_is_pinned_for_tests_and_only_bounded_below_for_sites() -> None:
    """A GPU site brings its own build."""
    assert pinned()["torch"] == Version("2.13.0")
    assert [bound.operator for bound in project()["torch"].specifier] == [">="]


def test_what_is_imported_is_declared() -> None:
    """The names of packages and of what is imported from them differ for four only."""
    imported_as = {
        "bioimageio.core": "bioimageio",
        "opencv-python-headless": "cv2",
        "openslide-python": "openslide",
        "openslide-bin": "openslide_bin",
    }
    declared = {imported_as.get(name, name.replace("-", "_")) for name in project()}
    pattern = re.compile(r"^\s*(?:import|from)\s+([a-z_0-9]+)", re.MULTILINE)
    ours = {"bccdist", "shards", "jobs", "analysis"}
    for folder in sorted(ours):
        for path in (REPOSITORY / folder).rglob("*.py"):
            found = set(pattern.findall(path.read_text(encoding="utf-8")))
            assert found - ours - sys.stdlib_module_names <= declared, path


def test_the_containerfile_installs_all_that_jobs_need() -> None:
    """The line that writes its list of packages is run here; the image itself takes a registry to build."""
    lines = (REPOSITORY / "slurm" / "Containerfile").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    [command] = [line for line in lines if line.startswith("RUN python -c ")]
    words = shlex.split(command.removeprefix("RUN").partition(" >")[0])
    listed = subprocess.run([sys.executable, *words[1:]], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    table = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert listed.stdout.splitlines() == table["dependencies"] + table["optional-dependencies"]["openvino"]
