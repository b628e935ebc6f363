"""Every table, figure and file of the analysis by its name: `python analysis/make.py NAME STUDY`."""

import importlib
import sys

import tyro

from bccdist.command import run_command

COMMANDS = {
    "summary": "analysis.page.summary",
    "report": "analysis.page.report",
    "selection": "analysis.tables.selection",
    "relabel": "analysis.evidence.relabel",
    "table1": "analysis.tables.table1",
    "table2": "analysis.tables.table2",
    "table3": "analysis.tables.table3",
    "table4": "analysis.tables.table4",
    "table5": "analysis.tables.table5",
    "verdict_table": "analysis.evidence.verdict_table",
    "intervals": "analysis.tables.intervals",
    "comparisons": "analysis.tables.comparisons",
    "roc": "analysis.tables.roc",
    "reliability": "analysis.tables.reliability",
    "error_groups": "analysis.tables.error_groups",
    "stability": "analysis.tables.stability",
    "triage": "analysis.tables.triage",
    "merge_weights": "analysis.tables.merge_weights",
    "learning_curves": "analysis.tables.learning_curves",
    "beside_paper": "analysis.tables.beside_paper",
    "figure2": "analysis.pictures.figure2",
    "figure4": "analysis.pictures.figure4",
    "figure5": "analysis.tables.figure5",
    "figure6": "analysis.pictures.figure6",
    "figure7": "analysis.pictures.figure7",
    "figure8": "analysis.pictures.figure8",
    "overlays": "analysis.pictures.overlays",
    "regions": "analysis.outlines.qupath",
    "margins": "analysis.outlines.margins",
    "heatmap_tiff": "analysis.outlines.heatmap_tiff",
    "schemas": "analysis.evidence.schemas",
}
"""The module of each name; its `main` takes the rest of the command line."""


def make(words: list[str]) -> None:
    """Run the command that the first word names with the other words."""
    if not words or words[0] in {"-h", "--help"}:
        print(_help())
        return
    name = words[0]
    if name not in COMMANDS:
        sys.exit(f"error: unknown name {name!r}; known names: {', '.join(COMMANDS)}")
    tyro.cli(importlib.import_module(COMMANDS[name]).main, args=words[1:], prog=f"make.py {name}")


def moved(name: str) -> None:
    """Run a command whose file was in this folder, after a line that says where it is now."""
    print(f"note: this command is now `python analysis/make.py {name}`", file=sys.stderr)
    run_command(lambda: make([name, *sys.argv[1:]]))


def _help() -> str:
    lines = [f"  {name:16} {_first_line(module)}" for name, module in COMMANDS.items()]
    usage = "usage: python analysis/make.py NAME STUDY [options]; NAME --help lists the options"
    return "\n".join([usage, "", *lines])


def _first_line(module: str) -> str:
    text = importlib.import_module(module).__doc__ or ""
    return text.partition("\n")[0].partition(": `")[0]


if __name__ == "__main__":
    run_command(lambda: make(sys.argv[1:]))
