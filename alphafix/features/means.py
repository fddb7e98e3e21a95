"""Class means of a feature store, in float64."""

from __future__ import annotations

import numpy as np

from alphafix.errors import InputError
from alphafix.features.store import STATISTICS, FeatureStore
from alphafix.files import read_tensors, sha256_file
from alphafix.values.arrays import FloatArray64


def class_means(store: FeatureStore) -> FloatArray64:
    """Mean of the (unnormalised) features of each class: z^c of AlphaNet, section 3.1.

    The sums were accumulated in float64 when the store was written, so that nothing is read
    but C x D numbers.

    Returns:
        float64 of shape C x D; a row of NaN for a class without samples.

    Raises:
        InputError: If the statistics do not belong to the store.
    """
    path = store.folder / STATISTICS
    if not path.is_file() or sha256_file(path) != store.info.get("statistics_sha256"):
        raise InputError(
            f"{path} does not belong to these features",
            expected="the statistics that were written with them",
            todo="extract again with --overwrite",
        )
    statistics, _ = read_tensors(path)
    with np.errstate(invalid="ignore"):
        means: FloatArray64 = statistics["sums"] / statistics["counts"][:, None]
    return means
