"""AlphaNet for scikit-learn: a meta-estimator that corrects the rare classes of a linear one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from alphafix.alphanet.given import Given
from alphafix.api.functions import find_neighbors
from alphafix.api.inputs import options_for_values
from alphafix.api.keywords import TrainKeywords
from alphafix.checkpoints.sklearn_models import head_of, with_correction
from alphafix.commands.neighbors.options import Metric
from alphafix.commands.train.options import TrainOptions
from alphafix.commands.train.work import settings_of
from alphafix.errors import InputError, counted
from alphafix.features.features import Features
from alphafix.rivals import LINEAR_METHODS
from alphafix.rivals.correct import correct
from alphafix.shown import in_list
from alphafix.values.arrays import Array, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction

Method = TypeVar("Method", bound=Callable[..., Any])


def _if_base_has(name: str) -> Callable[[Method], Method]:
    """Give the classifier a method only where its linear classifier has it."""

    def check(self: AlphaNetClassifier) -> bool:
        getattr(self.estimator_ if hasattr(self, "estimator_") else self._base(), name)
        return True

    return cast("Callable[[Method], Method]", available_if(check))


class AlphaNetClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """A linear classifier whose rows of rare classes are corrected by AlphaNet.

    ``fit`` fits the linear classifier, counts the samples of each class, finds the frequent
    classes nearest to each rare one, and adds to each rare class's row a learned combination
    of its neighbours' rows. All other rows stay as they were fitted. What rare classes gain
    is paid for by the others: compare both, for example with `alphafix.evaluate`.

    Where nothing can be corrected (two classes, which share one row in scikit-learn; no rare
    class; or not more frequent classes than ``n_neighbors``), a warning says so and the
    classifier is the linear one. So it is where no correction beats the linear classifier on the
    samples that it is chosen on: with ``holdout`` on those held out, by the mean accuracy of the
    few-, medium- and many-split classes, or of the rare ones within ``max_overall_drop``; without,
    in accuracy on the training samples as AlphaNet draws them (each rare one, and ``rho`` times as
    many frequent ones, classes alike).

    ``X`` must be dense: reduce sparse text features first, for example by `TruncatedSVD` in a
    `Pipeline`.

    Args:
        estimator: A linear classifier with ``coef_`` and ``intercept_`` and one row a class,
            such as `LogisticRegression` (the default), `LinearSVC`, `SGDClassifier`,
            `RidgeClassifier` or `LinearDiscriminantAnalysis`. A `FrozenEstimator` is
            corrected as it was fitted.
        method: "alphanet"; with ``holdout`` another linear method such as "lda" or "few-bias" (see
            `alphafix.rivals.LINEAR_METHODS`), or "auto", the best of all within the limit (2 points
            overall, where ``max_overall_drop`` does not say). Parameters of AlphaNet's training
            mean nothing to the others.
        few_below: Classes with fewer training samples are rare ("few-split").
        many_above: Classes with more are "many-split"; only for tables.
        n_neighbors: K, the frequent classes whose rows correct a rare one.
        metric: Distance of class means: "euclidean", "cosine", or "random" as a control.
        rho: Frequent samples for each rare one in an epoch; small values favour rare classes.
            Several values need ``holdout``.
        n_trials: Trainings, whose corrected rows are averaged.
        max_epochs: Epochs of each.
        holdout: Share of each class's samples that neither the linear classifier nor AlphaNet
            is fitted on, and on which the epoch (and rho) is chosen. By default none: all
            samples are used, and the last epoch.
        max_overall_drop: With ``holdout``: percentage points of overall accuracy that may be lost
            on fresh samples, within which rare classes gain the most.
        confidence: Probability with which ``max_overall_drop`` holds on fresh samples, as many
            as are held out; at 0.5 it holds on those held out, no more.
        device: Where to train: "auto", "cpu", "cuda" or "mps".
        random_state: Seed of the trials, of ``holdout``, and of the linear classifier where that
            has none of its own.

    Attributes:
        estimator_: The corrected linear classifier; it works without alphafix.
        base_estimator_: The same before the correction.
        classes_: The C classes.
        few_classes_: The rare ones of them.
        corrected_: Whether any row is corrected.
        n_corrected_: Number of corrected rows.
        correction_: The `alphafix.Correction`, or None.
        class_table_: The `alphafix.ClassTable`, for `alphafix.evaluate`.
        n_features_in_: Number of features.
        feature_names_in_: Their names, if ``X`` had any.
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        method: str = "alphanet",
        few_below: int = 20,
        many_above: int = 100,
        n_neighbors: int = 5,
        metric: Metric = "euclidean",
        rho: float | Sequence[float] = 0.5,
        n_trials: int = 10,
        max_epochs: int = 25,
        holdout: float | None = None,
        max_overall_drop: float | None = None,
        confidence: float = 0.95,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.few_below = few_below
        self.many_above = many_above
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.rho = rho
        self.n_trials = n_trials
        self.max_epochs = max_epochs
        self.holdout = holdout
        self.max_overall_drop = max_overall_drop
        self.confidence = confidence
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> AlphaNetClassifier:
        """Fit the linear classifier and correct its rare rows.

        Args:
            X: N x D features, dense.
            y: N class labels.

        Raises:
            ValueError: If X or y is not what scikit-learn's classifiers take.
            InputError: If a parameter is out of range, or the estimator is not linear.
        """
        checked, labels = validate_data(self, X, y)
        check_classification_targets(labels)
        options = self._options()
        kept, held = self._split(labels, options)
        base = self._fitted_base(checked[kept], labels[kept], options.seed)
        self.base_estimator_, self.classes_ = base, np.asarray(base.classes_)
        self.class_table_ = self._class_table(labels)
        self.few_classes_ = self.classes_[self.class_table_.few]
        self.correction_ = None
        why_not = self._why_not()
        if why_not is None:
            data = Features.of(checked, self._ids(labels), num_classes=len(self.classes_))
            found = self._correct(data, kept, held, options)
            why_not = found.kept_because
            self.correction_ = None if found.is_base else found
        if why_not is not None:
            warnings.warn(f"nothing is corrected: {why_not}", UserWarning, stacklevel=2)
        self.corrected_ = self.correction_ is not None
        self.n_corrected_ = 0 if self.correction_ is None else len(self.correction_.classes)
        self.estimator_ = base
        if self.correction_ is not None:
            self.estimator_ = with_correction(base, self.correction_)
        return self

    @_if_base_has("decision_function")
    def decision_function(self, X: Any) -> Array:
        """Scores of the corrected classifier, N x C (N for two classes)."""
        return self._ask("decision_function", X)

    def predict(self, X: Any) -> Array:
        """The class of each sample, of shape N."""
        return self._ask("predict", X)

    @_if_base_has("predict_proba")
    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the corrected classifier, N x C."""
        return self._ask("predict_proba", X)

    @_if_base_has("predict_log_proba")
    def predict_log_proba(self, X: Any) -> Array:
        """Their logarithms, N x C."""
        return self._ask("predict_log_proba", X)

    def _ask(self, method: str, X: Any) -> Array:
        check_is_fitted(self)
        checked = validate_data(self, X, reset=False)
        # A frozen classifier may know names of columns, and warns if they are missing.
        given = X if hasattr(self.estimator_, "feature_names_in_") else checked
        return cast("Array", getattr(self.estimator_, method)(given))

    def _base(self) -> Any:
        """The linear classifier to fit (unfitted)."""
        return LogisticRegression() if self.estimator is None else self.estimator

    def _fitted_base(self, X: Array, y: Array, seed: int) -> Any:
        base = self._base()
        if isinstance(base, FrozenEstimator):
            check_is_fitted(base.estimator)
            return base.estimator
        mine = clone(base)
        # One that has no seed of its own would be another one at each fit.
        params = mine.get_params()
        unseeded = [name for name in params if name.split("__")[-1] == "random_state"]
        mine.set_params(**{name: seed for name in unseeded if params[name] is None})
        return mine.fit(X, y)

    def _options(self) -> TrainOptions:
        """Options of the training, checked before anything is fitted."""
        known = ("alphanet", "auto", *LINEAR_METHODS)
        if self.method not in known:
            raise InputError(f"there is no method {self.method}", expected=", ".join(known))
        if self.method != "alphanet" and self.holdout is None:
            raise InputError(
                f"method={self.method!r} chooses its settings on samples held out",
                got="holdout=None",
                expected="a share such as holdout=0.2",
                todo="give holdout, or use method='alphanet'",
            )
        seed = check_random_state(self.random_state).randint(2**31 - 1 - self.n_trials)
        keywords: TrainKeywords = {
            "rho": self.rho,
            "seeds": self.n_trials,
            "seed": int(seed),
            "epochs": self.max_epochs,
            "first_epoch": min(5, self.max_epochs),
            "holdout": self.holdout,
            "device": cast("Any", self.device),
        }
        if self.max_overall_drop is not None:
            keywords |= {
                "select": "constrained",
                "max_overall_drop": self.max_overall_drop,
                "confidence": self.confidence,
            }
        elif self.holdout is not None:
            keywords |= {"select": "balanced"}
        options = options_for_values(TrainOptions, keywords)
        if self.holdout is None and (len(options.rho) > 1 or options.select == "constrained"):
            raise InputError(
                "choosing among several rho, or within a limit, needs samples held out",
                got="holdout=None",
                expected="a share such as holdout=0.2",
                todo="give holdout, or choose rho with GridSearchCV",
            )
        return options

    def _split(self, labels: Array, options: TrainOptions) -> tuple[IntArray, IntArray | None]:
        """Samples to fit on, and samples to choose on."""
        if options.holdout is None:
            return np.arange(len(labels)), None
        from alphafix.alphanet.sources import hold_out

        _, ids = np.unique(labels, return_inverse=True)
        store = Features.of(np.zeros((len(labels), 1)), ids)
        kept, held = hold_out(store, options.holdout, seed=options.seed)
        return kept.index, held.index

    def _class_table(self, labels: Array) -> ClassTable:
        if getattr(self.base_estimator_, "coef_", None) is None:
            head_of(self.base_estimator_)  # says what is wrong
        return ClassTable.of(
            self._ids(labels),
            [str(name) for name in self.classes_],
            few_below=self.few_below,
            many_above=self.many_above,
        )

    def _ids(self, labels: Array) -> IntArray:
        """Positions of the labels in ``classes_``."""
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise InputError(
                "the frozen estimator does not know all classes",
                got=", ".join(in_list(str(name)) for name in unknown[:5]),
                expected=f"classes among the {len(self.classes_)} that it was fitted with",
            )
        order = np.argsort(self.classes_)
        ids: IntArray = order[np.searchsorted(self.classes_, labels, sorter=order)]
        return ids

    def _why_not(self) -> str | None:
        """Why nothing can be corrected, or None."""
        table = self.class_table_
        if len(table) <= 2:
            return f"{counted(len(table), 'class')}, and in scikit-learn two classes share one row"
        head_of(self.base_estimator_)
        if len(table.few) == 0:
            return f"every class has at least {self.few_below} samples (few_below)"
        if len(table.base) <= self.n_neighbors:
            return (
                f"{counted(len(table.base), 'class has', 'classes have')} at least "
                f"{self.few_below} samples (few_below), not more than n_neighbors = "
                f"{self.n_neighbors}"
            )
        table.require_correctable()
        return None

    def _correct(
        self, data: Features, kept: IntArray, held: IntArray | None, options: TrainOptions
    ) -> Correction:
        """Fit the method; the base model where no correction is as good as it has to be."""
        features, table = _part(data, kept), self.class_table_
        head = head_of(self.base_estimator_)
        neighbors = find_neighbors(
            features, head, table, k=self.n_neighbors, metric=self.metric, seed=options.seed
        )
        val = None if held is None else _part(data, held)
        # The samples are held out already, before the linear classifier was fitted.
        settings = replace(settings_of(options), holdout=None, check_training=True)
        return correct(self.method, Given(features, val, head, table, neighbors), settings)


def _part(store: Features, index: IntArray) -> Features:
    """Some samples of a store, in memory."""
    return Features.of(store.gather(index), store.labels[index], num_classes=store.num_classes)
