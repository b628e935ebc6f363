"""Table 2, patches before and after balancing (paper, section 2.3): `python analysis/make.py table2 STUDY`.

Counts are those of the study's shard set, and of an epoch with the default balance: the paper's ratios of draws.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import NOT_KNOWN, Table
from bccdist.errors import NothingToShowError
from bccdist.parts import Part
from bccdist.shard_set.index import read_set_manifest
from bccdist.shard_set.pools import POOLS

_NAMES = {
    "tumor_free": "T < 0.05 %",
    "tumor": "T >= 0.05 %",
    "tumor_dense": "T >= 10 %",
    "stroma": "S >= 0.05 %",
    "normal": "N >= 0.05 %",
}
TOTAL = "total"


def build_table2(manifest: Mapping[str, Any]) -> Table:
    """The table, one row a pool, from the content of a shard set's manifest.json."""
    training, epoch = manifest["parts"][Part.TRAINING.value], manifest["training_epoch"]
    before_draws = [(int(training["pools"][pool]), int(epoch["draws"][pool])) for pool in POOLS]
    before_draws.append((sum(num for num, _ in before_draws), sum(num for _, num in before_draws)))
    unbalance = {name: float(epoch[name]) for name in ("unbalance_before", "unbalance_after")}
    frame = pd.DataFrame(before_draws, columns=["num_patches", "num_draws"])
    frame.insert(0, "pool", [*POOLS, TOTAL])
    frame = frame.assign(**unbalance, phantom=bool(manifest["phantom"]))
    before, after = (f"{value:.2f}" if value < float("inf") else NOT_KNOWN for value in unbalance.values())
    return Table(
        name="table2",
        title="Table 2. Training patches before and after balancing.",
        frame=frame,
        printed=pd.DataFrame(
            {
                "pool": [*(_NAMES[pool] for pool in POOLS), TOTAL, "tumor-free pixels per tumor pixel"],
                "before": [*frame["num_patches"].map("{:,}".format), before],
                "after": [*frame["num_draws"].map("{:,}".format), after],
            }
        ),
        notes=(
            f"The pools overlap. Different patches: {int(training['num_patches']):,}, those of the first two pools.",
        ),
    )


def write_table2(study: Evidence) -> Table:
    """Write Table 2: training patches before and after balancing.

    Args:
        study: The study's folder.

    Raises:
        NothingToShowError: the study has no shard set.
        ShardError: its shard set is not finished, or damaged.
    """
    if not study.paths.shards.root.exists():
        raise NothingToShowError(f"there are no patches for training: {study.paths.shards.root} is not there")
    return study.write(build_table2(read_set_manifest(study.paths.shards)))
