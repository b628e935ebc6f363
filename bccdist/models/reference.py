"""What a model file tells of the sections that its thresholds were chosen on."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from bccdist.models.model_file import REFERENCE, ModelFile
from bccdist.sections.assessable import QualityLimits


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
