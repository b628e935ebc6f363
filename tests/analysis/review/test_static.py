"""What the review page is made of: it needs no other machine, and its one foreign file is the one it names."""

import hashlib
import re
from pathlib import Path

STATIC = Path(__file__).resolve().parents[3] / "analysis" / "review" / "static"


def test_openseadragon_is_the_file_that_its_readme_names() -> None:
    folder = STATIC / "vendor" / "openseadragon"
    digest = hashlib.sha256((folder / "openseadragon.min.js").read_bytes()).hexdigest()
    assert f"`{digest}`" in (folder / "README.md").read_text(encoding="utf-8")
    assert "BSD" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_page_names_no_other_machine() -> None:
    """It works without a network."""
    for path in [*STATIC.glob("*.js"), *STATIC.glob("*.css"), *STATIC.glob("*.html")]:
        assert not re.search(r"https?://", path.read_text(encoding="utf-8")), path
