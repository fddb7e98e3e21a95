"""The shapes of the library's arrays as types, which all tests check.

The package knows nothing of it: `watch` is called before it is imported, and wraps each function
of `SHAPES` as its module is loaded. So the calls in a test process, from wherever, are checked by
jaxtyping and beartype: in each test every function with arguments of every look, the first `ENOUGH`
times. Names of sizes hold within one call; what stands in braces is said of its arguments.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Union

import jaxtyping
import numpy as np
from beartype import beartype
from torch import Tensor
from torch.compiler import is_compiling


def _kind(name: str, array: type) -> Callable[[str], Any]:
    return lambda sizes: getattr(jaxtyping, name)[array, sizes]


# Tensors: of any precision, because models run in less too.
floats, longs = _kind("Float", Tensor), _kind("Int64", Tensor)
bools, tensors = _kind("Bool", Tensor), _kind("Shaped", Tensor)
# Arrays.
float32, float64 = _kind("Float32", np.ndarray), _kind("Float64", np.ndarray)
int64, boolean = _kind("Int64", np.ndarray), _kind("Bool", np.ndarray)
numbers = _kind("Num", np.ndarray)


def maybe(hint: Any) -> Any:
    """That, or None."""
    return Union[hint, None]  # noqa: UP007 (jaxtyping's types know no |)


def several(hint: Any) -> Any:
    """A tuple of any number of it."""
    return tuple.__class_getitem__((hint, ...))


def these(*hints: Any) -> Any:
    """A tuple of just these."""
    return tuple.__class_getitem__(hints)


def named(hint: Any) -> Any:
    """Some of it by name."""
    return dict.__class_getitem__((str, hint))


Shapes = Mapping[str, Mapping[str, Any]]

_VALUES = {
    "weights": floats("T width I"),
    "offsets": floats("T width"),
    "out": floats("T width F"),
}
_GRADIENT = {"slopes": floats("T width F"), "out": floats("T width I")}
_SCORES = {
    "alphas": floats("T K F"),
    "biases": floats("T F"),
    "return": floats("T n F"),
}
_PULLS = {"slopes": floats("T n F"), "return": floats("T K F")}

_MEMORY = {"positions": longs("T K F"), "rows": floats("T n U")}

_ALPHANET: dict[str, Shapes] = {
    "combine": {
        "Combination.__init__": {
            "neighbors": int64("F K"),
            "alphas": float32("F K"),
            "biases": float32("F"),
        },
        "Combination.rows": {
            "weight": float32("C D"),
            "few": int64("F"),
            "return": float32("F D"),
        },
        "Judge.__init__": {"drawn": maybe(int64("n"))},
    },
    "correction": {
        **{f"{name}.scores": _SCORES for name in ("Correction", "LookedUp", "Multiplied")},
        **{f"{name}.pulls": _PULLS for name in ("Correction", "LookedUp", "Multiplied")},
        **{f"{name}.__init__": _MEMORY for name in ("LookedUp", "Multiplied")},
        "correction_of": _MEMORY,
    },
    "inputs": {
        **{f"{name}Inputs.values": _VALUES for name in ("", "Own", "Common", "Distinct")},
        **{f"{name}Inputs.gradient": _GRADIENT for name in ("", "Own", "Common", "Distinct")},
        "OwnInputs.__init__": {"rows": floats("T F I")},
        "CommonInputs.__init__": {"rows": floats("F I"), "turned": floats("P _ F")},
        "CommonInputs.of": {"rows": floats("F I")},
        "DistinctInputs.__init__": {
            "rows": floats("K U D"),
            "turned": floats("P _ U"),
            "sums": floats("F S"),
            "turned_sums": floats("P U F"),
        },
        "DistinctInputs.of": {"weight": floats("C D"), "ids": longs("F K")},
        "inputs_of": {"ids": longs("_ F K")},
    },
    "measure": {
        "contest": {"neighbors": int64("F K"), "alphas": float32("F K"), "biases": float32("F")},
        "trial_predictions": {"return": int64("{len(trials)} {len(store)}")},
    },
    "pool": {
        "discriminant_rows": {"return": float32("{len(classes.few)} {head.width}")},
        "with_own": {"neighbors": int64("F K"), "return": int64("F _")},
    },
    "neighbors": {
        "nearest_neighbours": {"means": float64("{len(classes)} D")},
        "nearest_rows": {"among": int64("_"), "of": int64("F"), "return": int64("F {k}")},
        "random_neighbours": {"return": int64("{len(classes.few)} {k}")},
    },
    "network": {
        "Networks.__init__": {
            "weights": several(floats("T _ _")),
            "offsets": several(floats("T _")),
            "biases": floats("T F"),
        },
        "initial_networks": {"biases": floats("... F")},
        "Passes.forward": {"return": floats("T K F")},
        "Passes.backward": {"pulls": floats("T K F")},
    },
    "padding": {
        "padded_classes": {"array": tensors("*T F n"), "return": tensors("*T _ n")},
    },
    "objective": {
        "Aims.__init__": {
            "column": longs("*n 1"),
            "total": floats("*n 1"),
            "beyond": floats("*n 1"),
            "share": floats("*n 1"),
        },
        "Aims.of": {"index": longs("*n"), "share": floats("*n")},
        "Aims.losses": {"logs": floats("*n 1"), "return": floats("*n 1")},
        "Slopes.__init__": {"like": floats("T n F")},
        "Slopes.of": {
            "few": floats("T n F"),
            "logs": floats("T n 1"),
            "return": floats("T n F"),
        },
        "corrected_few": {
            "positions": longs("F K"),
            "alphas": floats("F K"),
            "biases": floats("F"),
        },
        "best_few": {"positions": longs("F K"), "alphas": floats("F K"), "biases": floats("F")},
        "correct_predictions": {
            "positions": longs("F K"),
            "alphas": floats("F K"),
            "biases": floats("F"),
            "return": bools("{len(scores)}"),
        },
    },
    "sampling": {
        "Pool.__init__": {
            "few": int64("f"),
            "base": int64("b"),
            "starts": int64("B"),
            "sizes": int64("B"),
        },
        "Pool.of": {"labels": int64("N")},
        "draw_epochs": {"return": int64("{epochs} _")},
    },
    "products": {
        "sum_over_classes": {
            "left": floats("*T m F"),
            "right": floats("*T F n"),
            "out": floats("*T m n"),
        },
    },
    "scores": {
        "ScoreLayout.__init__": {"few": int64("F"), "base": int64("B"), "columns": int64("U")},
        "ScoreLayout.of": {"few": int64("F"), "neighbors": int64("...")},
        "ScoreLayout.positions": {"classes": int64("*S"), "return": int64("*S")},
        "Columns.__init__": {
            "table": maybe(floats("_ _")),
            "features": maybe(floats("n D")),
            "weight": floats("U D"),
        },
        "Columns.of_samples": {
            "index": longs("*S"),
            "return": floats("*S {len(self.weight)}"),
        },
        "Columns.by_class": {"return": floats("{len(self.weight)} _")},
        "Scores.__init__": {
            "labels": longs("n"),
            "few_label": longs("n"),
            "own": floats("n"),
            "base_lse": floats("n"),
            "base_max": floats("n"),
            "base_argmax": longs("n"),
        },
        "table_of": {"return": floats("...")},
        "reduce_scores": {"own": maybe(float32("F {head.width}"))},
    },
    "task": {
        "SweepTask.__init__": {"own": maybe(float32("F {head.width}"))},
        "SweepTask.pool_weight": {"return": float32("_ {self.head.width}")},
    },
    "sources": {
        "Source.__init__": {"index": int64("n")},
        "Source.labels": {"return": int64("{len(self.index)}")},
        "seen": {"return": int64("n")},
        "renumbered": {"index": int64("n")},
    },
    "specs": {
        "neighbors_of": {
            "means": float64("{len(classes)} D"),
            "return": int64("{len(classes.few)} {spec.k}"),
        },
        "make_trial": {"neighbors": int64("F pool")},
    },
    "batch": {
        "Entering.__init__": {"positions": longs("_ F K")},
        "Entering.positions_of": {"return": longs("F K")},
    },
    "trial": {
        "Trial.__init__": {"neighbors": int64("F pool"), "samples": int64("E n")},
        "Epoch.__init__": {
            "alphas": floats("F *K"),
            "biases": floats("F"),
            "correct": maybe(bools("n")),
        },
        # Before training there are no alphas, and the biases stand in their place.
        "TrainedTrial.__init__": {
            "alphas": floats("F *K"),
            "biases": floats("F"),
            "correct": maybe(bools("n")),
        },
        "SweepData.__init__": {
            "weight": floats("C D"),
            "biases": floats("F"),
            "few": longs("F"),
            "positions": longs("C"),
        },
    },
}

_OF_CLASSES = {"return": float64("{len(self.samples)}")}

_METRICS: dict[str, Shapes] = {
    "accuracy": {
        "members_of": {"return": boolean("{len(names)} {len(classes)}")},
        "tier_shares": {
            "right": float64("... C"),
            "samples": numbers("C"),
            "members": boolean("R C"),
            "return": float64("... R"),
        },
        "accuracy_of_counts": {
            "right": numbers("{len(classes)}"),
            "samples": int64("{len(classes)}"),
        },
        "class_mean_accuracy": {"correct": boolean("N"), "labels": int64("N")},
        "tier_accuracy": {"correct": boolean("N"), "labels": int64("N")},
        "harmonic_means": {"tiers": float64("3 n"), "return": float64("n")},
    },
    "alike": {
        "Alike.of_pairs": {"true": int64("N"), "predicted": int64("N")},
        "Alike.among": {"predicted": int64("N")},
        "Alike.holds": {"true": int64("N"), "predicted": int64("N"), "return": boolean("N")},
    },
    "bootstrap": {
        "stratified_draws": {"labels": int64("N")},
        "bootstrap": {"labels": int64("N"), "return": float64("{resampling.draws} S")},
        "interval": {
            "values": float64("draws *S"),
            "return": these(float64("*S"), float64("*S")),
        },
    },
    "circles": {
        "circles_of": {"predicted": int64("C"), "classes": int64("*")},
        "own_wins": {
            "places": int64("C"),
            "classes": int64("*"),
            "return": these(int64("C"), int64("C")),
        },
        "log_chance": {"wins": int64("C"), "samples": int64("C")},
    },
    "doubts": {
        "Hits.__init__": {"right": int64("C"), "samples": int64("C")},
        "mixed_up": {"return": int64("C")},
    },
    "estimates": {"paired_estimates": {"point": float64("2 S"), "values": float64("draws 2 S")}},
    "evaluation": {
        "ClassResults.__init__": {
            "samples": int64("C"),
            "base": int64("C"),
            "corrected": int64("C"),
            "low": float64("C"),
            "high": float64("C"),
        },
        "ClassResults.base_accuracy": _OF_CLASSES,
        "ClassResults.corrected_accuracy": _OF_CLASSES,
        "ClassResults.change": _OF_CLASSES,
    },
    "figures": {
        "Labelled.__init__": {
            "labels": int64("N"),
            "samples": float64("C"),
            "members": boolean("5 C"),
            "tiers": int64("C"),
        },
        "Labelled.of": {"labels": int64("N")},
        "Labelled.by_class": {
            "values": float64("{len(self.labels)}"),
            "index": int64("n"),
            "return": float64("{len(self.samples)}"),
        },
        "TierFigures.class_correct": {"index": int64("n"), "return": float64("C")},
        "TierFigures.table": {"index": int64("n"), "return": float64("M 5")},
        "TierFigures.summaries": {
            "index": int64("n"),
            "table": float64("M 5"),
            "return": float64("2"),
        },
    },
    "limits": {
        "Flips.__init__": {
            "gained": float64("*groups M"),
            "lost": float64("*groups M"),
            "sizes": float64("*groups"),
        },
        "Flips.few_gain": {"return": float64("{self.gained.shape[1]}")},
        "Samples.__init__": {"labels": int64("n"), "base_right": boolean("n")},
        "Samples.flips": {"offsets": float64("M")},
        "Samples.slack": {
            "fresh": maybe(float64("G")),
            "return": float64("{flips.gained.shape[1]}"),
        },
        "Samples.exceeds": {"return": boolean("{flips.gained.shape[1]}")},
        "drop_of": {"return": float64("{flips.gained.shape[1]}")},
        "worth_of": {"gain": float64("M"), "slack": float64("M")},
        "choices": {"owner": int64("M"), "gain": float64("M"), "slack": float64("M")},
    },
    "many": {
        "accuracies": {"labels": int64("N"), "correct": boolean("N M"), "return": float64("M 4")},
        "bootstrap_accuracies": {
            "labels": int64("N"),
            "correct": boolean("N M"),
            "return": float64("{resampling.draws} M 4"),
        },
    },
    "mcnemar": {"mcnemar": {"before": boolean("N"), "after": boolean("N")}},
    "paired": {"differences": {"first": boolean("N"), "second": boolean("N"), "few": boolean("N")}},
    "predictions": {
        "Predictions.__init__": {
            "predicted": int64("N"),
            "top5": boolean("N"),
            "confidence": float32("N"),
        },
        "Predictions.only": {"samples": boolean("{len(self.predicted)}")},
        "BeforeAfter.__init__": {"labels": int64("N")},
        "BeforeAfter.only": {"samples": boolean("{len(self.labels)}")},
        "read_logits": {
            "logits": float32("n C"),
            "labels": int64("n"),
            "return": these(int64("n"), boolean("n"), float32("n")),
        },
    },
    "selection": {"Rule.goodness_along": {"return": float64("n")}},
    "trade_off": {
        "Contest.__init__": {
            "gap": float32("n"),
            "few_right": boolean("n"),
            "base_right": boolean("n"),
            "labels": int64("n"),
        },
        "Contest.of": {"logits": float32("n C"), "labels": int64("n"), "few": int64("F")},
        "Contest.correct": {"return": boolean("{len(self.labels)}")},
        "Path.offsets": {"return": float64("P")},
    },
    "margins": {
        "Margins.__init__": {"gap": float32("n"), "few": int64("n"), "other": int64("n")},
        "Margins.of": {"logits": float32("n C"), "few": int64("F")},
        "Margins.predicted": {"return": int64("{len(self.gap)}")},
        "margins": {"few": int64("F")},
    },
    "verdict": {"CommonDraws.__init__": {"labels": int64("N"), "correct": boolean("N M")}},
}

_GATHER = {"index": int64("n"), "return": float32("n {self.width}")}
_MEANS = {"return": float64("{self.num_classes} {self.width}")}
_ROWS = {"features": numbers("n D"), "labels": int64("n")}

_FEATURES: dict[str, Shapes] = {
    "features": {
        "Features.gather": _GATHER,
        "Features.selected": {"index": int64("n")},
        "Features.class_means": _MEANS,
        "Features.class_counts": {"return": int64("{self.num_classes}")},
        "Features.within_class": {"classes": int64("B")},
        "Features.array": {"return": float32("{len(self)} {self.width}")},
        "FeatureArrays.__init__": {"features": float32("N D"), "labels": int64("N")},
        "FeatureArrays.read": {"features": float32("N D"), "labels": int64("N")},
        "FeatureArrays.gather": _GATHER,
        "FeatureArrays.class_means": _MEANS,
    },
    "shards": {"check_rows": {}, "rounded": {"features": numbers("n D")}, "write_shard": _ROWS},
    "store": {
        "FeatureStore.labels": {"return": int64("{len(self)}")},
        "FeatureStore.gather": _GATHER,
        "FeatureStore.selected": {"index": int64("n")},
        "FeatureStore.class_means": _MEANS,
        "FeatureStore.within_class": {"classes": int64("B")},
        "FeatureStore.class_hits": {},
    },
    "scatter": {
        "WithinClass.__init__": {"covariance": float64("D D")},
        "within_class": {"labels": int64("N"), "means": float64("C D"), "classes": int64("B")},
        "directions": {"centered": float64("C D"), "return": float64("C D")},
    },
    "sums": {
        "ClassSums.add": {"features": numbers("n {self.sums.shape[1]}"), "labels": int64("n")},
        "ClassSums.means": {"return": float64("C D")},
        "class_means": {
            "sums": float64("C D"),
            "counts": int64("C"),
            "return": float64("C D"),
        },
    },
    "writer": {"FeatureWriter.add": {}},
}

_IMAGES = {"images": floats("B channels H W")}
_DIRECT = {"direct": floats("B D")}

_OLTR: dict[str, Shapes] = {
    "attention": {
        "SelfAttention.forward": {"positions": floats("B P C"), "return": floats("B P C")},
        "ModulatedAttention.forward": {
            "features": floats("B C h w"),
            "return": floats("B C h w"),
        },
    },
    "backbones": {"Backbone.forward": {**_IMAGES, "return": floats("B {self.channels} h w")}},
    "export": {
        "ExportedModel.__init__": {"weight": floats("C D"), "bias": maybe(floats("C"))},
        "ExportedModel.features": {**_IMAGES, "return": floats("B {self.head.in_features}")},
        "ExportedModel.forward": {**_IMAGES, "return": floats("B {self.head.out_features}")},
    },
    "heads": {
        "Head.forward": _DIRECT,
        "LinearHead.forward": _DIRECT,
        "CosineClassifier.folded": {"return": floats("C D")},
        "CosineClassifier.forward": {
            "features": floats("B D"),
            "return": floats("B {len(self.weight)}"),
        },
        "OLTRHead.forward": _DIRECT,
        # These two check shapes by themselves, because they are given what was in files.
        "OLTRHead.initialise": {},
        "OLTRHead.start_centroids": {},
        "squash": {"embeddings": floats("B D"), "return": floats("B D")},
        # The sizes of logits are D where the classifier was taken out (`without_classifier`).
        "Output.__init__": {
            "logits": floats("B _"),
            "direct": floats("B D"),
            "features": floats("B D"),
            "meta": maybe(floats("B D")),
            "memory": maybe(floats("B _")),
            "expert_logits": maybe(floats("E B _")),
            "experts": maybe(tensors("B")),
        },
    },
    "memory": {
        "nearest_distance": {
            "features": floats("B D"),
            "centroids": floats("C D"),
            "return": floats("B"),
        },
        "reachability": {
            "features": floats("B D"),
            "centroids": floats("C D"),
            "return": floats("B 1"),
        },
        "Memory.forward": {
            "direct": floats("B D"),
            "centroids": floats("C D"),
            "return": these(floats("B D"), maybe(floats("B C"))),
        },
    },
    "network": {
        "Network.forward": {**_IMAGES, "return": floats("B {self.width}")},
        "LongTailModel.forward": _IMAGES,
    },
    "ride": {
        "RideNetwork.forward": {**_IMAGES, "return": floats("B {self.width}")},
        "RideNetwork.expert": {"shared": floats("B c h w"), "return": floats("B D")},
        "RideHead.forward": _DIRECT,
    },
    "routing": {
        "Router.forward": {
            "feature": floats("B D"),
            "logits": floats("B C"),
            "return": floats("B"),
        },
        "RoutedRide.forward": _IMAGES,
        "needed_later": {
            "expert_logits": floats("E B C"),
            "labels": longs("B"),
            "return": floats("{len(expert_logits)-1} B"),
        },
    },
    "spec": {"ModelSpec.__init__": {"counts": int64("C")}},
    "transform": {
        "ImageTransform.normalize": {
            "images": tensors("B channels H W"),
            "return": floats("B channels H W"),
        }
    },
}

ROOMS = {
    "alphafix.alphanet": _ALPHANET,
    "alphafix.metrics": _METRICS,
    "alphafix.features": _FEATURES,
    "alphafix.oltr.models": _OLTR,
}

SHAPES = {f"{room}.{name}": shapes for room, of in ROOMS.items() for name, shapes in of.items()}
"""By module and function: the types of parameters and of the result, where they are arrays.

