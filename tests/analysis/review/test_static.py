"""What the review page is made of: it needs no other machine, and its foreign files are those that it names."""

import hashlib
import re
from pathlib import Path

STATIC = Path(__file__).resolve().parents[3] / "analysis" / "review" / "static"


def test_openseadragon_is_the_file_that_its_readme_names() -> None:
    folder = STATIC / "vendor" / "openseadragon"
    digest = hashlib.sha256((folder / "openseadragon.min.js").read_bytes()).hexdigest()
    assert f"`{digest}`" in (folder / "README.md").read_text(encoding="utf-8")
    assert "BSD" in (folder / "README.md").read_text(encoding="utf-8")


def test_clipper2_is_the_files_that_its_readme_names() -> None:
    folder = STATIC / "vendor" / "clipper2"
    text = (folder / "README.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"- `(\w+\.js)`: `([0-9a-f]{64})`", text))
    assert named == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.js")}
    assert "BSL-1.0" in text
    assert "Boost Software License" in (folder / "LICENSE.txt").read_text(encoding="utf-8")


def test_the_page_names_no_other_machine() -> None:
    """It works without a network."""
    for path in [*STATIC.glob("*.js"), *STATIC.glob("*.css"), *STATIC.glob("*.html")]:
        assert not re.search(r"https?://", path.read_text(encoding="utf-8")), path
