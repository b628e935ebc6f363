"""Ledger rows of made-up laboratories: slides that scatter, sections that resemble each other within one, shifts."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cohort import write_model_file
from numpy.typing import NDArray
from study_folders import ledger_row

from analysis.site_transfer.sections import QUALITY, MeasuredSections
from bccdist.models.cohort import unpack_model
from bccdist.models.model_file import CHOSEN, REFERENCE, ModelFile, read_model, write_model
from bccdist.parquet import table_bytes
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.sections.ledger import SCHEMA, write_rows
from bccdist.slides.manifest import read_manifest
from bccdist.study import keep_manifest

CHOICE = Choice(
    setting="resnet34_ds",
    epoch=1,
    psi="psi_4",
    t_p=0.5,
    t_a_um2=5120.0,
    beta=1.5,
    area_unit="physical",
    weights_digest="abcdefabcdef",
)
NUM_FEATURES = 16
_WITHIN = 0.7
"""Scatter of a slide's sections, in that of slides."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A laboratory; shifts are in standard deviations between slides."""

    num_slides: int = 16
    sections_each: float = 3.2
    """On average."""
    prevalence: float = 0.4
    """Of Tumor sections."""
    stain: float = 0.0
    """Moves stain strength, features and, by a third, the scores."""
    blur: float = 0.0
    """Takes focus away and, by a third of it, score."""
    score: float = 0.0
    """Moves scores alone, of Tumor and Normal alike."""
    mixing: float = 0.0
    """Share of Tumor sections that the network does not tell from Normal ones at all."""

    def table(self, seed: int, *, name: str = "slide") -> pa.Table:
        """Its ledger's rows, as far as transfer reads them."""
        random = np.random.default_rng(seed)
        rows: list[dict[str, Any]] = []
        for number in range(self.num_slides):
            of_slide = {each: random.normal() for each in (*QUALITY, "score")}
            share = random.beta(2 * self.prevalence, 2 * (1 - self.prevalence))
            features = random.normal(size=NUM_FEATURES) + 0.5 * self.stain
            for place in range(max(1, random.poisson(self.sections_each))):
                is_tumor = bool(random.random() < share)
                looks_tumor = is_tumor and random.random() >= self.mixing
                quality = {each: of_slide[each] + _WITHIN * random.normal() for each in QUALITY}
                quality["stain_density"] += self.stain
                quality["focus"] -= self.blur
                score = (2.2 if looks_tumor else -2.2) + 0.6 * of_slide["score"] + 0.6 * random.normal()
                score += 0.6 * (self.score - (self.stain + self.blur) / 3)
                top = round(255 / (1 + np.exp(-score)))
                rows.append(
                    {
                        "slide_id": f"{name}-{number:03d}",
                        "section_id": f"{name}-{number:03d}-s{place}",
                        "part": "Test",
                        "is_final": True,
                        "label": "Tumor" if is_tumor else "Normal",
                        "tissue_um2": 1e6,
                        "coverage": 1.0,
                        "mpp": 1.0,
                        "pixel_px": 1,
                        "largest_region_px": region_curve(top, 20_000 * np.exp(0.5 * random.normal())),
                        "max_probability": top / 255,
                        "p99_probability": 0.9 * top / 255,
                        **quality,
                        "features": features + float(is_tumor) + 0.3 * random.normal(size=NUM_FEATURES),
                    }
                )
        lists = {
            "largest_region_px": np.array([row.pop("largest_region_px") for row in rows], dtype=np.uint32),
            "features": np.array([row.pop("features") for row in rows], dtype=np.float32),
        }
        table = pa.Table.from_pylist(rows)
        for each, values in lists.items():
            offsets = np.arange(len(rows) + 1, dtype=np.int32) * values.shape[1]
            table = table.append_column(each, pa.ListArray.from_arrays(offsets, values.ravel()))
        return table

    def sections(self, seed: int) -> MeasuredSections:
        """The same, measured."""
        return _sections_of(self, seed)


@cache
def _sections_of(site: Site, seed: int) -> MeasuredSections:
    return MeasuredSections.of(site.table(seed), CHOICE)


def region_curve(top_step: int, num_px: float) -> NDArray[np.float64]:
    """The curve of a region that shrinks up to its highest step."""
    return np.asarray(np.round(num_px * np.sqrt(np.clip(1 - np.arange(256) / (top_step + 1), 0, 1))))


CHOSEN_ON = Site(num_slides=60)
"""What a model was chosen on."""


def write_model_of(
    folder: Path, site: Site, *, seed: int = 1, has_features: bool = True, phantom: bool = False
) -> ModelFile:
    """The file bcc.model in a folder, of a network of width 4, that was chosen on a made-up site's sections."""
    packed = write_model_file(folder, phantom=phantom)
    table = site.table(seed)
    slides = pa.array([int(name.rpartition("-")[2]) for name in table["slide_id"].to_pylist()])
    table = table.drop_columns(["slide_id", "section_id", *([] if has_features else [*QUALITY, "features"])])
    table = table.append_column("slide", slides)
    table = table.append_column("psi", pa.array(["psi_4"] * table.num_rows))
    entries = {name: packed.read(name) for name in packed.names()}
    chosen = pq.read_table(io.BytesIO(entries[CHOSEN]))
    for name in ("t_p", "t_a_um2"):
        place = chosen.schema.get_field_index(name)
        chosen = chosen.set_column(place, chosen.schema.field(place), pa.array([getattr(CHOICE, name)]))
    entries |= {CHOSEN: table_bytes(chosen), REFERENCE: table_bytes(table)}
    about = packed.description
    selection = replace(about.selection, t_p=CHOICE.t_p, t_a_um2=CHOICE.t_a_um2)
    write_model(packed.path, entries, replace(about, selection=selection))
    return read_model(packed.path)


def write_cohort_of(
    root: Path, model: ModelFile, site: Site, *, seed: int = 2, labelled: Callable[[int], bool] = lambda _: True
) -> StudyPaths:
    """A cohort of a made-up site, by its ledger alone: slides are files of nothing.

    Args:
        root: its folder.
        model: of `write_model_of`.
        site: whose sections.
        seed: of them.
        labelled: says of each section by its number whether it has a label.
    """
    unpack_model(model, root)
    network = model.description.network
    known = set(SCHEMA.names)
    rows = site.table(seed, name="here").to_pylist()
    about = {"setting": network.setting, "epoch": network.epoch, "weights_digest": network.weights_digest}
    files: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(rows):
        row["label"] = row["label"] if labelled(number) else None
        mine = {name: value for name, value in row.items() if name in known}
        files.setdefault(row["slide_id"], []).append({**ledger_row(**about), **mine})
    paths = StudyPaths(root)
    lines = ["slide_id,part,path"]
    for slide_id, of_slide in files.items():
        (root / f"{slide_id}.svs").write_bytes(slide_id.encode())
        lines.append(f"{slide_id},test,{slide_id}.svs")
        write_rows(paths.ledger_rows(network.setting, network.epoch, slide_id), of_slide)
    (root / "slides.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    keep_manifest(root, read_manifest(root / "slides.csv"))
    return paths
