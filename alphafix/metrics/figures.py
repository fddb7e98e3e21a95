"""The figures of a set of predictions, for each tier: one array that can be bootstrapped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphafix.metrics.accuracy import harmonic_means, members_of, tier_shares
from alphafix.metrics.alike import Alike
from alphafix.metrics.predictions import Predictions
from alphafix.values.arrays import BoolArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

TIER_ROWS = ("few", "medium", "many", "base", "overall")
"""The tiers of every table; "base" is medium and many, the classes AlphaNet never changes."""


def tier_name(tier: str) -> str:
    """What a tier is called where a person reads, to whom "base" is the model as it was."""
    return "other" if tier == "base" else tier


MEASURES = ("top1", "top5", "macro", "macro_f1", "ece")
"""What is measured in each tier, all in percent (see `TierFigures`)."""

SUMMARIES = ("worst_class", "harmonic_mean")
"""What is measured once: lowest class accuracy, and harmonic mean of the tiers' top-1."""

# Equal-width confidence bins of the calibration error (Guo et al. 2017 use 15).
ECE_BINS = 15


@dataclass(frozen=True)
class Labelled:
    """Which sample belongs to which class and tier; the same for all classifiers.

    Attributes:
        labels: True classes, int64 of shape N.
        samples: Number of samples of each class, float64 of shape C.
        members: Which class belongs to which of `TIER_ROWS`, bool of shape 5 x C.
        tiers: Tier of each class (0 few, 1 medium, 2 many), int64 of shape C.
    """

    labels: IntArray
    samples: FloatArray64
    members: BoolArray
    tiers: IntArray

    @classmethod
    def of(cls, classes: ClassTable, labels: IntArray) -> Labelled:
        """Take samples of these classes."""
        samples = np.bincount(labels, minlength=len(classes)).astype(np.float64)
        members = members_of(classes, TIER_ROWS)
        return cls(labels, samples, members, classes.tiers.astype(np.int64))

    def by_class(self, values: FloatArray64, index: IntArray) -> FloatArray64:
        """Sums over the samples ``index`` of each class.

        Args:
            values: One value a sample, float64 of shape N.
            index: Which samples, int64.

        Returns:
            float64 of shape C.
        """
        labels, length = self.labels[index], len(self.samples)
        return np.asarray(
            np.bincount(labels, weights=values[index], minlength=length), dtype=np.float64
        )


class TierFigures:
    """The figures of one classifier on any resampling of the samples.

    Measures: **top1**, **top5** and **grouped** (prediction in the group of the true class,
    AlphaNet Figure 6) are shares of samples (micro averages); **macro** is the mean over
    classes of top-1 accuracy; **macro_f1** the mean over classes of F1, where false alarms
    from all tiers count; **ece** the expected calibration error of the softmax confidence
    (Guo et al. 2017). Classes without samples take part in no mean.

    Args:
        labelled: Labels and tiers.
        predictions: What the classifier says, N samples.
        groups: Which predicted class is in the group of which true one, to measure **grouped**
            too.
    """

    def __init__(
        self, labelled: Labelled, predictions: Predictions, groups: Alike | None = None
    ) -> None:
        self.labelled = labelled
        self.predicted = predictions.predicted
        self.correct = (predictions.predicted == labelled.labels).astype(np.float64)
        self.hits = [self.correct, predictions.top5.astype(np.float64)]
        if groups is not None:
            self.hits.append(groups.holds(labelled.labels, self.predicted).astype(np.float64))
        bins = np.minimum((predictions.confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
        self.bins = labelled.tiers[labelled.labels] * ECE_BINS + bins
        self.overconfidence = predictions.confidence.astype(np.float64) - self.correct

    def class_correct(self, index: IntArray) -> FloatArray64:
        """Correct samples of each class among the samples ``index``, shape C."""
        return self.labelled.by_class(self.correct, index)

    def table(self, index: IntArray) -> FloatArray64:
        """Figures in percent on the samples ``index`` (stratified: class sizes unchanged).

        Returns:
            float64 of shape M x 5: `MEASURES` (and "grouped") by `TIER_ROWS`; NaN where a
            tier has no samples.
        """
        samples, members = self.labelled.samples, self.labelled.members
        present = (samples > 0).astype(np.float64)
        hits = np.stack([self.labelled.by_class(hit, index) for hit in self.hits])
        accuracy = hits[0] / np.maximum(samples, 1)
        predicted = np.bincount(self.predicted[index], minlength=len(present))
        f1 = 2 * hits[0] / np.maximum(samples + predicted, 1)
        shares = tier_shares(hits, samples, members)
        means = tier_shares(np.stack([accuracy, f1]) * present, present, members)
        table: FloatArray64 = 100 * np.stack([*shares[:2], *means, self._ece(index), *shares[2:]])
        return table

    def summaries(self, index: IntArray, table: FloatArray64) -> FloatArray64:
        """`SUMMARIES` in percent, from the samples ``index`` and their `table`."""
        samples = self.labelled.samples
        accuracy = self.class_correct(index)[samples > 0] / samples[samples > 0]
        return np.array([100 * accuracy.min(), *harmonic_means(table[0, :3, None])])

    def _ece(self, index: IntArray) -> FloatArray64:
        gaps = np.bincount(
            self.bins[index], weights=self.overconfidence[index], minlength=3 * ECE_BINS
        ).reshape(3, ECE_BINS)
        merged = np.stack([*gaps, gaps[1] + gaps[2], gaps.sum(axis=0)])
        with np.errstate(invalid="ignore"):
            result: FloatArray64 = np.abs(merged).sum(axis=1) / (
                self.labelled.members @ self.labelled.samples
            )
        return result
