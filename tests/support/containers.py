"""Debian's podman with an image made here, from no registry: a root of its own, and this machine's Python within."""

import io
import shlex
import shutil
import site
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

IMAGE = "localhost/bccdist-test"
GREETING = "this is the image's own python"
_PROGRAMS = ("podman", "runc")
_LINKS = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64"}
"""Debian's merged /usr: with /usr of the machine, its C library is found."""
_BIN = "image/bin"
_PATH = f"/{_BIN}:/usr/bin:/bin"
_LIMITS = ("--ulimit=nofile=1024", "--ulimit=nproc=4096")
"""Without them podman asks for more than a root without all rights may have."""


def reason_against() -> str | None:
    """Why there can be no container here, if so."""
    missing = [name for name in _PROGRAMS if not shutil.which(name)]
    return f"needs containers, and {', '.join(missing)} is not there: make podman" if missing else None


@dataclass(frozen=True)
class Containers:
    """Podman with its images and containers in a folder that goes with the test."""

    store: Path

    @property
    def _podman(self) -> list[str]:
        places = ["--root", str(self.store / "images"), "--runroot", str(self.store / "running")]
        plain = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none", "--runtime=runc"]
        return ["podman", *places, *plain]

    def make_image(self) -> None:
        """An image with a `python` that greets, then is the Python of the test."""
        tree = self.store / "image.tar"
        with tarfile.open(tree, "w") as tar:
            for name, target in _LINKS.items():
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, target
                tar.addfile(link)
            script = f'#!/bin/sh\necho "{GREETING}"\nexec {shlex.quote(sys.executable)} "$@"\n'.encode()
            python = tarfile.TarInfo(f"{_BIN}/python")
            python.size, python.mode = len(script), 0o755
            tar.addfile(python, io.BytesIO(script))
        path = f"ENV PATH={_PATH}"
        self.ask("import", f"--change={path}", str(tree), IMAGE)

    def ask(self, *words: str) -> str:
        """What podman says."""
        done = subprocess.run([*self._podman, *words], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def before_python(self, *folders: Path, image: str = IMAGE, env_host: bool = True) -> str:
        """The key `container` of a site: a container that has /usr, Python with its packages, and these folders.

        The repository is not among them, so that a job's code can come from its archive alone.
        """
        packages = [sys.prefix, sys.base_prefix, *site.getsitepackages(), *_packages_beside()]
        read_only = [f"--volume={path}:{path}:ro" for path in dict.fromkeys(["/usr", *packages])]
        writable = [f"--volume={folder}:{folder}" for folder in folders]
        shared = ["--network=host", "--pid=host", "--ipc=host"]
        run = [*self._podman, "run", "--rm", "--pull=never", *shared, *_LIMITS, *read_only, *writable]
        return shlex.join([*run, *(["--env-host", f"--env=PATH={_PATH}"] if env_host else []), image])


def _packages_beside() -> list[str]:
    """Folders of packages that a .pth file adds."""
    return [path for path in sys.path if path.endswith("-packages")]
