"""The recipe of `alphafix train-oltr` with what the user wants otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.errors import InputError
from alphafix.oltr.presets import Ablations
from alphafix.oltr.recipes import Recipe, read_recipe


def resolve_recipe(options: TrainOltrOptions) -> Recipe:
    """Read the recipe, and let the flags have the last word.

    Raises:
        InputError: If there is no such recipe, or it needs a checkpoint to start from.
    """
    recipe = read_recipe(options.recipe, options.preset)
    recipe = recipe.changed(
        backbone=options.backbone,
        width=options.width,
        channels=options.channels,
        few_below=options.few_below,
        many_above=options.many_above,
    )
    if options.image_size is not None:
        recipe = _resized(recipe, options.image_size)
    if recipe.pretrained and options.pretrained is None and options.first_stage is None:
        recipe = _from_scratch(recipe, options)
    return replace(recipe, stages=(_stage(recipe, options, 0), _stage(recipe, options, 1)))


def ablations_of(options: TrainOltrOptions) -> Ablations:
    """Which parts of OLTR are in."""
    return Ablations(
        memory=options.memory,
        selector=options.selector,
        reachability=options.reachability,
        attention=options.attention,
        attention_map=options.attention_map,
    )


def _resized(recipe: Recipe, size: int) -> Recipe:
    """Another input size, with the same part of the image cut out."""
    resize = size
    if recipe.size is not None and recipe.resize is not None:
        resize = round(recipe.resize * size / recipe.size)
    return replace(recipe, size=size, resize=resize)


def _from_scratch(recipe: Recipe, options: TrainOltrOptions) -> Recipe:
    if options.from_scratch:
        return replace(recipe, pretrained=False)
    raise InputError(
        f"the recipe {recipe.name} starts from a trained backbone",
        got="no --pretrained",
        expected=f"a checkpoint of {recipe.backbone} trained on ImageNet",
        todo="give --pretrained FILE (nothing is downloaded), or --from-scratch",
    )


def _stage(recipe: Recipe, options: TrainOltrOptions, number: int) -> Any:
    stage = recipe.stages[number]
    values: dict[str, Any] = {"batch": options.batch_size}
    for name in ("epochs", "lr", "feature_lr"):
        given = getattr(options, name)
        values[name] = given[min(number, len(given) - 1)] if given else None
    changed = {name: value for name, value in values.items() if value is not None}
    if "epochs" in changed and stage.schedule == "step":
        # The drops stay at the same parts of the whole.
        share = changed["epochs"] / stage.epochs
        changed["drop_every"] = max(1, round(stage.drop_every * share))
        changed["warmup"] = round(stage.warmup * share)
    return replace(stage, **changed)
