"""What a job starts with: `python -u ARCHIVE DIGEST FOLDER`. It stands in the archive of the code, as its __main__.py.

Python puts an archive that it runs before everything else that it imports from, whatever PYTHONPATH holds and
whatever is in the archive's path. A .pth file, usercustomize, sitecustomize or an import hook comes earlier still. So
what is imported is compared with the archive that the job was submitted with, and a job that would run other code
under that name ends before it did anything. What it imports later comes from the archive and from nowhere else.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

PACKAGES = ("bccdist", "shards", "jobs", "analysis")


def other_code(archive: str, digest: str) -> str:
    """What differs from the code that the job was submitted with; empty where nothing does."""
    with open(archive, "rb") as file:  # noqa: PTH123 - as early as this, the fewer imports the better
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        return f"the archive {archive} has changed: its SHA-256 is {found}, expected {digest}; launch again"
    for name in (*PACKAGES, *(name for name in sys.modules if name.partition(".")[0] in PACKAGES)):
        place = _place_of(name)
        if not place.startswith(archive + os.sep):
            return (
                f"{name} comes from {place}, expected {archive}; a .pth file, usercustomize, sitecustomize or an "
                f"import hook of {sys.executable} brings it in: take it away, or launch with another Python"
            )
    return ""


def _place_of(name: str) -> str:
    """The file that a module was, or would be, imported from."""
    if name in sys.modules:
        return str(getattr(sys.modules[name], "__file__", None))
    spec = importlib.util.find_spec(name)
    return str(spec.origin if spec else None)


def refuse_other_code(archive: str, digest: str) -> None:
    """End the process with a line that says what differs, if anything does."""
    if said := other_code(archive, digest):
        sys.exit(f"error: this is not the code that the job was submitted with, so nothing was done: {said}")


class OwnFinder:
    """Finds the modules of our packages in the archive alone, before any other finder is asked."""

    def __init__(self, archive: str) -> None:
        self.archive = archive

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,  # noqa: ARG002 - as Python calls it
    ) -> ModuleSpec | None:
        """Where a module is; None for those of others."""
        if name.partition(".")[0] not in PACKAGES:
            return None
        return PathFinder.find_spec(name, [self.archive] if path is None else path)


def refuse_lost_variables() -> None:
    """End the process with a line that says what to do where a container has kept the job's variables out."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        sys.exit(
            "error: the variables of the job did not reach this process, so nothing was done: SUBMITIT_EXECUTOR is "
            "not set; let the site's container pass them on (podman run --env-host, apptainer without --cleanenv)"
        )


def main() -> None:
    """Run the task in a folder of submitit's, with the code of this archive alone."""
    archive, (digest, folder) = sys.path[0], sys.argv[1:]
    refuse_lost_variables()
    refuse_other_code(archive, digest)
    sys.meta_path.insert(0, OwnFinder(archive))
    from submitit.core.submission import process_job

    import jobs.slurm.task  # noqa: F401 - what it imports is looked at, too

    refuse_other_code(archive, digest)
    process_job(Path(folder))


if __name__ == "__main__":
    main()
