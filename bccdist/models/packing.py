"""From a finished study to the one file that leaves it."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bccdist import __version__
from bccdist.configuration import PATCH_PX, InferConfig, Setting, read_claimed
from bccdist.errors import CheckpointError, ConfigurationError, LedgerError
from bccdist.models.card import model_card
from bccdist.models.description import Description, NetworkFacts, SelectionFacts, TrainingFacts
from bccdist.models.model_file import (
    CARD,
    CHOSEN,
    GRID,
    REFERENCE,
    SPEEDUPS,
    WEIGHTS,
    ModelFile,
    read_model,
    write_model,
)
from bccdist.networks.inputs import MEAN_RGB, STD_RGB
from bccdist.networks.weights import load_network, weights_digest
from bccdist.parquet import read_table, table_bytes
from bccdist.parts import Part
from bccdist.paths import RunPaths, StudyPaths
from bccdist.seals import read_sealed_json, sealed_json
from bccdist.sections.choices import Choice, choose_headline, read_selection
from bccdist.sections.ledger import read_rows
from bccdist.shard_set.index import read_set_manifest
from bccdist.slides.manifest import Manifest
from bccdist.slides.quality_measures import MEASURES
from bccdist.slides.versions import SECTION_METHOD
from bccdist.study import manifest_of_study

_REFERENCE_COLUMNS = (
    "part",
    "psi",
    "is_final",
    "label",
    "tissue_um2",
    "coverage",
    "mpp",
    "pixel_px",
    "largest_region_px",
    "max_probability",
    "p99_probability",
    *MEASURES,
    "features",
)
"""What a later comparison of scores and quality needs, and nothing that names a slide, patient or reader."""
_COUNTS = ("tp", "fn", "fp", "tn", "num_review")
_AGAIN = "run the selection again, which takes seconds"


def pack_model(study_root: Path, out: Path, *, setting: Setting | None = None, licence: str = "") -> ModelFile:
    """Pack the chosen network of a study, with all that its verdicts depend on.

    Args:
        study_root: the study's folder; its selection has to be there, its slides need not.
        out: the model file; what is there is replaced.
        setting: whose network; None is the one with the best F_beta on Validation I + II.
        licence: the terms under which the model may be used, such as an SPDX identifier.

    Raises:
        LedgerError: nothing was selected yet, or not for this setting; or the ledger has no rows of it.
        CheckpointError: the chosen weights are missing, damaged, or not those that the selection judged.
        ConfigurationError: the folder is no study.
        ShardError: the shard set's manifest is missing or damaged.
    """
    paths, manifest = StudyPaths(study_root), manifest_of_study(study_root)
    selection = read_selection(paths)
    choice = choose_headline(selection, setting)
    row = selection[selection["setting"] == choice.setting].iloc[0].to_dict()
    run = paths.run(choice.setting)
    description = Description(
        network=_network_facts(run, choice),
        section_method=SECTION_METHOD,
        selection=_selection_facts(choice, row),
        trained_on=_training_facts(paths, manifest, choice),
        licence=licence,
        made_by=__version__,
        files={},
    )
    entries = {
        WEIGHTS: run.weights(choice.epoch).read_bytes(),
        CHOSEN: table_bytes(_of_setting(paths.selection, choice)),
        GRID: table_bytes(_of_setting(paths.grid, choice)),
        REFERENCE: table_bytes(_reference(paths, choice)),
        **_speedups(run, choice.epoch),
        CARD: model_card(description).encode(),
    }
    write_model(out, entries, description)
    return read_model(out)


def _network_facts(run: RunPaths, choice: Choice) -> NetworkFacts:
    path = run.weights(choice.epoch)
    network, metadata = load_network(path)
    digest = weights_digest(path)
    if digest != choice.weights_digest:
        raise CheckpointError(
            f"{path}: its digest is {digest}, but the selection judged {choice.weights_digest}: the setting was "
            "trained again since; run inference and selection again"
        )
    return NetworkFacts(
        setting=network.setting,
        width=network.width,
        epoch=choice.epoch,
        outputs=network.outputs,
        patch_px=PATCH_PX,
        target_mpp=float(metadata["target_mpp"]),
        mpp_tolerance=InferConfig().mpp_tolerance,
        mean_rgb=MEAN_RGB,
        std_rgb=STD_RGB,
        weights_digest=digest,
        encoder=network.encoder_name,
    )


def _selection_facts(choice: Choice, row: Mapping[Any, Any]) -> SelectionFacts:
    return SelectionFacts(
        t_p=choice.t_p,
        t_a_um2=choice.t_a_um2,
        area_unit=choice.area_unit,
        psi=row["psi"],
        beta=choice.beta,
        num_sections=int(row["num_sections"]),
        num_slides=int(row["num_slides"]),
        counts={name: int(row[name]) for name in _COUNTS},
    )


def _training_facts(paths: StudyPaths, manifest: Manifest, choice: Choice) -> TrainingFacts:
    patches = read_set_manifest(paths.shards)["parts"]
    configuration = read_claimed(paths.run(choice.setting).config)
    for name in ("encoder_weights", "start_from"):
        if configuration.get(name):
            # Its folder is nobody's business elsewhere.
            configuration[name] = Path(configuration[name]).name
    return TrainingFacts(
        num_slides={part.value: len(manifest.slides_of([part])) for part in Part},
        num_patients={
            part.value: len({slide.patient_id for slide in manifest.slides_of([part])} - {""}) for part in Part
        },
        num_patches={part: int(facts["num_patches"]) for part, facts in patches.items()},
        scanners=dict(Counter(slide.scanner for slide in manifest.slides_of([Part.TRAINING]))),
        manifest_digest=manifest.digest,
        phantom=choice.phantom_weights,
        configuration=configuration,
    )


def _of_setting(path: Path, choice: Choice) -> pa.Table:
    """The rows of the setting in a table of the selection: what was chosen, or the grid's cells."""
    if not path.exists():
        raise LedgerError(f"{path}: the selection's table is not there; {_AGAIN}")
    table = read_table(path, error=LedgerError, advice=_AGAIN)
    return table.filter(pc.equal(table["setting"], choice.setting))


