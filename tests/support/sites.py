"""A model that was chosen on a made-up laboratory, and cohorts of others, by their ledgers alone."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from cohort import write_model_file
from study_folders import ledger_row

from analysis.site_transfer.sections import QUALITY
from bccdist.models.cohort import unpack_model
from bccdist.models.model_file import CHOSEN, REFERENCE, ModelFile, read_model, write_model
from bccdist.parquet import table_bytes
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import SCHEMA, write_rows
from bccdist.slides.manifest import read_manifest
from bccdist.study import keep_manifest
from benchmarks.sites import CHOICE, Site


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
