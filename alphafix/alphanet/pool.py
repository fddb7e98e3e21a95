"""One more row for alpha to combine: the class's own discriminant row.

The paper's pool holds the rows of the K nearest base classes, none of which says where the class
itself is. Its own row in the sense of a linear discriminant does: P^-1 (m_c - mu), with the class
means m_c, their mean mu and the shrunken within-class covariance P of the base classes (see
`alphafix.rivals.discriminant`), made as long as the head's rows are on average, so that a
coefficient means the same for it as for a neighbour's row. All coefficients together have the
1-norm 1. What the row gives to every sample alike is left to the bias that is learned.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from alphafix.alphanet.sources import Source
from alphafix.features.scatter import LEAST_SHRINKAGE, directions
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head

WIDER_POOL: Final = "neighbors+discriminant"
"""What such a pool is called in settings; "neighbors" is the paper's."""


def discriminant_rows(samples: Source, head: Head, classes: ClassTable) -> FloatArray:
    """The own rows of the few-split classes, float32 of shape F x D.

    A class without training samples has a row of zeros.

    Args:
        samples: The training samples; those that are held out take no part.
        head: The head to correct.
        classes: The class table.
    """
    train = samples.store if len(samples.index) == len(samples.store) else samples.features()
    means = train.class_means()
    centered = np.nan_to_num(means - np.nanmean(means, axis=0))
    within = train.within_class(classes.base)
    rows = directions(within, max(within.shrinkage, LEAST_SHRINKAGE), centered)[classes.few]
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    length = np.linalg.norm(head.weight.astype(np.float64), axis=1).mean()
    return np.asarray(rows * (length / np.where(lengths > 0, lengths, 1.0)), dtype=np.float32)


def with_own(neighbors: IntArray, num_classes: int) -> IntArray:
    """Neighbour ids F x K as ids of the pool, F x (K + 1): the own rows, behind those of the head.

    The own row is the first, so that padding of neighbours stays last.
    """
    own = num_classes + np.arange(len(neighbors), dtype=np.int64)
    return np.concatenate([own[:, None], neighbors], axis=1)
