"""Imports point one way and never in a circle, names say something, launchers start at once, no machine is named."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("bccdist", "shards", "jobs", "analysis", "benchmarks")
MAY_IMPORT = {
    "bccdist": {"bccdist"},
    "shards": {"shards", "bccdist"},
    "analysis": {"analysis", "bccdist"},
    "jobs": {"jobs", "shards", "analysis", "bccdist"},
    "benchmarks": {"benchmarks", "jobs", "shards", "analysis", "bccdist"},
}
ROOMS = (
    "ground",
    "remote",
    "phantom",
    "networks",
    "slides",
    "study",
    "shard_set",
    "heatmaps",
    "training",
    "sections",
    "audit",
    "models",
    "speedups",
    "stages",
    "library",
)
"""The rooms of bccdist in their order: each imports only those before it. Modules beside them are the ground floor."""
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "misc", "manager", "base", "core"}
SCRIPT_FOLDERS = ("jobs", "analysis", "shards", "benchmarks")
"""A script there has its folder first on sys.path."""
LAUNCHERS = [*sorted(path.name for path in (REPOSITORY / "jobs").glob("launch_*.py")), "status.py", "plan.py"]
MOST_START_CPU_S = 2.0


def files_of(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


@cache
def modules() -> dict[str, Path]:
    """All modules of the project by name."""
    return {module_name(path): path for package in PACKAGES for path in files_of(package)}


def imported_names(nodes: Iterator[ast.AST]) -> set[str]:
    """The modules that import statements name; `from a import b` names a.b where that is a module, else a."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "relative import"
            names |= {
                f"{node.module}.{alias.name}" for alias in node.names if is_module(f"{node.module}.{alias.name}")
            }
            names |= {node.module for alias in node.names if not is_module(f"{node.module}.{alias.name}")}
    return names


def is_module(name: str) -> bool:
    return name in modules()


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs when the module is imported: everything but the bodies of functions and what is for types only."""
    for node in ast.iter_child_nodes(tree):
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not is_for_types and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from at_import(node)


@cache
def imports_at_import(name: str) -> frozenset[str]:
    return frozenset(imported_names(at_import(ast.parse(modules()[name].read_text(encoding="utf-8")))))


def imports_anywhere(name: str) -> set[str]:
    """With those inside functions."""
    return imported_names(ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))))


def reached_at_import(name: str, seen: set[str]) -> set[str]:
    """All modules, the project's and others, that importing a module of the project brings along."""
    for imported in imports_at_import(name) - seen:
        seen.add(imported)
        if is_module(imported):
            reached_at_import(imported, seen)
    return seen


def test_the_project_is_where_this_test_looks() -> None:
    assert {"bccdist.training.loop", "shards.build", "jobs.stages", "analysis.tables.selection"} <= set(modules())
    assert "bccdist.files" in imports_anywhere("bccdist.configuration")
    assert "torch" in reached_at_import("bccdist.training.loop", set())


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    names = [name for name in modules() if name.split(".")[0] == package]
    wrong = {
        f"{name} imports {imported}"
        for name in names
        for imported in imports_anywhere(name)
        if imported.split(".")[0] in {*PACKAGES, "tests"} - MAY_IMPORT[package]
    }
    assert not wrong


def room_of(module: str) -> str:
    """The room of a module of bccdist."""
    second = module.split(".")[1]
    return second if second in ROOMS else "ground"


def test_every_folder_of_bccdist_is_a_room_with_its_place_in_the_order() -> None:
    folders = {path.parent.name for path in (REPOSITORY / "bccdist").glob("*/__init__.py")}
    assert folders <= set(ROOMS)


def test_each_room_imports_only_those_before_it_even_inside_functions() -> None:
    names = [name for name in modules() if name.startswith("bccdist.")]
    wrong = {
        f"{name} imports {imported}"
        for name in names
        for imported in imports_anywhere(name)
        if imported.startswith("bccdist.") and ROOMS.index(room_of(imported)) > ROOMS.index(room_of(name))
    }
    assert not wrong


def test_no_import_goes_in_a_circle() -> None:
    graph = {name: {imported for imported in imports_at_import(name) if is_module(imported)} for name in modules()}
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(modules())


def test_the_analysis_needs_no_torch_even_inside_its_functions() -> None:
    for name in modules():
        if name.split(".")[0] == "analysis":
            for imported in imports_anywhere(name):
                reached = reached_at_import(imported, {imported}) if is_module(imported) else {imported}
                assert "torch" not in {module.split(".")[0] for module in reached}, f"{name} imports {imported}"


@pytest.mark.parametrize("package", PACKAGES)
def test_names_say_what_a_module_is_for(package: str) -> None:
    words = {part for path in files_of(package) for part in path.relative_to(REPOSITORY).with_suffix("").parts}
    assert not words & FORBIDDEN_NAMES


@pytest.mark.parametrize("folder", SCRIPT_FOLDERS)
def test_no_script_shadows_a_module_of_the_standard_library(folder: str) -> None:
    assert not {path.stem for path in (REPOSITORY / folder).glob("*.py")} & set(sys.stdlib_module_names)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is(package: str) -> None:
    mute = [path for path in files_of(package) if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not mute


RUN_HELP = """
import runpy, sys, time
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    print("code", end.code or 0)
print("torch", "torch" in sys.modules)
print("cpu_s", time.process_time())
"""


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_starts_at_once_and_without_torch(launcher: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN_HELP, str(REPOSITORY / "jobs" / launcher), "--help"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60)
    said = dict(line.split() for line in finished.stdout.splitlines()[-3:])
    assert said["code"] == "0", finished.stdout
    assert said["torch"] == "False"
    assert float(said["cpu_s"]) < MOST_START_CPU_S
    assert list(tmp_path.iterdir()) == []


def test_no_file_names_a_folder_of_one_machine() -> None:
    roots = [f"/{name}/" for name in ("work", "root", "home", "Users", "mnt")]
    suffixes = {".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".sh", ".cfg", ".ipynb", ""}
    folders = [*PACKAGES, "slurm", "tests", ".ci", "docs"]
    files = [path for path in REPOSITORY.iterdir() if path.is_file() and path.name != ".git"]  # a file in a worktree
    files += [path for folder in folders for path in (REPOSITORY / folder).rglob("*") if path.is_file()]
    named = [
        f"{path.relative_to(REPOSITORY)}: {root}"
        for path in files
        if path.suffix in suffixes and "__pycache__" not in path.parts
        for root in roots
        if root in path.read_text(encoding="utf-8")
    ]
    assert not named