An entry without any is of a function that checks shapes itself, with an error for the user.
"""


ENOUGH = 20
"""So many calls of a function with arguments that look alike are checked in one test.

A loop's thousands of others would take a third of the time of all tests, and say nothing new.
"""

_checked: Counter[Any] = Counter()


def begin() -> None:
    """Forget what was checked: a test begins."""
    _checked.clear()


def watch() -> None:
    """Check shapes in every module that is imported from now on."""
    assert not any(name.startswith("alphafix") for name in sys.modules), "it is too late"
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the modules of `SHAPES`, and wraps their functions once they are there."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name in SHAPES else None
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def loaded(module: ModuleType) -> None:
            load(module)
            wrap(module, SHAPES[name])

        spec.loader.exec_module = loaded  # type: ignore[method-assign]
        return spec


def wrap(module: ModuleType, shapes: Shapes) -> None:
    """Have functions and methods of a module checked."""
    for place, hints in shapes.items():
        owner: Any = module
        *classes, name = place.split(".")
        for part in classes:
            owner = getattr(owner, part)
        if hints:
            setattr(owner, name, _wrapped(vars(owner)[name], hints))


def _wrapped(found: Any, hints: Mapping[str, Any]) -> Any:
    if isinstance(found, classmethod):
        return classmethod(_wrapped(found.__func__, hints))
    if isinstance(found, property):
        return property(_wrapped(found.fget, hints), doc=found.__doc__)
    if isinstance(found, cached_property):
        found.func = _wrapped(found.func, hints)
        return found
    # What has no entry is not looked at: mypy does.
    found.__annotations__ = dict(hints)
    checked = jaxtyping.jaxtyped(found, typechecker=beartype)

    @wraps(found)
    def function(*args: Any, **kwargs: Any) -> Any:
        if is_compiling():  # a compiler's graph is to hold the function alone
            return found(*args, **kwargs)
        call = (found, *map(_look, args), *kwargs, *map(_look, kwargs.values()))
        _checked[call] += 1
        return (checked if _checked[call] <= ENOUGH else found)(*args, **kwargs)

    return function


def _look(value: Any) -> Any:
    """What tells an argument from others that the sizes of a result may depend on."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.shape, value.dtype
    if isinstance(value, tuple):
        return tuple(map(_look, value))
    return value if isinstance(value, int) else type(value)
