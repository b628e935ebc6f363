"""A finished shard set as a `webdataset` pipeline, for those who train something else on its patches.

This project's own training reads by offset (`bccdist.training`); here tars are read from end to end, as WebDataset
likes it, and what comes out is checked and counted all the same.
"""

import json
import random
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from numpy.typing import NDArray
from webdataset.tariterators import group_by_keys, tar_file_expander

from bccdist.configuration import BalanceConfig
from bccdist.errors import ShardError
from bccdist.parts import Part
from bccdist.shard_set.epoch_plan import draw_epoch
from bccdist.shard_set.index import PartPatches, ShardSet
from bccdist.shard_set.pools import POOLS
from bccdist.shard_set.reader import decode_image, decode_mask, is_intact

_EXTENSIONS = {"jpeg": "jpg", "png": "png"}
Item = dict[str, Any]
"""`key`; `image`, RGB uint8 [h, w, 3]; `mask`, uint8 [h, w], 1 where Tumornest; `about`, the JSON of the sample."""


def webdataset_pipeline(
    shard_set: ShardSet,
    *,
    parts: Sequence[Part] = (Part.TRAINING,),
    balance: BalanceConfig | None = None,
    shuffle_buffer: int = 0,
    seed: int = 0,
    epoch: int = 1,
) -> webdataset.DataPipeline:
    """The decoded patches of some parts as a `webdataset.DataPipeline`, ready for a DataLoader.

    Example::

        from torch.utils.data import DataLoader
        shard_set = read_set(Path("studies/mine/shards"))
        patches = webdataset_pipeline(shard_set, shuffle_buffer=1000, seed=7)
        for batch in DataLoader(patches, batch_size=16, num_workers=4):
            my_step(batch["image"], batch["mask"], batch["about"]["slide_id"])

    Nodes and, on each, loader workers take turns at the tars, of which every slide has one: there should be more
    slides than workers, and ranks see different numbers of patches. All ranks give the same arguments.

    Args:
        shard_set: from `bccdist.shard_set.index.read_set`.
        parts: those that the patches are of.
        balance: how often patches are drawn (Table 2), exactly those that training draws with this seed and epoch; a
            patch that is drawn several times comes so many times in a row, so shuffle. None yields each patch once.
        shuffle_buffer: patches among which the next one is chosen, after the tars are shuffled; 0 keeps the order of
            the index.
        seed, epoch: decide order and draws; make a new pipeline with the next epoch when one is over.

    Raises:
        ShardError: a part has no patches; while it is read, a tar or a patch is not what the index says.
        ConfigurationError: `balance` counts draws of an empty pool.
    """
    index = _index_of(shard_set, [shard_set.part(part) for part in parts], balance, seed=seed, epoch=epoch)
    tars = list(index.rows)
    order = f"{seed} {epoch}"
    shuffled = []
    if shuffle_buffer:
        # On every node and in every worker the same, because they take turns at the tars.
        random.Random(order).shuffle(tars)
        shuffled = [webdataset.shuffle(shuffle_buffer, initial=shuffle_buffer, seed=order)]
    return webdataset.DataPipeline(
        webdataset.SimpleShardList(tars),
        webdataset.split_by_node,
        webdataset.split_by_worker,
        partial(_items, index=index),
        *shuffled,
    )


@dataclass(frozen=True, kw_only=True)
class _Member:
    """One member of every sample, and what makes an item's value of its bytes."""

    extension: str
    digests: NDArray[np.uint64]
    decode: Callable[[bytes], Any]


@dataclass(frozen=True, kw_only=True)
class _Index:
    """What a pipeline knows of the index; it travels to the loader's workers."""

    rows: Mapping[str, NDArray[np.int64]]
    """The rows of each tar, by its path, in the order in which its samples lie."""
    times: NDArray[np.int64]
    """How often each patch comes, by row."""
    members: Mapping[str, _Member]


def _index_of(
    shard_set: ShardSet, parts: Sequence[PartPatches], balance: BalanceConfig | None, *, seed: int, epoch: int
) -> _Index:
    rows = np.concatenate([part.rows for part in parts])
    times = np.ones(1 + int(rows.max()), dtype=np.int64)
    if balance is not None:
        # Draws number the patches as training does: by their place among those of these parts.
        members = {pool: np.concatenate([part.members[pool] for part in parts]) for pool in POOLS}
        drawn = draw_epoch(members, balance, seed=seed, epoch=epoch)
        times[rows] = np.bincount(drawn, minlength=len(rows))
    image_extension = _EXTENSIONS[shard_set.manifest["config"]["image_coding"]]
    return _Index(
        rows=_rows_by_tar(shard_set, rows),
        times=times,
        members={
            "image": _Member(
                extension=image_extension, digests=shard_set.digest_column("image_sha256"), decode=decode_image
            ),
            "mask": _Member(extension="mask.png", digests=shard_set.digest_column("mask_sha256"), decode=decode_mask),
            "about": _Member(extension="json", digests=shard_set.digest_column("json_sha256"), decode=json.loads),
        },
    )


def _rows_by_tar(shard_set: ShardSet, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """The rows of each tar, in the order in which its samples lie, by the tar's path."""
    codes, names = shard_set.coded_column("tar")
    # A slide has one tar, and the index goes through the slides one by one.
    edges = np.flatnonzero(np.diff(codes[rows], prepend=-1, append=-1)).tolist()
    return {
        str(shard_set.root.absolute() / names[codes[rows[start]]]): rows[start:stop] for start, stop in pairwise(edges)
    }


def _items(tars: Iterable[Mapping[str, str]], *, index: _Index) -> Iterator[Item]:
    """The patches of one tar after the other, each as often as it is drawn."""
    for each in tars:
        tar = each["url"]
        rows = index.rows[tar].tolist()
        for row, sample in zip_longest(rows, _samples(tar)):
            # WebDataset takes a tar that was cut between two samples for a short one.
            if row is None or sample is None:
                raise ShardError(f"{tar}: it has not the {len(rows)} samples of the index; build the slide again")
            for _ in range(index.times[row]):
                yield _item(sample, row, index)


def _samples(tar: str) -> Iterator[Mapping[str, Any]]:
    """What WebDataset makes of one tar.

    Raises:
        ShardError: it is not there, or is no whole tar.
    """
    try:
        # Opened here, because WebDataset leaves what it has opened to the garbage collector.
        with Path(tar).open("rb") as stream:
            yield from group_by_keys(tar_file_expander(iter([{"url": tar, "stream": stream}])))
    except (OSError, tarfile.TarError) as error:
        raise ShardError(f"{tar}: missing or damaged ({error}); build the slide again") from error


def _item(sample: Mapping[str, Any], row: int, index: _Index) -> Item:
    """A decoded patch, if its bytes are those that the index names."""
    item: Item = {"key": Path(sample["__key__"]).name}
    for name, member in index.members.items():
        data = sample.get(member.extension)
        found = member.decode(data) if data is not None and is_intact(data, int(member.digests[row])) else None
        if found is None:
            raise ShardError(
                f"{sample['__url__']}: the {name} of patch {item['key']} is missing or damaged; build the slide again"
            )
        item[name] = found
    return item
