"""Debian's DICOM checker and archive: dciodvfy says what is wrong with a file, Orthanc stores it on the loopback."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

_PROGRAMS = ("dciodvfy", "Orthanc")


def reason_against() -> str | None:
    """Why no file can be checked here, if so."""
    missing = [name for name in _PROGRAMS if not shutil.which(name)]
    return f"needs DICOM tools, and {', '.join(missing)} is not there: make dicom-tools" if missing else None


def errors_of(path: Path) -> list[str]:
    """What dciodvfy calls an error in a file."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False, timeout=60)
    lines = (done.stdout + done.stderr).splitlines()
    assert any(line in ("Segmentation", "Comprehensive3DSR") for line in lines), lines
    return [line for line in lines if line.startswith(("Error", "Abort"))]


@contextmanager
def orthanc(folder: Path) -> Iterator[httpx.Client]:
    """A client of an empty archive that listens on the loopback alone."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    config = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpBindAddresses": ["127.0.0.1"],
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    folder.mkdir()
    (folder / "orthanc.json").write_text(json.dumps(config), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        server = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                _wait_for(client, server, folder / "orthanc.log")
                yield client
        finally:
            server.terminate()
            server.wait(timeout=60)


def _wait_for(client: httpx.Client, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        try:
            client.get("/system").raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(log.read_text(encoding="utf-8", errors="replace"))
