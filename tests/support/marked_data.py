"""A data set in which every place that may name a patient holds a marker: slides of four formats and annotations."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pydicom
import tifffile
from heatmap_slides import pink_picture
from numpy.typing import NDArray
from pydicom.encaps import encapsulate

# Backwards, as a study keeps the text of a repository that has changes.
MARKER = "kramxzQ"[::-1]
"""In every free text, with what place it is in."""
PATIENT = "nosrepxzQ"[::-1]
"""In every patient_id of slides.csv, which the study has to know."""
GREEN = (0, 255, 0)
"""All over each label and macro image."""
WIDTH_PX, HEIGHT_PX = 2400, 1600
"""Of level 0, at 0.46 um/px."""
MPP_LEVEL0 = 0.46
ISLANDS = [(160, 200, 900, 1200), (1400, 300, 800, 1000)]
"""Two pieces of tissue of each drawn slide, in level-0 px."""


def write_marked_data(folder: Path, fixtures: Path) -> Path:
    """Slides.csv of a Training slide each as SVS, TIFF, Validation as NDPI and TIFF, and Test as DICOM.

    Args:
        folder: where it is made.
        fixtures: the folder of real slides.
    """
    folder.mkdir(parents=True)
    _write_svs(folder / "s1.svs")
    _write_tiff(folder / "s2.tif", seed=2)
    _write_ndpi(folder / "s3.ndpi", fixtures / "ndpi")
    _write_tiff(folder / "s4.tif", seed=4)
    dicom = _write_dicom(folder / "s5", fixtures / "dicom_cmu1")
    (folder / "s1.xml").write_text(_imagescope(), encoding="utf-8")
    (folder / "s2.geojson").write_text(_geojson(), encoding="utf-8")
    rows = [
        ("s1", "train", "s1.svs", "s1.xml"),
        ("s2", "train", "s2.tif", "s2.geojson"),
        ("s3", "val1", "s3.ndpi", "s3.ndpi.ndpa"),
        ("s4", "val2", "s4.tif", ""),
        ("s5", "test", f"s5/{dicom.name}", ""),
    ]
    lines = [f"{','.join(row)},{PATIENT}-{number},a scanner" for number, row in enumerate(rows)]
    head = "slide_id,part,path,annotation,patient_id,scanner"
    (folder / "slides.csv").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    (folder / "sections.csv").write_text(_sections(), encoding="utf-8")
    (folder / "kinds.toml").write_text(
        '[names]\nglomerulus = "Tumornest"\ntubule = "Normal"\nvessel = "none"\n', encoding="utf-8"
    )
    return folder / "slides.csv"


def green(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """A picture that is green all over: uint8 RGB [h, w, 3]."""
    return np.full((height_px, width_px, 3), GREEN, dtype=np.uint8)


def _sections() -> str:
    head = "slide_id,section_id,label,x_level0_px,y_level0_px,width_level0_px,height_level0_px,patient_id"
    rows = [
        f"{slide_id},{slide_id}-{side},{label},{x - 40},{y - 40},{width + 80},{height + 80},{PATIENT}-{number}"
        for number, slide_id in ((0, "s1"), (1, "s2"), (3, "s4"))
        for side, label, (x, y, width, height) in zip(("left", "right"), ("Tumor", "Normal"), ISLANDS, strict=True)
    ]
    whole = [f"s3,s3-all,Tumor,0,0,2816,3584,{PATIENT}-2", f"s5,s5-all,Tumor,0,0,2220,2967,{PATIENT}-4"]
    return "\n".join([head, *rows, *whole]) + "\n"


def _tissue(seed: int) -> NDArray[np.uint8]:
    picture = pink_picture(WIDTH_PX, HEIGHT_PX, islands=ISLANDS)
    noise = np.random.default_rng(seed).normal(0, 12, (HEIGHT_PX // 16, WIDTH_PX // 16, 3))
    smooth = cv2.resize(noise, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture + smooth * (picture[..., :1] < 240), 0, 255).astype(np.uint8)


def _write_tiff(path: Path, *, seed: int) -> None:
    codes = {269: "DocumentName", 285: "PageName", 315: "Artist", 316: "HostComputer", 33432: "Copyright"}
    tags = [(code, "s", 0, f"{MARKER} {name}", True) for code, name in codes.items()]
    tags.append((700, "B", 0, f"<xmp>{MARKER} xmp</xmp>".encode(), True))
    resolution: dict[str, Any] = {"resolution": (1e4 / MPP_LEVEL0,) * 2, "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            _tissue(seed),
            tile=(256, 256),
            photometric="rgb",
            compression="jpeg",
            description=f"{MARKER} description",
            extratags=tags,
            metadata=None,
            **resolution,
        )


def _write_svs(path: Path) -> None:
    tissue = _tissue(1)
    head = (
        f"Aperio Image Library v11.2.1 \r\n{WIDTH_PX}x{HEIGHT_PX} [0,0 {WIDTH_PX}x{HEIGHT_PX}] (256x256) JPEG/RGB Q=90"
    )
    names = ("User", "Title", "Barcode", "Filename", "Patient", "Accession", "ImageID", "Comment")
    fields = "".join(f"|{name} = {MARKER} {name}" for name in names)
    options: dict[str, Any] = {"photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(tissue, tile=(256, 256), description=f"{head}|AppMag = 20|MPP = {MPP_LEVEL0}{fields}", **options)
        tiff.write(tissue[::4, ::4], rowsperstrip=16, description="Aperio Image Library v11.2.1", **options)
        for name, size, kind in (("label", (400, 400), 1), ("macro", (1200, 400), 9)):
            about = f"Aperio Image Library v11.2.1 \r\n{name} {size[0]}x{size[1]}|{MARKER} of the {name}"
            tiff.write(green(*size), rowsperstrip=16, description=about, subfiletype=kind, **options)


def _write_ndpi(path: Path, fixtures: Path) -> None:
    """The reference, at its own length, and what was drawn on it."""
    content = (fixtures / "pif_kidney.ndpi").read_bytes()
    assert content.count(b"fixture\0") >= 1
    path.write_bytes(content.replace(b"fixture\0", MARKER.encode() + b"\0"))
    text = (fixtures / "pif_kidney.ndpi.ndpa").read_text(encoding="utf-8")
    text = text.replace("<details />", f"<details>{MARKER} details</details>")
    text = text.replace("<annotation ", f'<annotation owner="{MARKER} owner" ')
    path.with_name(f"{path.name}.ndpa").write_text(text, encoding="utf-8")


def _write_dicom(folder: Path, fixtures: Path) -> Path:
    """A copy of the slide with a patient, and green for its label and overview; returns the level-0 image."""
    folder.mkdir()
    for path in sorted(fixtures.glob("*.dcm")):
        image = pydicom.dcmread(path)
        for name in ("PatientName", "PatientID", "AccessionNumber", "StudyID", "ContainerIdentifier", "OperatorsName"):
            setattr(image, name, f"{MARKER}{name}"[:16])
        for name in ("StudyDescription", "SeriesDescription", "PatientComments", "ImageComments", "InstitutionName"):
            setattr(image, name, f"{MARKER} {name}")
        image.SpecimenDescriptionSequence[0].SpecimenIdentifier = f"{MARKER} specimen"
        image.add_new(0x00091001, "LO", f"{MARKER} private")
        if image.ImageType[2] in ("LABEL", "OVERVIEW"):
            image.LabelText, image.BarcodeValue = f"{MARKER} label", f"{MARKER} barcode"
            coded = imagecodecs.jpeg8_encode(green(image.Columns, image.Rows), level=95)
            image.PixelData = encapsulate([coded])
        image.save_as(folder / path.name)
        if image.ImageType[2] == "VOLUME":
            level0 = folder / path.name
    return level0


def _ring(box: Sequence[int]) -> list[list[int]]:
    x, y, width, height = box
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]


def _nests() -> list[tuple[str, list[list[int]]]]:
    """Tumornest in the left piece, Stroma below it, Normal in the right one."""
    return [
        ("Tumornest", _ring((300, 350, 600, 450))),
        ("Stroma", _ring((300, 850, 600, 400))),
        ("Normal", _ring((1500, 450, 500, 700))),
    ]


def _imagescope() -> str:
    layers = []
    for name, ring in _nests():
        corners = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ring[:-1])
        layers.append(
            f'<Annotation Id="1" Name="{name}" Description="{MARKER} description"><Attributes><Attribute '
            f'Name="Description" Id="0" Value="{MARKER} value"/></Attributes><Regions><Region Id="1" Type="0" '
            f'Text="{MARKER} text"><Attributes/><Vertices>{corners}</Vertices></Region></Regions></Annotation>'
        )
    return f'<Annotations MicronsPerPixel="{MPP_LEVEL0}">{"".join(layers)}</Annotations>'


def _geojson() -> str:
    features = [
        {
            "type": "Feature",
            "id": f"{MARKER}-id",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name},
                "name": f"{MARKER} name",
                "description": f"{MARKER} description",
                "metadata": {"createdBy": f"{MARKER} author", "date": f"{MARKER} date"},
            },
        }
        for name, ring in _nests()
    ]
    return json.dumps({"type": "FeatureCollection", "features": features, "user": f"{MARKER} user"})


def copy_slides(data: Path, folder: Path) -> Path:
    """The slides alone, without tables and annotations, for a cohort."""
    for path in data.rglob("*"):
        if path.is_file() and path.suffix in (".svs", ".tif", ".ndpi", ".dcm"):
            target = folder / path.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return folder
