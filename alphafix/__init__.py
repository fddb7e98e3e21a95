"""alphafix: post-hoc correction of the rare classes of a trained classifier.

The values (`ClassTable`, `Features`, `Head`, `Neighbours`, `Correction`, `Evaluation`), the
stages as functions on them (`extract`, `find_neighbors`, `train`, `patch`, `evaluate`,
`compare`, `inspect`, `figures`), `figure` of a value, and `AlphaNetClassifier` for scikit-learn.
Each is loaded when it is used, so that importing alphafix is instant.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from alphafix.values.display import show_by

if TYPE_CHECKING:
    from alphafix.api.functions import (
        compare,
        evaluate,
        extract,
        figures,
        find_neighbors,
        inspect,
        patch,
        train,
    )
    from alphafix.errors import AlphafixError
    from alphafix.estimator import AlphaNetClassifier
    from alphafix.features.features import Features
    from alphafix.features.store import FeatureStore
    from alphafix.metrics.evaluation import Evaluation
    from alphafix.report.drawing import figure
    from alphafix.values.classes import ClassTable
    from alphafix.values.correction import Correction
    from alphafix.values.head import Head
    from alphafix.values.neighbors import Neighbours

__all__ = [
    "AlphaNetClassifier",
    "AlphafixError",
    "ClassTable",
    "Correction",
    "Evaluation",
    "FeatureStore",
    "Features",
    "Head",
    "Neighbours",
    "compare",
    "evaluate",
    "extract",
    "figure",
    "figures",
    "find_neighbors",
    "inspect",
    "patch",
    "train",
]

_MODULES = {
    "AlphaNetClassifier": "alphafix.estimator",
    "AlphafixError": "alphafix.errors",
    "ClassTable": "alphafix.values.classes",
    "Correction": "alphafix.values.correction",
    "Evaluation": "alphafix.metrics.evaluation",
    "FeatureStore": "alphafix.features.store",
    "Features": "alphafix.features.features",
    "Head": "alphafix.values.head",
    "Neighbours": "alphafix.values.neighbors",
    "figure": "alphafix.report.drawing",
}
"""Where each value is defined, and what draws one; the others are of `alphafix.api.functions`."""

# What a library logs is the application's to show: without this, Python prints warnings.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# Values know nothing of the report that shows them in notebooks.
show_by("alphafix.report.html", "html")


if not TYPE_CHECKING:  # a type checker would take any name for right

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(_MODULES.get(name, "alphafix.api.functions"))
        value = getattr(module, name)
        globals()[name] = value  # looked up once
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
