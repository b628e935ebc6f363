"""What the doctor finds in a manifest and its files, beyond what it finds in an unharmed one."""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from bccdist.files import read_json
from jobs.doctor import DoctorArguments
from jobs.doctor import main as run_doctor

Found = dict[tuple[str, str], str]
"""By slide and code what was found; of the manifest itself the slide is empty and the text is the code."""


def diagnose(manifest: Path) -> Found:
    """What the doctor's report says about a manifest.

    Raises:
        BccdistError: there is nothing that the doctor could look at.
    """
    report_path = manifest.with_name("doctor.json")
    with redirect_stdout(io.StringIO()):
        run_doctor(DoctorArguments(manifest=manifest, report=report_path, workers=0))
    report = read_json(report_path)
    found: Found = {
        (slide["slide_id"], finding["code"]): f"{finding['severity']}: {finding['text']}"
        for slide in report["slides"]
        for finding in slide["findings"]
    }
    return found | {("", text): text for text in _sentences(report)}


def _sentences(report: dict[str, Any]) -> list[str]:
    """What is said about the manifest as a whole; what a whole study would lack is no finding about these files."""
    lists = [value for name, value in report.items() if isinstance(value, list) and name != "study_lacks"]
    return [text for value in lists for text in value if isinstance(text, str)]
