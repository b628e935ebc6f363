"""The same pixels or the same patient in two parts, and tables as spreadsheets write them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from bccdist.addresses import on_this_machine
from bccdist.files import csv_text
from bccdist.slides.manifest import Manifest, read_manifest
from benchmarks.faults.doctor_trials import diagnose
from benchmarks.faults.fault import Fault, Outcome, Seen, Trial
from benchmarks.faults.scene import SIDES
from benchmarks.faults.slide_files import MPP, Picture, levels_of, pages_of, write_pyramid, write_svs, write_tiff
from benchmarks.faults.textures import other_picture

KIND = "leakage"
_FIRST, _SECOND = "slide-of-val2", "slide-of-test"
Table = dict[str, list[dict[str, str]]]
"""The rows of slides.csv and of sections.csv."""


def _resaved(picture: Picture, path: Path, rng: np.random.Generator) -> Path:
    del rng
    return write_pyramid(path, picture, compression="deflate")


def _two_parts(
    write: Callable[[Picture, Path, np.random.Generator], Path], *, must_be_error: bool = False
) -> Callable[[Trial], Seen]:
    """A slide in Validation II and what was made of it in Test."""

    def run(trial: Trial) -> Seen:
        first = trial.scene.shared("lossless-level.tif", lambda path: _resaved(trial.scene.picture, path, trial.rng))
        second = write(trial.scene.picture, trial.folder / "other.tif", trial.rng)
        rows = [
            {"slide_id": _FIRST, "part": "val2", "path": str(first), "scanner": "phantom"},
            {"slide_id": _SECOND, "part": "test", "path": str(second), "scanner": "phantom"},
        ]
        path = _written(trial, {"slides.csv": rows})
        read_manifest(path)
        found = {place: text for place, text in diagnose(path).items() if _names_both(text, place)}
        if not found:
            return Seen(Outcome.SILENT, "two slides of the same tissue in two parts")
        text = "; ".join(found.values())
        if must_be_error and "error" not in text:
            return Seen(Outcome.SILENT, f"the same pixels in two parts are no error: {text}")
        return Seen(Outcome.FINDING, text[:200])

    return run


def _names_both(text: str, place: tuple[str, str]) -> bool:
    """Whether a finding is about both slides."""
    return all(name in f"{place[0]} {text}" for name in (_FIRST, _SECOND))


def _turned(turns: int, *, mirrored: bool = False) -> Callable[[Picture, Path, np.random.Generator], Path]:
    def write(picture: Picture, path: Path, rng: np.random.Generator) -> Path:
        del rng
        turned = np.rot90(picture[:, ::-1] if mirrored else picture, turns)
        return write_pyramid(path, np.ascontiguousarray(turned))

    return write


def _cropped(picture: Picture, path: Path, rng: np.random.Generator) -> Path:
    height, width = picture.shape[:2]
    top, left = rng.uniform(0, 0.08, 2)
    bottom, right = 1 - rng.uniform(0, 0.08, 2)
    cut = picture[int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
    return write_pyramid(path, np.ascontiguousarray(cut))


def _recompressed(picture: Picture, path: Path, rng: np.random.Generator) -> Path:
    encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 60))])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return write_pyramid(path, np.ascontiguousarray(np.asarray(decoded, dtype=np.uint8)[..., ::-1]))


def _rescaled(picture: Picture, path: Path, rng: np.random.Generator) -> Path:
    mpp = float(rng.choice([0.25, 0.5, 0.4]))
    scaled = cv2.resize(picture, None, fx=MPP / mpp, fy=MPP / mpp, interpolation=cv2.INTER_AREA)
    return write_pyramid(path, np.asarray(scaled, dtype=np.uint8), mpp=mpp)


def _scanned_again(picture: Picture, path: Path, rng: np.random.Generator) -> Path:
    """Moved by some pixels, turned by a degree, lighter, with other noise."""
    height, width = picture.shape[:2]
    matrix = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.uniform(-1.5, 1.5)), 1.0))
    matrix[:, 2] = matrix[:, 2] + rng.uniform(-60, 60, 2)
    moved = cv2.warpAffine(picture, matrix, (width, height), borderValue=(243, 243, 243))
    noisy = np.asarray(moved) * rng.uniform(0.97, 1.02) + rng.normal(0, 2, picture.shape)
    return write_pyramid(path, noisy.clip(0, 255).astype(np.uint8))


def _as_svs(picture: Picture, path: Path, rng: np.random.Generator) -> Path:
    del rng
    return write_svs(path.with_suffix(".svs"), levels_of(picture))


def _resaved_without_levels(picture: Picture, path: Path, rng: np.random.Generator) -> Path:
    del rng
    return write_tiff(path, pages_of(levels_of(picture, (1, 2)), compression="deflate"))


def _base(trial: Trial) -> Table:
    """Two slides of two patients, with boxes."""
    scene = trial.scene
    slides = [
        {
            "slide_id": name,
            "part": part,
            "path": f"{name}.tif",
            "mpp": str(MPP),
            "patient_id": patient,
            "scanner": "phantom",
        }
        for name, part, patient in (("a", "val2", "P-012"), ("b", "test", "P-345"))
    ]
    sections = [
        {"slide_id": name, "section_id": f"{name}-{number}", "label": "Tumor", **_sides(box)}
        for name in ("a", "b")
        for number, box in enumerate(scene.boxes)
    ]
    return {"slides.csv": slides, "sections.csv": sections}


def _sides(box: Sequence[int]) -> dict[str, str]:
    return {side: str(value) for side, value in zip(SIDES, box, strict=True)}


def _written(trial: Trial, table: Table) -> Path:
    for name, rows in table.items():
        (trial.folder / name).write_text(csv_text(list(rows[0]), rows), encoding="utf-8")
    return trial.folder / "slides.csv"


def _slides(trial: Trial) -> None:
    """The files that the tables name: two slides that are not alike."""
    for name, picture in (("a", trial.scene.picture), ("b", other_picture(trial.scene))):
        shared = trial.scene.shared(f"table-{name}.tif", partial(write_pyramid, picture=picture))
        (trial.folder / f"{name}.tif").symlink_to(shared)


def _two_slides(trial: Trial) -> Seen:
    """Two slides of one scanner and one stain in two parts: nothing is to be found about them."""
    _slides(trial)
    rows = [
        {"slide_id": name, "part": part, "path": path, "scanner": "phantom"}
        for name, part, path in ((_FIRST, "val2", "a.tif"), (_SECOND, "test", "b.tif"))
    ]
    found = diagnose(_written(trial, {"slides.csv": rows}))
    if alarms := [text for place, text in found.items() if _names_both(text, place)]:
        return Seen(Outcome.CRASH, f"a false alarm: {alarms[0]}")
    return Seen(Outcome.RIGHT)


def _told(change: Callable[[Table], None]) -> Callable[[Trial], Seen]:
    """A change to the tables that must be an error, or told by the doctor."""

    def run(trial: Trial) -> Seen:
        _slides(trial)
        before = diagnose(_written(trial, _base(trial)))
        table = _base(trial)
        change(table)
        path = _written(trial, table)
        read_manifest(path)
        new = diagnose(path).keys() - before.keys()
        if not new:
            return Seen(Outcome.SILENT, "nothing is said")
        return Seen(Outcome.FINDING, "; ".join(sorted(" ".join(place).strip() for place in new))[:200])

    return run


def _patients(first: str, second: str) -> Callable[[Trial], Seen]:
    """One patient in two parts, whose id a spreadsheet or a typist has changed in one row."""

    def change(table: Table) -> None:
        for row, patient in zip(table["slides.csv"], (first, second), strict=True):
            row["patient_id"] = patient

    return _told(change)


def _patients_in_both_files(trial: Trial) -> Seen:
    def change(table: Table) -> None:
        del table["slides.csv"][1]["patient_id"]
        table["slides.csv"][0]["patient_id"] = "12"
        for row in table["slides.csv"]:
            row.setdefault("patient_id", "")
        for row in table["sections.csv"]:
            row["patient_id"] = "12.0" if row["slide_id"] == "b" else ""

    return _told(change)(trial)


def _column(file: str, old: str, new: str) -> Callable[[Trial], Seen]:
    """A column under another name."""

    def change(table: Table) -> None:
        table[file] = [{new if name == old else name: text for name, text in row.items()} for row in table[file]]

    return _told(change)


def _label_in_slides(table: Table) -> None:
    for row in table["slides.csv"]:
        row["label"] = "Tumor"


def _read_alike(change: Callable[[bytes], bytes], *, file: str = "slides.csv") -> Callable[[Trial], Seen]:
    """A table in another notation: it is read as what it means, or refused."""

    def run(trial: Trial) -> Seen:
        _slides(trial)
        path = _written(trial, _base(trial))
        before = read_manifest(path)
        changed = trial.folder / file
        changed.write_bytes(change(changed.read_bytes()))
        # The message has to name what is wrong, not to say that columns are missing which are there to be seen.
        found = read_manifest(path)
        if _facts(found) == _facts(before):
            return Seen(Outcome.RIGHT)
        return Seen(Outcome.SILENT, "the rows say something else")

    return run


def _facts(manifest: Manifest) -> tuple[object, ...]:
    slides = [replace(slide, extra={}, path=on_this_machine(slide.path).resolve()) for slide in manifest.slides]
    return (*slides, *(replace(section, extra={}) for section in manifest.sections))


def _lines(change: Callable[[str], str]) -> Callable[[bytes], bytes]:
    """A change to each line."""
    return lambda content: "\n".join(map(change, content.decode().splitlines())).encode() + b"\n"


def _boxes(change: Callable[[str], str]) -> Callable[[bytes], bytes]:
    """A change to each number of the boxes, which are the last columns."""

    def of_line(line: str) -> str:
        fields = line.split(",")
        return ",".join(fields[:3] + [change(field) if field.isdecimal() else field for field in fields[3:]])

    return _lines(of_line)


def _windows(content: bytes) -> bytes:
    return content.replace(b"a.tif", b".\\a.tif").replace(b"b.tif", b".\\b.tif")


def _with_drive(content: bytes) -> bytes:
    return content.replace(b"a.tif", b"C:\\slides\\a.tif").replace(b"b.tif", b"C:\\slides\\b.tif")


def _fault(name: str, run: Callable[[Trial], Seen]) -> Fault:
    return Fault(kind=KIND, name=name, run=run)


FAULTS: tuple[Fault, ...] = (
    _fault("two slides that are not alike", _two_slides),
    _fault("the same file, copied", _two_parts(_resaved, must_be_error=True)),
    _fault("the same pixels, fewer levels", _two_parts(_resaved_without_levels, must_be_error=True)),
    _fault("the same slide as jpeg", _two_parts(lambda picture, path, _: write_pyramid(path, picture))),
    _fault("the same slide as svs", _two_parts(_as_svs)),
    _fault("the same slide, strongly compressed", _two_parts(_recompressed)),
    _fault("the same slide, turned by 90 degrees", _two_parts(_turned(1))),
    _fault("the same slide, turned by 180 degrees", _two_parts(_turned(2))),
    _fault("the same slide, turned by 270 degrees", _two_parts(_turned(3))),
    _fault("the same slide, mirrored", _two_parts(_turned(0, mirrored=True))),
    _fault("the same slide, mirrored and turned", _two_parts(_turned(1, mirrored=True))),
    _fault("the same slide, cropped", _two_parts(_cropped)),
    _fault("the same slide at another um/px", _two_parts(_rescaled)),
    _fault("the same slide, scanned again", _two_parts(_scanned_again)),
    *(
        _fault(f"patients {first!r} and {second!r}", _patients(first, second))
        for first, second in (
            ("12", "12.0"),
            ("0012", "12"),
            ("P-012", "p-012"),
            ("P-012", "P012"),
            ("P-012", "P_012"),
            ("P-012", "P 012"),
            ("P-012", "P-12"),
            ("P-012", "p12"),
            ("012", "12.0"),
        )
    ),
    _fault("patients '12' and '12.0' in two files", _patients_in_both_files),
    *(
        _fault(f"column {new!r} for {old!r}", _column("slides.csv", old, new))
        for old, new in (
            ("patient_id", "Patient"),
            ("patient_id", "patient id"),
            ("patient_id", "PatientID"),
            ("patient_id", "patientid"),
            ("mpp", "MPP"),
            ("mpp", "mpp_x"),
            ("scanner", "scaner"),
            ("slide_id", "Slide_ID"),
        )
    ),
    *(
        _fault(f"column {new!r} for {old!r} in sections.csv", _column("sections.csv", old, new))
        for old, new in (("x_level0_px", "x"), ("label", "Lable"), ("width_level0_px", "Width_level0_px"))
    ),
    _fault("a label column in slides.csv", _told(_label_in_slides)),
    _fault("semicolons", _read_alike(lambda content: content.replace(b",", b";"))),
    _fault("semicolons in sections.csv", _read_alike(lambda each: each.replace(b",", b";"), file="sections.csv")),
    _fault(
        "semicolons and decimal commas", _read_alike(lambda each: each.replace(b",", b";").replace(b"0.46", b"0,46"))
    ),
    _fault("tabs", _read_alike(lambda content: content.replace(b",", b"\t"))),
    _fault("UTF-16", _read_alike(lambda content: content.decode().encode("utf-16"))),
    _fault("UTF-16 with tabs", _read_alike(lambda content: content.decode().replace(",", "\t").encode("utf-16"))),
    _fault("UTF-8 with a mark", _read_alike(lambda content: b"\xef\xbb\xbf" + content)),
    _fault("windows-1252", _read_alike(lambda content: content.replace(b"phantom", "Gerät".encode("cp1252")))),
    _fault("an Excel workbook", _read_alike(lambda content: b"PK\x03\x04\x14\x00\x06\x00" + content)),
    _fault("an old Excel workbook", _read_alike(lambda content: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + content)),
    _fault("line ends of Windows", _read_alike(lambda content: content.replace(b"\n", b"\r\n"))),
    _fault("line ends of an old Mac", _read_alike(lambda content: content.replace(b"\n", b"\r"))),
    _fault("a line that names the separator", _read_alike(lambda content: b"sep=,\n" + content)),
    _fault("empty columns at the end", _read_alike(_lines(lambda line: line + ",,"))),
    _fault("paths of Windows", _read_alike(_windows)),
    _fault("paths with a drive", _read_alike(_with_drive)),
    _fault("boxes as 384.0", _read_alike(_boxes(lambda text: f"{text}.0"), file="sections.csv")),
    _fault("boxes as 3.84E+2", _read_alike(_boxes(lambda text: f"{float(text):.6E}"), file="sections.csv")),
    _fault("boxes as 384.5", _read_alike(_boxes(lambda text: f"{text}.5"), file="sections.csv")),
    _fault("boxes in quotes", _read_alike(_boxes(lambda text: f'"{text}"'), file="sections.csv")),
)
