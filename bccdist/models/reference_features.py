"""What a network's deepest features were like on tissue it was chosen on, to compare other slides with later.

A patch is told by the coarsest feature map of the encoder (a 32nd of its resolution), averaged over the patch. Patches
are those of Validation I in the shard set, of which at least half is tissue: decoded from the shards' images and on
the shards' grid, so that what is compared with them should be read alike.
"""

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from bccdist.errors import ConfigurationError, NotFiniteError
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.parts import Part
from bccdist.shard_set.index import ShardSet
from bccdist.shard_set.reader import PatchReader

LEAST_TISSUE = 0.5
"""Share of a patch's pixels."""
QUANTILES = {"q01": 0.01, "q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95, "q99": 0.99}
_BATCH = 8


def reference_features(network: DeeplySupervisedUNet, shard_set: ShardSet, num_patches: int) -> pa.Table:
    """Statistics of the deepest features over patches of Validation I: one row a channel.

    Args:
        network: in evaluation mode, on the CPU.
        shard_set: a finished one.
        num_patches: as many are read, evenly spread over the patches with enough tissue; all where there are fewer.

    Returns:
        channel (from 0), mean, std and `QUANTILES`, in float32 eager; the metadata says of how many patches.

    Raises:
        ConfigurationError: fewer than two patches have enough tissue.
        NotFiniteError: a feature is infinite or no number.
        ShardError: there are no patches of Validation I, or a tar is missing or damaged.
    """
    rows = _tissue_rows(shard_set, num_patches)
    reader = PatchReader(shard_set)
    batches = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
    pooled_nc = np.concatenate([_pooled(network, [reader.read(row)[0] for row in batch]) for batch in batches])
    if not np.isfinite(pooled_nc).all():
        raise NotFiniteError("the deepest features of patches of Validation I are not finite; train the network again")
    columns = {
        "channel": np.arange(pooled_nc.shape[1], dtype=np.int32),
        "mean": pooled_nc.mean(axis=0),
        "std": pooled_nc.std(axis=0, ddof=1),
        **{name: np.quantile(pooled_nc, share, axis=0) for name, share in QUANTILES.items()},
    }
    about = {
        "num_patches": str(len(rows)),
        "part": Part.VALIDATION_1.value,
        "least_tissue_fraction": str(LEAST_TISSUE),
        "image_coding": str(shard_set.manifest["config"]["image_coding"]),
        "phantom": str(shard_set.is_phantom).lower(),
    }
    return pa.table(columns).replace_schema_metadata(about)


def _tissue_rows(shard_set: ShardSet, num_patches: int) -> list[int]:
    """Rows of the index, evenly spread over the slides in its order; the same for the same shard set."""
    rows = shard_set.part(Part.VALIDATION_1).rows
    rows = rows[shard_set.column("tissue_fraction")[rows] >= LEAST_TISSUE]
    wanted = min(num_patches, len(rows))
    if wanted < 2:  # one value has no spread
        raise ConfigurationError(
            f"{shard_set.root}: {len(rows)} patch(es) of {Part.VALIDATION_1} are at least half tissue, {num_patches} "
            "are asked for, and reference features need two; give --feature-patches 0 to pack without them"
        )
    return [int(row) for row in rows[np.linspace(0, len(rows) - 1, wanted, dtype=int)]]


@torch.inference_mode()
def _pooled(network: DeeplySupervisedUNet, images: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """The mean of each channel of the deepest feature map: float64 [n, c] of RGB uint8 [h, w, 3]."""
    x_n3hw = to_network_input(torch.from_numpy(np.stack(images)))
    deepest = network.encoder(x_n3hw.contiguous(memory_format=network.memory_format))[-1]
    return np.asarray(deepest.double().mean(dim=(-2, -1)).numpy(), dtype=np.float64)
