"""How an extraction is cut into shards and batches: the same for any number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from alphafix.features.shards import SHARD_BYTES
from alphafix.images.batches import BatchKey
from alphafix.images.source import ImageSource

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class ShardPlan:
    """One shard to extract.

    Attributes:
        name: Its name, without suffix; names sort in the order of the samples.
        key: Its samples.
    """

    name: str
    key: BatchKey

    @property
    def samples(self) -> tuple[int, range]:
        """Its group, and its samples in it."""
        return self.key.group, range(self.key.start, self.key.stop)

    def batches(self, size: int) -> Iterator[BatchKey]:
        """Its batches; they depend on nothing but the shard, so that results do neither."""
        for start in range(self.key.start, self.key.stop, size):
            yield BatchKey(self.key.group, start, min(start + size, self.key.stop))


def shard_rows(width: int, dtype: str, batch_size: int, wanted: int | None = None) -> int:
    """Samples a shard, in whole batches: ``wanted``, or what fills `SHARD_BYTES`."""
    rows = wanted or SHARD_BYTES // (width * _BYTES[dtype])
    return max(1, rows // batch_size) * batch_size


def plan_shards(
    source: ImageSource, rows: int, *, rank: int = 0, world: int = 1
) -> Iterator[ShardPlan]:
    """The shards of one process, in order.

    A source of one group is dealt out by shards, one of many groups (archives) by groups, so
    that no process opens another's archives.
    """
    many = source.groups > 1
    for group in range(rank if many else 0, source.groups, world if many else 1):
        size = source.size(group)
        for number, start in enumerate(range(0, size, rows)):
            if many or number % world == rank:
                name = f"{group:06d}-{number:06d}" if many else f"{number:06d}"
                yield ShardPlan(name, BatchKey(group, start, min(start + rows, size)))
