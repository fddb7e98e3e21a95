"""How much a file can make its reader do.

Sizes are held against the file's own wherever that is possible, so that a large honest file is
never refused: a checkpoint may have any size, its 100,000 tensors a header of 12 MB, the classes of
ImageNet-21k a classes.json of 2 MB; the largest recipe that comes with alphafix has 4 KB.
"""

from __future__ import annotations

MIB = 1 << 20

# JSON files: class tables, indices of shards, reports, manifests. The parser itself refuses nesting
# deeper than 200.
MOST_JSON = 256 * MIB

# YAML files: recipes. Nodes are counted after aliases are put in their places.
MOST_YAML = MIB // 4
MOST_YAML_NODES = 50_000
MOST_YAML_DEPTH = 50

# Axes of an array: what NumPy and torch can hold. Elements along one: what an int64 can count.
MOST_AXES = 64
MOST_ELEMENTS = (1 << 63) - 1

# What a compressed file may unpack to: so much in any case, or so many times its own size. Zeros
# are packed 1,000 times by zip; features of real models hardly 20 times.
FREE_UNPACKED = 256 * MIB
MOST_UNPACKED = 100

# Dictionaries in dictionaries: checkpoints have three or four of them.
MOST_NESTED = 100

# A container in a pickle may be named many times, which makes a few bytes into 2^n items: so
# many visits each container on average.
MOST_VISITS = 64


def most_unpacked(size: int) -> int:
    """Bytes that a compressed file of ``size`` bytes may unpack to."""
    return max(FREE_UNPACKED, MOST_UNPACKED * size)
