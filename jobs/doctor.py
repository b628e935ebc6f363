"""Check every slide of a manifest before a job needs it: `python jobs/doctor.py slides.csv [--report doctor.json]`.

Prints a line per slide with its findings, and the totals per part. The exit code is 0 only if there is no error; with
--strict, no warning either, and nothing that a whole study would lack.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from bccdist.addresses import Address
from bccdist.command import run_command
from bccdist.configuration import ShardConfig
from bccdist.errors import ManifestError, RemoteError
from bccdist.files import write_json
from bccdist.parts import Kind, Part
from bccdist.processes import TIMED_OUT, Failure, run_each
from bccdist.slides.checkup import (
    Code,
    Finding,
    Severity,
    SlideCheckup,
    begin_checkup,
    check_slide,
    unknown_names_of,
)
from bccdist.slides.fingerprints import fingerprints_of, kept_beside
from bccdist.slides.manifest import Manifest, inspect_manifest
from bccdist.slides.part_totals import totals_of
from bccdist.slides.set_checkup import check_leaks, check_set
from bccdist.stages.requirements import lacks_of_manifest
from jobs.doctor_lines import (
    closing_lines,
    fault_lines,
    finding_lines,
    header_lines,
    lack_lines,
    note_lines,
    set_lines,
    slide_line,
    warning_lines,
)
from jobs.given_manifest import GivenManifest, for_this_run

SCHEMA_VERSION = "1"
"""Version of the report's format."""


@dataclass(frozen=True, kw_only=True)
class DoctorArguments:
    """Check slides, annotations and sections of a manifest."""

    manifest: Annotated[GivenManifest, tyro.conf.Positional]
    """slides.csv; sections.csv and kinds.toml lie beside it."""
    report: Path | None = None
    """Where to write everything that was found, as JSON; the slides' fingerprints are kept in a folder beside it."""
    parts: tuple[str, ...] = tuple(part.value for part in Part)
    """Which parts: Training, Validation I, Validation II, Test; or, in short, train, val1, val2, test."""
    workers: int | None = None
    """Processes, which look at one slide each; by default as many as there are cores."""
    timeout_s: float = 120.0
    """A slide that takes longer is an error."""
    target_mpp: float = ShardConfig.target_mpp
    """um per pixel that the network will see."""
    mpp_tolerance: float = ShardConfig.mpp_tolerance
    """Relative deviation up to which a level is used without resampling."""
    each_cell: bool = True
    """Read all tissue, as inference does, and name what is not in the file or not what its overview shows; else some
    places alone are read, in a fraction of the time."""
    strict: bool = False
    """Exit with 1 for warnings, too, and for what a whole study would lack."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that was found."""

    manifest: Manifest
    parts: tuple[Part, ...]
    faults: list[str]
    """What is wrong with the manifest's files."""
    checkups: list[SlideCheckup]
    study_lacks: list[str]
    """What a whole study lacks; not known, and empty, where not all parts were checked."""

    def count(self, severity: Severity) -> int:
        """How many faults and findings are this severe; a fault of the manifest is an error."""
        of_manifest = self.faults if severity is Severity.ERROR else self.manifest.warnings
        return len(of_manifest) + sum(checkup.count(severity) for checkup in self.checkups)


def open_checks(
    manifest: Manifest, *, target_mpp: float, mpp_tolerance: float, each_cell: bool
) -> Callable[[str], SlideCheckup]:
    """The work of one process: it checks a slide of the manifest."""
    # What tifffile would log about a damaged file becomes a finding.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)

    def check(slide_id: str) -> SlideCheckup:
        record, sections = manifest.slide(slide_id), manifest.sections_of(slide_id)
        return check_slide(
            record,
            sections,
            manifest.kinds,
            target_mpp=target_mpp,
            mpp_tolerance=mpp_tolerance,
            each_cell=each_cell,
        )

    return check


def examine(arguments: DoctorArguments) -> Diagnosis:
    """Check the slides and print what was found.

    Raises:
        ConfigurationError: a part is unknown.
        ManifestError: there is no slide to check.
    """
    # Without a look at the files: one that is not there is a finding of its slide.
    manifest, faults = inspect_manifest(for_this_run(arguments.manifest), files_must_exist=False)
    parts = tuple(Part.parse(name) for name in arguments.parts)
    slides = manifest.slides_of(parts)
    _print_lines([*fault_lines(faults), *warning_lines(manifest.warnings, manifest.notes)])
    if not slides:
        why = (
            "no row of it can be read, for the faults above" if faults else f"it names no slide of {', '.join(parts)}"
        )
        raise ManifestError(f"{manifest.path}: {why}: nothing was checked")
    _print_lines(header_lines(slides))
    checkups = []
    for checkup in _in_order(manifest, [slide.slide_id for slide in slides], arguments):
        checkups.append(checkup)
        _print_lines([slide_line(checkup, slides), *finding_lines(checkup.findings), *note_lines(checkup.notes)])
    found_among_all = [check_set(checkups), _check_leaks(manifest, checkups, arguments)]
    lacks = _lacks_of_study(manifest, checkups) if set(parts) == set(Part) else []
    diagnosis = Diagnosis(manifest=manifest, parts=parts, faults=faults, checkups=checkups, study_lacks=lacks)
    _print_lines(set_lines(found_among_all))
    _print_lines(closing_lines([totals_of(manifest, part) for part in parts], checkups))
    _print_lines(lack_lines(lacks))
    return diagnosis


