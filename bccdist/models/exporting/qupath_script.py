"""A script for QuPath that shows the TorchScript network as a pixel classifier."""

from collections.abc import Mapping
from typing import Any

_CLASSES = (
    "qupath.lib.images.servers.ImageServerMetadata.ChannelType",
    "qupath.lib.images.servers.PixelCalibration",
    "qupath.lib.images.servers.PixelType",
    "qupath.lib.regions.Padding",
    "qupath.opencv.dnn.DnnModelParams",
    "qupath.opencv.dnn.DnnModels",
    "qupath.opencv.ml.PatchClassifierParams",
    "qupath.opencv.ops.ImageOps",
)
_SCRIPT = """\
// {title}: Tumor probability as a pixel classifier.
// {intended_use} {warning}
// Written by bccdist {made_by}. It was not run in QuPath; it follows the source of QuPath and its extension.
//
// Needs QuPath 0.6 or later with its Deep Java Library extension, in which PyTorch was installed (Extensions >
// Deep Java Library > Manage DJL engines). Open an image of a project, and run this file in the script editor.
// The classifier is then in the project: Classify > Pixel classification > Load pixel classifier.
// Its channels: {channels}.
// A probability of at least {t_p:g} in {psi} counts, and regions of at least {t_a_um2:g} um2 ({area_unit}).
// QuPath keeps the centre of each patch, {halo_px} px from its edge, where bccdist takes the mean of overlapping
// patches, and it has no sections: numbers differ, and what it shows is no verdict of bccdist.

{imports}

def weights = new File("{weights}") // write its whole path here
if (!weights.exists())
    throw new IOException(weights + " is not there: write the whole path of {weights} into this script")
def patchPx = {patch_px}
def haloPx = {halo_px}
def umPerPixel = {target_mpp!r}
def outputs = [{quoted}] as String[]

def network = DnnModels.buildModel(DnnModelParams.builder()
    .framework(DnnModelParams.FRAMEWORK_PYTORCH)
    .files(weights)
    .layout("bcyx")
    .inputShape(1, 3, patchPx, patchPx)
    .outputShape(1, outputs.size(), patchPx, patchPx)
    .build())
if (network == null)
    throw new IOException("QuPath could not read " + weights + ": is PyTorch installed in its Deep Java Library?")

def resolution = new PixelCalibration.Builder()
    .pixelSizeMicrons(umPerPixel, umPerPixel)
    .build()
def classifier = PatchClassifierParams.buildPixelClassifier(PatchClassifierParams.builder()
    .inputChannels(0, 1, 2)
    .inputResolution(resolution)
    .patchSize(patchPx)
    .halo(haloPx)
    .preprocessing(ImageOps.Core.ensureType(PixelType.FLOAT32))
    .prediction(network, Padding.symmetric(haloPx))
    .outputChannelType(ChannelType.PROBABILITY)
    .outputClassNames(outputs)
    .build())
getProject().getPixelClassifiers().put("bccdist {digest}", classifier)
println "Saved as the project's pixel classifier \\"bccdist {digest}\\""
"""


def qupath_script(facts: Mapping[str, Any], weights: str) -> str:
    """The script, in Groovy, with this model's numbers.

    Args:
        facts: of `export_facts`.
        weights: the name of the TorchScript file.
    """
    channels = facts["output"]["channels"]
    script = _SCRIPT.format(
        **{**facts, **facts["decision"], **facts["tiling"]},
        target_mpp=facts["input"]["target_mpp"],
        imports="\n".join(f"import {name}" for name in _CLASSES),
        channels=", ".join(channels),
        quoted=", ".join(f'"{name}"' for name in channels),
        weights=weights,
        digest=facts["model"]["sha256"][:12],
    )
    # Where there is no warning, a line would end in a blank.
    return "\n".join(line.rstrip() for line in script.split("\n"))
