"""How large the code is and how its rooms hang together: `python tests/support/structure.py [--checkout FOLDER]`.

Lines are those of Python files without tests. A function's length is that of its source, docstring and all. An import
counts once for each pair of files, also where it stands inside a function.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tyro

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("bccdist", "shards", "jobs", "analysis", "benchmarks")


def rooms_of(checkout: Path) -> dict[str, list[Path]]:
    """The Python files of each room: a package's folders of first order, and what lies beside them."""
    rooms: dict[str, list[Path]] = {}
    for package in PACKAGES:
        for path in sorted((checkout / package).rglob("*.py")):
            folders = path.relative_to(checkout).parts[:-1]
            rooms.setdefault("/".join(folders[:2]), []).append(path)
    return dict(sorted(rooms.items()))


def function_lengths(tree: ast.AST) -> Iterator[int]:
    """Lines of each function and method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def imported_modules(tree: ast.AST) -> set[str]:
    """Dotted names that import statements name; `from a import b` gives a and a.b, of which one is a module."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def print_rooms(checkout: Path) -> None:
    """One row a room, and all of them together."""
    print(f"{'room':28} {'files':>5} {'lines':>6} {'functions':>9} {'median':>6} {'95 %':>5} {'longest':>7}")
    everything: list[tuple[int, list[int]]] = []
    for room, files in rooms_of(checkout).items():
        texts = [path.read_text(encoding="utf-8") for path in files]
        rows = [(text.count("\n"), list(function_lengths(ast.parse(text)))) for text in texts]
        everything += rows
        print(_row(room, rows))
    print(_row("together", everything))


def _row(name: str, files: list[tuple[int, list[int]]]) -> str:
    lengths = [length for _, of_file in files for length in of_file] or [0]
    lines = sum(num for num, _ in files)
    median, high = np.percentile(lengths, [50, 95])
    num = sum(len(of_file) for _, of_file in files)
    return f"{name:28} {len(files):5} {lines:6,} {num:9,} {median:6.0f} {high:5.0f} {max(lengths):7}"


def print_imports(checkout: Path) -> None:
    """How many imports lead from each room to each other one."""
    rooms = rooms_of(checkout)
    room_of = {
        ".".join(path.relative_to(checkout).with_suffix("").parts): room
        for room, files in rooms.items()
        for path in files
    }
    arrows: Counter[tuple[str, str]] = Counter()
    for room, files in rooms.items():
        for path in files:
            names = imported_modules(ast.parse(path.read_text(encoding="utf-8")))
            arrows.update((room, room_of[name]) for name in names if name in room_of and room_of[name] != room)
    for (here, there), num in sorted(arrows.items()):
        back = arrows.get((there, here), 0)
        print(f"{here:28} -> {there:28} {num:4}{f'   and {back} back' if back else ''}")


def main(checkout: Path = REPOSITORY) -> None:
    """Print the rooms and the imports between them.

    Args:
        checkout: Folder of the code that is measured.
    """
    print_rooms(checkout)
    print()
    print_imports(checkout)


if __name__ == "__main__":
    tyro.cli(main)
