"""What WSInfer needs to judge patches: TorchScript and its configuration (wsinfer-zoo's model-config, 1.0)."""

import json
from collections.abc import Mapping
from typing import Any

CONFIGURATION, WEIGHTS = "config.json", "torchscript_model.pt"
CLASSES = ("Normal", "Tumor")


def for_patches(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as they are for a tool that normalises by itself and judges patches."""
    decision = facts["decision"]
    return {
        **facts,
        "input": {**facts["input"], "normalisation": {**facts["input"]["normalisation"], "where": "by the tool"}},
        "output": {
            "name": "scores",
            "axes": "n, class",
            "channels": list(CLASSES),
            "meaning": (
                "scores, whose softmax says of a patch the largest t_p at which an area of t_A of it has a "
                f"probability of at least t_p in {decision['psi']}, connected or not"
            ),
            "scale": f"a patch is Tumor where prob_Tumor is {decision['t_p']:g} or more",
        },
    }


def wsinfer_configuration(facts: Mapping[str, Any]) -> str:
    """The content of config.json; the facts stand in it under `bccdist`, which WSInfer passes over."""
    given, model = facts["input"], facts["model"]
    values = {
        "spec_version": "1.0",
        "architecture": f"bccdist-{model['setting']}-width-{model['width']}",
        "num_classes": len(CLASSES),
        "class_names": CLASSES,
        "patch_size_pixels": given["patch_px"],
        "spacing_um_px": given["target_mpp"],
        "transform": [
            {"name": "Resize", "arguments": {"size": given["patch_px"]}},
            {"name": "ToTensor"},
            {
                "name": "Normalize",
                "arguments": {"mean": given["normalisation"]["mean_rgb"], "std": given["normalisation"]["std_rgb"]},
            },
        ],
        "bccdist": facts,
    }
    return json.dumps(values, indent=2, allow_nan=False) + "\n"