def _check_leaks(
    manifest: Manifest, checkups: Sequence[SlideCheckup], arguments: DoctorArguments
) -> dict[str, list[Finding]]:
    # What could not be read has its error already, and would take or crash as long again.
    readable = [manifest.slide(checkup.slide_id) for checkup in checkups if checkup.tissue_mm2 is not None]
    fingerprints, reasons = fingerprints_of(
        readable,
        keep_in=kept_beside(arguments.report) if arguments.report else None,
        also_in=[kept_beside(manifest.path)],
        num_workers=arguments.workers,
        timeout_s=arguments.timeout_s,
    )
    return check_leaks(checkups, manifest, fingerprints, reasons)


def _lacks_of_study(manifest: Manifest, checkups: Sequence[SlideCheckup]) -> list[str]:
    with_tumor = {each.slide_id for each in checkups if each.annotated_um2 and each.annotated_um2[Kind.TUMORNEST]}
    return lacks_of_manifest(manifest, lambda record: record.slide_id in with_tumor)


def _print_lines(lines: Sequence[str]) -> None:
    if lines:
        print(*lines, sep="\n", flush=True)


def _in_order(manifest: Manifest, slide_ids: Sequence[str], arguments: DoctorArguments) -> Iterator[SlideCheckup]:
    """The checkups in the manifest's order, each as soon as those before it are done."""
    setup = partial(
        open_checks,
        manifest.only(slide_ids),
        target_mpp=arguments.target_mpp,
        mpp_tolerance=arguments.mpp_tolerance,
        each_cell=arguments.each_cell,
    )
    done: dict[str, SlideCheckup] = {}
    waiting = deque(slide_ids)
    outcomes = run_each(setup, slide_ids, num_workers=arguments.workers, timeout_s=arguments.timeout_s)
    for slide_id, outcome in outcomes:
        done[slide_id] = _lost(manifest, slide_id, outcome) if isinstance(outcome, Failure) else outcome
        while waiting and waiting[0] in done:
            yield done.pop(waiting.popleft())


def _lost(manifest: Manifest, slide_id: str, failure: Failure) -> SlideCheckup:
    """The checkup of a slide that gave none."""
    checkup = begin_checkup(manifest.slide(slide_id), manifest.sections_of(slide_id))
    code, advice = Code.CRASH, "the file may be damaged: open it in a viewer, copy or convert it"
    if failure.error == TIMED_OUT:
        code = Code.TIMEOUT
        advice = "look at the file and its storage, give it more with --timeout-s, or read less with --no-each-cell"
    if failure.error == RemoteError.__name__:
        checkup.add(Code.UNREADABLE, Severity.ERROR, f"what is needed of it did not come: {failure.reason}")
        return checkup
    checkup.add(code, Severity.ERROR, f"the check ended without a result: {failure.reason}; {advice}")
    return checkup


def report_of(diagnosis: Diagnosis, arguments: DoctorArguments) -> dict[str, Any]:
    """The report: an object per slide, with its findings."""
    manifest = diagnosis.manifest
    return {
        "format": "bccdist doctor report",
        "schema_version": SCHEMA_VERSION,
        "manifest": str(arguments.manifest if isinstance(arguments.manifest, Address) else manifest.path),
        "manifest_digest": manifest.digest,
        "target_mpp": arguments.target_mpp,
        "mpp_tolerance": arguments.mpp_tolerance,
        "num_errors": diagnosis.count(Severity.ERROR),
        "num_warnings": diagnosis.count(Severity.WARNING),
        "manifest_faults": diagnosis.faults,
        "manifest_warnings": list(manifest.warnings),
        "manifest_notes": list(manifest.notes),
        "study_lacks": diagnosis.study_lacks,
        "unknown_names": unknown_names_of(diagnosis.checkups),
        "parts": [asdict(totals_of(manifest, part)) for part in diagnosis.parts],
        "slides": [asdict(checkup) for checkup in diagnosis.checkups],
    }


def main(arguments: DoctorArguments) -> int:
    """Check, print, write the report; 1 if there are errors."""
    diagnosis = examine(arguments)
    num_errors, num_warnings = diagnosis.count(Severity.ERROR), diagnosis.count(Severity.WARNING)
    if arguments.report:
        write_json(arguments.report, report_of(diagnosis, arguments))
        print(f"report: {arguments.report}")
    print(f"{len(diagnosis.checkups)} slide(s) checked: {num_errors} error(s), {num_warnings} warning(s)")
    is_lacking = num_warnings > 0 or bool(diagnosis.study_lacks)
    return int(num_errors > 0 or (arguments.strict and is_lacking))


if __name__ == "__main__":
    run_command(lambda: main(tyro.cli(DoctorArguments)), if_interrupted="interrupted; no report was written")