def _reference(paths: StudyPaths, choice: Choice) -> pa.Table:
    """The ledger's rows of Validation I + II by the chosen network, without the columns that name anybody."""
    table = read_rows(paths.ledger / choice.setting / f"epoch-{choice.epoch:03d}")
    parts = pa.array([Part.VALIDATION_1.value, Part.VALIDATION_2.value])
    table = table.filter(pc.is_in(table["part"], parts))
    # Slides keep apart, as their sections resemble each other, under numbers that say nothing of them.
    numbers = table["slide_id"].combine_chunks().dictionary_encode().indices
    return table.select(list(_REFERENCE_COLUMNS)).add_column(0, "slide", numbers)


def _speedups(run: RunPaths, epoch: int) -> dict[str, bytes]:
    """Speed-up records of these weights, of each machine that measured one, and int8 models."""
    records = run.all_speedups(epoch)
    models = sorted(run.int8_model(epoch, "x").parent.glob(f"epoch-{epoch:03d}-*-int8.*")) if records else []
    return {f"{SPEEDUPS}{path.name}": _without_names(path) for path in records} | {
        f"{SPEEDUPS}{path.name}": path.read_bytes() for path in models
    }


def _without_names(record: Path) -> bytes:
    """A speed-up record with numbers in place of the slides' and sections' names."""
    values = read_sealed_json(
        record, error=ConfigurationError, advice="remove it and run `python jobs/launch_calibrate.py` again"
    )
    numbers: dict[str, str] = {}

    def number(verdict: str) -> str:
        section, slash, psi = verdict.partition("/")
        return numbers.setdefault(section, f"section-{len(numbers) + 1}") + slash + psi

    for way in [*values["ways"], *values["bands"]]:
        way["changed_verdicts"] = [number(verdict) for verdict in way["changed_verdicts"]]
    values["slide_ids"] = [f"slide-{position + 1}" for position in range(len(values["slide_ids"]))]
    return sealed_json(values)
