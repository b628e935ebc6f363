"""What a model file tells of its thresholds, and of the sections that they were chosen on."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from bccdist.models.description import Description
from bccdist.models.model_file import REFERENCE, ModelFile
from bccdist.sections.assessable import QualityLimits
from bccdist.sections.choices import Choice


def choice_of(description: Description) -> Choice:
    """The thresholds that came with a model, as a study's selection says them, whatever a site has chosen since."""
    network, selection = description.network, description.selection
    return Choice(
        setting=network.setting,
        epoch=network.epoch,
        psi=selection.psi,
        t_p=selection.t_p,
        t_a_um2=selection.t_a_um2,
        beta=selection.beta,
        area_unit=selection.area_unit,
        weights_digest=network.weights_digest,
        phantom_weights=description.trained_on.phantom,
    )


def reference_of(model: ModelFile) -> pa.Table:
    """The reference table: a row for each section and output, without names.

    Raises:
        ModelError: there is none in it, or the file was changed.
    """
    return pq.read_table(io.BytesIO(model.read(REFERENCE)))


def quality_limits(model: ModelFile) -> QualityLimits:
    """What a section may be like to be assessable by the model.

    Raises:
        ModelError: there is no reference in it, or the file was changed.
    """
    return QualityLimits.of(reference_of(model))
