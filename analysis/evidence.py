"""The evidence pack of a study, made and checked.

`python analysis/evidence.py STUDY --out FOLDER` makes it, short for `make.py evidence`; `python analysis/evidence.py
verify FOLDER` checks it, as `verify.pyz` in the pack does without bccdist.
"""

import sys
from pathlib import Path

import tyro

from analysis.evidence_pack.check.verify import check
from analysis.make import make
from bccdist.command import run_command


def check_pack(folder: Path, head: str = "", beside: Path | None = None) -> int:
    """Check an evidence pack, and compute the numbers of its report anew.

    Args:
        folder: The pack.
        head: The digest that was printed when it was made, or its first digits.
        beside: The study's folder, for the files that the pack names and does not hold.
    """
    return check(folder, head=head, beside=beside)


def evidence(words: list[str]) -> int | None:
    """Run what the words ask for."""
    if words[:1] != ["verify"]:
        make(["evidence", *words], command="evidence.py")
        return None
    config = (tyro.conf.PositionalRequiredArgs,)
    return tyro.cli(check_pack, prog="evidence.py verify", args=words[1:], config=config)


if __name__ == "__main__":
    run_command(lambda: evidence(sys.argv[1:]))
