"""The model card: README.md of a model file, in the form that model hubs read."""

from collections.abc import Iterator

from bccdist.configuration import PHANTOM_WEIGHTS_WARNING
from bccdist.models.description import Description
from bccdist.parts import Part

_UNKNOWN = "other"
"""What model hubs call a licence that nobody named."""


def model_card(facts: Description) -> str:
    """The card as Markdown, below a head of YAML."""
    return "\n".join([*_head(facts), "", *_body(facts)]) + "\n"


def _head(facts: Description) -> Iterator[str]:
    yield "---"
    yield f"license: {facts.licence or _UNKNOWN}"
    yield "library_name: bccdist"
    yield "pipeline_tag: image-segmentation"
    yield "tags: [histopathology, whole-slide-image, basal-cell-carcinoma, research-use-only]"
    yield "---"


def _body(facts: Description) -> Iterator[str]:
    network, selection, trained = facts.network, facts.selection, facts.trained_on
    yield "# Basal Cell Carcinoma in whole-slide images"
    if trained.phantom:
        yield ""
        yield f"**{PHANTOM_WEIGHTS_WARNING}.** It shows that the suite works, and says nothing about tissue."
    yield ""
    yield "For research use only; not a medical device."
    yield ""
    yield (
        f"A deeply supervised UNet, setting {network.kind}, epoch {network.epoch} of its "
        f"training. It sees patches of {network.patch_px} x {network.patch_px} px at {network.target_mpp:g} um per "
        f"pixel, within {network.mpp_tolerance:.0%}."
    )
    yield ""
    yield "## Decision"
    yield ""
    unit = "um2" if selection.area_unit == "physical" else "um2 as if 1 um per pixel"
    yield (
        f"A section is Tumor where a region of at least {selection.t_a_um2:g} {unit} has a probability of at least "
        f"{selection.t_p:g} in {selection.psi}. Tissue that was not read whole and shows no tumor is for review."
    )
    yield ""
    counts = selection.counts
    yield (
        f"The thresholds have the highest F_{selection.beta:g} on {selection.num_sections} labelled sections of "
        f"{selection.num_slides} slides of Validation I + II, which therefore flatter it: {counts['tp']} TP, "
        f"{counts['fn']} FN, {counts['fp']} FP, {counts['tn']} TN, {counts['num_review']} for review."
    )
    yield ""
    yield "## Trained on"
    yield ""
    yield "| part | slides | known patients | patches |"
    yield "|---|---:|---:|---:|"
    for part in (Part.TRAINING, Part.VALIDATION_1, Part.VALIDATION_2):
        name = part.value
        patches = trained.num_patches.get(name, "")
        yield f"| {name} | {trained.num_slides[name]} | {trained.num_patients[name]} | {patches} |"
    yield ""
    scanners = ", ".join(f"{name or 'not named'} ({count})" for name, count in sorted(trained.scanners.items()))
    yield f"Scanners of Training: {scanners}. Digest of the manifest: {trained.manifest_digest}."
    yield ""
    yield "## Not known"
    yield ""
    yield (
        "How it does on slides of other laboratories, scanners and stains has to be measured there before its "
        "verdicts are used. A section without tumor in the heatmap is not proof that there is none."
    )
