"""What every export says of itself: how the network is fed, what it gives, and how that becomes a decision."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from bccdist import __version__
from bccdist.configuration import CELL_PX, PHANTOM_WEIGHTS_WARNING, pixel_px
from bccdist.heatmaps.layout import PAPER
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.models.description import Description
from bccdist.models.model_file import CARD, ModelFile
from bccdist.seals import name_of_content
from bccdist.slides.level import WHITE

INPUT, OUTPUT = "rgb", "tumor_probability"
"""The names of what goes in and comes out, where a format has names."""
MULTIPLE_PX = 32
"""The sides of what the network sees are multiples of it."""
HALO_PX = 64
"""What a tool that keeps the centre of each patch should take off: psi_4's receptive field is about that."""
FORMAT_VERSION = 1
_TITLE = "Basal Cell Carcinoma in whole-slide images"
RESEARCH_ONLY = "For research use only; not a medical device."


def title(facts: Description) -> str:
    """The model's name, with the warning where it is a phantom's."""
    return f"PHANTOM {_TITLE}" if facts.trained_on.phantom else _TITLE


def export_facts(model: ModelFile) -> dict[str, Any]:
    """What an export says of itself, as JSON has it; equal models give equal facts."""
    facts = model.description
    network, selection = facts.network, facts.selection
    return {
        "format": "bccdist export",
        "format_version": FORMAT_VERSION,
        "made_by": __version__,
        "title": title(facts),
        "intended_use": RESEARCH_ONLY,
        "phantom": facts.trained_on.phantom,
        "warning": PHANTOM_WEIGHTS_WARNING if facts.trained_on.phantom else "",
        "licence": facts.licence,
        "model": {
            "sha256": name_of_content(model.path),
            "weights_digest": network.weights_digest,
            "setting": network.setting,
            "width": network.width,
            **({"encoder": network.encoder} if network.encoder else {}),
            "epoch": network.epoch,
            "made_by": facts.made_by,
        },
        "input": {
            "name": INPUT,
            "axes": "n, channel, y, x",
            "channels": ["red", "green", "blue"],
            "range": [0, 255],
            "outside_of_the_slide": WHITE,
            "target_mpp": network.target_mpp,
            "mpp_tolerance": network.mpp_tolerance,
            "patch_px": network.patch_px,
            "multiple_px": MULTIPLE_PX,
            "normalisation": {
                "where": "inside the network",
                "formula": "(value / 255 - mean) / std",
                "mean_rgb": list(network.mean_rgb),
                "std_rgb": list(network.std_rgb),
            },
        },
        "output": {
            "name": OUTPUT,
            "axes": "n, channel, y, x",
            "channels": list(network.outputs),
            "meaning": "probability of Tumor, by softmax over (Normal, Tumor)",
            "pixel_px": {psi: pixel_px(psi) for psi in network.outputs},
            "scale": "every channel has the input's size: a pixel of a coarse output is repeated",
        },
        "tiling": {
            "patch_px": PAPER.patch_px,
            "step_px": PAPER.step_cells * CELL_PX,
            "blending": "mean",
            "halo_px": HALO_PX,
            "halo_means": "for tools that keep the centre of each patch in place of the mean of overlapping ones",
            "num_steps": NUM_STEPS,
        },
        "decision": {
            "psi": selection.psi,
            "channel": network.outputs.index(selection.psi),
            "t_p": selection.t_p,
            "t_a_um2": selection.t_a_um2,
            "area_unit": selection.area_unit,
            "connectivity": 8,
            "beta": selection.beta,
            "section_method": facts.section_method,
        },
        "trained_on": {
            name: value for name, value in asdict(facts.trained_on).items() if name not in ("configuration", "phantom")
        },
    }


def facts_line(facts: Mapping[str, Any]) -> str:
    """The facts as they stand inside of files of others' formats: JSON in one line."""
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)


def export_card(model: ModelFile, facts: Mapping[str, Any], *, made_for: str) -> str:
    """The model's own card, and below it how this export is used.

    Args:
        model: whose card.
        facts: of `export_facts`, or what a format made of them.
        made_for: one or more sentences about the tools that read the format.
    """
    return model.read(CARD).decode() + "\n" + "\n".join(_usage(facts, made_for)) + "\n"


def _usage(facts: Mapping[str, Any], made_for: str) -> Iterator[str]:
    """The section of the card that the export adds."""
    given, found, tiling, decision = (facts[name] for name in ("input", "output", "tiling", "decision"))
    yield "## This export"
    yield ""
    yield made_for
    yield ""
    yield f"- made by bccdist {facts['made_by']} from the model file with SHA-256 {facts['model']['sha256']}"
    yield f"- licence: {facts['licence'] or 'nobody named one'}"
    yield (
        f"- in: {given['axes']}; red, green, blue from 0 to 255 at {given['target_mpp']:g} um per pixel, sides a "
        f"multiple of {given['multiple_px']}, white outside of the slide; normalised {given['normalisation']['where']}"
    )
    yield f"- out: {found['axes']}; {found['meaning']}: {', '.join(found['channels'])}; {found['scale']}"
    yield (
        f"- as bccdist does it: patches of {tiling['patch_px']} px, {tiling['step_px']} px apart, their mean stored "
        f"in steps of 1/{tiling['num_steps']}; a region of {decision['psi']} at {decision['t_p']:g} or more, "
        f"{decision['connectivity']}-connected, of at least {decision['t_a_um2']:g} um2 ({decision['area_unit']})"
    )
    yield ""
    yield (
        "Thresholds were chosen with that tiling and bccdist's own sections. Another tool's tiling, reading of slides "
        "or sections gives other numbers, and no verdict of bccdist."
    )
    yield ""
    yield "## Validation"
    yield ""
    yield (
        "Before it was written, this export was run and gave, on two drawn patches, bccdist's own probabilities "
        f"within half a stored step, {0.5 / NUM_STEPS:.4f}. What the model found on labelled sections stands under "
        "Decision."
    )
