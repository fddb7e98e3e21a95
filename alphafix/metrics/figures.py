"""The figures of a set of predictions, for each split: one array that can be bootstrapped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphafix.metrics.predictions import Predictions
from alphafix.values.arrays import BoolArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

TIER_ROWS = ("few", "medium", "many", "base", "overall")
"""The splits of every table; "base" is medium and many, the classes AlphaNet never changes."""

MEASURES = ("top1", "top5", "macro", "macro_f1", "ece")
"""What is measured in each split, all in percent (see `TierFigures`)."""

SUMMARIES = ("worst_class", "harmonic_mean")
"""What is measured once: lowest class accuracy, and harmonic mean of the splits' top-1."""

# Equal-width confidence bins of the calibration error (Guo et al. 2017, Eq. 3, use 15).
ECE_BINS = 15


@dataclass(frozen=True)
class Layout:
    """Which sample belongs to which class and split; the same for all classifiers.

    Attributes:
        labels: True classes, int64 of shape N.
        samples: Number of samples of each class, float64 of shape C.
        members: Which class belongs to which of `TIER_ROWS`, float64 of shape 5 x C.
        splits: Split of each class (0 few, 1 medium, 2 many), int64 of shape C.
    """

    labels: IntArray
    samples: FloatArray64
    members: FloatArray64
    splits: IntArray

    @classmethod
    def of(cls, classes: ClassTable, labels: IntArray) -> Layout:
        """Lay out samples with these labels."""
        members = np.zeros((len(TIER_ROWS), len(classes)))
        for row, name in enumerate(TIER_ROWS):
            members[row, classes.tier(name)] = 1
        samples = np.bincount(labels, minlength=len(classes)).astype(np.float64)
        return cls(labels, samples, members, classes.tiers.astype(np.int64))


class TierFigures:
    """The figures of one classifier on any resampling of the samples.

    Measures: **top1**, **top5** and **grouped** (prediction in the group of the true class,
    AlphaNet Figure 6) are shares of samples (micro averages); **macro** is the mean over
    classes of top-1 accuracy; **macro_f1** the mean over classes of F1, where false alarms
    from all splits count; **ece** the expected calibration error of the softmax confidence
    (Guo et al. 2017, Eq. 3). Classes without samples take part in no mean.

    Args:
        layout: Labels and splits.
        predictions: What the classifier says, N samples.
        groups: Group of each class, int64 of shape C, to measure **grouped** too; or a bool
            C x C matrix of which predicted class (column) is in the group of which true class.
    """

    def __init__(
        self,
        layout: Layout,
        predictions: Predictions,
        groups: BoolArray | None = None,
    ) -> None:
        self.layout = layout
        self.predicted = predictions.predicted
        self.correct = (predictions.predicted == layout.labels).astype(np.float64)
        self.hits = [self.correct, predictions.top5.astype(np.float64)]
        if groups is not None:
            self.hits.append(groups[layout.labels, predictions.predicted].astype(np.float64))
        bins = np.minimum((predictions.confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
        self.bins = layout.splits[layout.labels] * ECE_BINS + bins
        self.overconfidence = predictions.confidence.astype(np.float64) - self.correct

    def class_correct(self, index: IntArray) -> FloatArray64:
        """Correct samples of each class among the samples ``index``, shape C."""
        return self._by_class(self.correct, index)

    def table(self, index: IntArray) -> FloatArray64:
        """Figures in percent on the samples ``index`` (stratified: class sizes unchanged).

        Returns:
            float64 of shape M x 5: `MEASURES` (and "grouped") by `TIER_ROWS`; NaN where a
            split has no samples.
        """
        layout = self.layout
        present = (layout.samples > 0).astype(np.float64)
        hits = [self._by_class(hit, index) for hit in self.hits]
        accuracy = hits[0] / np.maximum(layout.samples, 1)
        predicted = np.bincount(self.predicted[index], minlength=len(present))
        f1 = 2 * hits[0] / np.maximum(layout.samples + predicted, 1)
        with np.errstate(invalid="ignore"):
            shares = [layout.members @ hit / (layout.members @ layout.samples) for hit in hits]
            means = [
                layout.members @ (value * present) / (layout.members @ present)
                for value in (accuracy, f1)
            ]
            rows = [*shares[:2], *means, self._ece(index), *shares[2:]]
        table: FloatArray64 = 100 * np.stack(rows)
        return table

    def summaries(self, index: IntArray, table: FloatArray64) -> FloatArray64:
        """`SUMMARIES` in percent, from the samples ``index`` and their `table`."""
        present = self.layout.samples > 0
        accuracy = self.class_correct(index)[present] / self.layout.samples[present]
        splits = table[0, :3][~np.isnan(table[0, :3])]
        harmonic = 0.0 if (splits == 0).any() else len(splits) / (1 / splits).sum()
        return np.array([100 * accuracy.min(), harmonic])

    def _by_class(self, values: FloatArray64, index: IntArray) -> FloatArray64:
        labels, length = self.layout.labels[index], len(self.layout.samples)
        return np.asarray(
            np.bincount(labels, weights=values[index], minlength=length), dtype=np.float64
        )

    def _ece(self, index: IntArray) -> FloatArray64:
        gaps = np.bincount(
            self.bins[index], weights=self.overconfidence[index], minlength=3 * ECE_BINS
        ).reshape(3, ECE_BINS)
        merged = np.stack([*gaps, gaps[1] + gaps[2], gaps.sum(axis=0)])
        result: FloatArray64 = np.abs(merged).sum(axis=1) / (
            self.layout.members @ self.layout.samples
        )
        return result
