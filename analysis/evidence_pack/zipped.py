"""The program that checks a pack as one file, for `python verify.pyz`: the files of `check` as they are."""

from pathlib import Path
from zipfile import ZipFile

from bccdist.files import atomic_path, stored_entry

CHECKER = "verify.pyz"
_MAIN = """import sys
from pathlib import Path

from analysis.evidence_pack.check.verify import main

sys.exit(main(default=Path(sys.argv[0]).resolve().parent))
"""


def write_checker(path: Path) -> None:
    """Write it; the same sources give the same bytes."""
    room = Path(__file__).parent
    entries = {
        f"analysis/evidence_pack/check/{each.name}": each.read_text("utf-8") for each in room.glob("check/*.py")
    }
    entries |= {"__main__.py": _MAIN, "analysis/__init__.py": "", "analysis/evidence_pack/__init__.py": ""}
    with atomic_path(path) as partial, ZipFile(partial, "x") as archive:
        for name, text in sorted(entries.items()):
            archive.writestr(stored_entry(name), text)
