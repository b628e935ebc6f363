"""The manual as a site: `make docs`. The pages are the repository's own Markdown files, as they are."""

from pathlib import Path

from sphinx.application import Sphinx

import bccdist

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = {
    "Using it": ["manifest", "remote", "slurm", "planning", "training", "heatmaps", "review", "analysis"],
    "Models": ["models", "transfer", "library", "dicom"],
    "Files": ["parquet", "../shards/FORMAT"],
    "Measured": ["ebhi", "../benchmarks/RESULTS", "experiments"],
    "The project": ["architecture", "contributing", "../CHANGELOG"],
}
"""The chapters and their pages, by their names in docs/."""

project = "bccdist"
author = "The bccdist developers"
version = release = bccdist.__version__
extensions = ["myst_parser"]
root_doc = "README"
_documents = [
    (REPOSITORY / "docs" / page).resolve().relative_to(REPOSITORY) for pages in PAGES.values() for page in pages
]
include_patterns = [f"{document}.md" for document in (root_doc, *_documents)]
exclude_patterns = [".*", "build", "data", "studies"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"bccdist {version}"
html_extra_path = ["site"]
html_copy_source = False
html_show_sphinx = False


def add_contents(_app: Sphinx, document: str, source: list[str]) -> None:
    """Give the front page the list of chapters, which README.md itself need not show."""
    if document == root_doc:
        for chapter, pages in PAGES.items():
            lines = "\n".join(f"/docs/{page}" for page in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {chapter}\n\n{lines}\n```\n"


def setup(app: Sphinx) -> None:
    """Tell Sphinx of the above."""
    app.connect("source-read", add_contents)
