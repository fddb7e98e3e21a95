"""From what a user gives to the values that the stages and libraries take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy.typing as npt
from pydantic import ValidationError

from alphafix.commands.options import FeatureStageOptions, StageOptions
from alphafix.errors import InputError
from alphafix.features.features import Features as FeatureValues

Options = TypeVar("Options", bound=StageOptions)

Features = FeatureValues | tuple[npt.ArrayLike, npt.ArrayLike]
"""Features in memory or on disk, or N x D features and N class ids as arrays or torch tensors."""

# Keywords that say where results are read or written.
_ABOUT_FILES = (*FeatureStageOptions.model_fields, "csv", "logger", "tensorboard")


def options_of(model: type[Options], keywords: Mapping[str, Any], **fixed: Any) -> Options:
    """The options of a stage that reads and writes a run directory.

    Raises:
        InputError: If a keyword is unknown or its value is not allowed.
    """
    run = os.environ.get("ALPHAFIX_RUN")
    given = {"run": run} if run else {}
    values = {**given, **keywords, **fixed}
    plain: dict[str, Any] = {
        name: _plain(value) for name, value in values.items() if value is not None
    }
    try:
        return model(**plain)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # a rule about several keywords, which names them itself
            raise InputError(str(first["ctx"]["error"])) from error
        name = str(first["loc"][0])
        raise InputError(
            f"{name}: {first['msg']}",
            got=repr(first["input"]),
            expected=f"what {model.__module__}.{model.__name__} says",
        ) from error


def _plain(value: object) -> object:
    """Any sequence of numbers or names as a list."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def options_for_values(model: type[Options], keywords: Mapping[str, Any], **fixed: Any) -> Options:
    """The options of a function that is given values, so that nothing is read or written.

    Raises:
        InputError: If a keyword is unknown, not allowed, or about a run directory.
    """
    about_files = [name for name in _ABOUT_FILES if name in keywords]
    if about_files:
        raise InputError(
            f"{about_files[0]} does not go together with features",
            got="values and a run directory",
            expected="one of the two",
            todo="give values to compute with values (and save the result with its save "
            "method), or none to work in a run directory",
        )
    return options_of(model, keywords, **fixed)


def required(name: str, value: Any) -> Any:
    """A value without which the others are of no use.

    Raises:
        InputError: If it is missing.
    """
    if value is None:
        raise InputError(
            f"with features, {name} is needed too", got="none", expected=f"a value for {name}"
        )
    return value


def store_of(features: Features, *, num_classes: int | None = None) -> FeatureValues:
    """The features as a value, with labels that are all known.

    Raises:
        InputError: If they are neither features nor two arrays that fit together.
    """
    if isinstance(features, FeatureValues):
        store: FeatureValues = features
    elif isinstance(features, tuple) and len(features) == 2:
        store = FeatureValues.of(features[0], features[1], num_classes=num_classes)
    else:
        raise InputError(
            "these are no features",
            got=type(features).__name__,
            expected="Features, or a tuple of N x D features and N class ids",
        )
    store.require_labels()
    return store
