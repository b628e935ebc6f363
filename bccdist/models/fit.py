"""Whether a model's verdicts can be had with this version: the same sections, and the output that decides."""

from bccdist.configuration import InferConfig, outputs_of
from bccdist.errors import ConfigurationError, ModelError
from bccdist.models.model_file import ModelFile
from bccdist.slides.versions import SECTION_METHOD


def require_fit(model: ModelFile, config: InferConfig) -> None:
    """Refuse a model whose thresholds were chosen on other sections, or a way that leaves out what they judge.

    Raises:
        ModelError: the model's sections were found by another method than this version's.
        ConfigurationError: the network would end before the output that decides.
    """
    facts = model.description
    if facts.section_method != SECTION_METHOD:
        raise ModelError(
            f"{model.path}: its thresholds were chosen on sections by {facts.section_method!r}, and this version of "
            f"bccdist finds them by {SECTION_METHOD!r}: install bccdist {facts.made_by}, or pack the model again from "
            "its study, after the inference and the selection with this version"
        )
    kept = ("psi_0",) if config.exit == "psi_0" else outputs_of(facts.network.setting)
    if facts.selection.psi not in kept:
        raise ConfigurationError(
            f"exit is {config.exit!r}, which leaves out {facts.selection.psi}, by which {model.path} decides; run it "
            "to its end, or pack a model whose selection judged psi_0"
        )
