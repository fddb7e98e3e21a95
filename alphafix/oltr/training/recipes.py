"""Recipes: how long, how fast and with which images a base model is trained.

The built-in ones hold Table 8 of the OLTR paper and the settings of its code; both differ
(see `built_in`). A file of one's own names the recipe that it starts from and what is
different there. This module loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from alphafix.documents import Node, Place, read_document
from alphafix.errors import InputError, option
from alphafix.values.classes import Thresholds

AugmentationName = Literal["official", "paper", "cifar", "small", "none"]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]

# Recipe files are checked against these dataclasses; a name that is none of them is an error.
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class StageRecipe:
    """One stage of training by SGD.

    Attributes:
        epochs: Passes over as many samples as there are.
        lr: Learning rate of the head at the start.
        feature_lr: Learning rate of everything before the head; None for the same.
        schedule: "step" (times ``drop`` every ``drop_every`` epochs) or "cosine" (to zero, epoch by
            epoch).
        drop_every: Epochs between two drops.
        drops: Epochs after which it drops, in place of ``drop_every``.
        drop: Factor of a drop.
        warmup: Epochs at the start over which the rate rises, epoch by epoch.
        batch: Samples a step, over all processes together.
        momentum: SGD's momentum.
        nesterov: Whether it is Nesterov's.
        decay: Weight decay.
        per_class: Samples of a class in a row, where the sampler is class-aware.
        frozen: Parts of the model (beginnings of parameter names) that stay as they are.
        frozen_norm: Whether the running statistics of their BatchNorm stay, too.
    """

    __pydantic_config__ = _STRICT

    epochs: Count = 30
    lr: Rate = 0.1
    feature_lr: Rate | None = None
    schedule: Literal["step", "cosine"] = "step"
    drop_every: Count = 10
    drops: tuple[Count, ...] = ()
    drop: Rate = 0.1
    warmup: Annotated[int, Field(ge=0)] = 0
    batch: Count = 128
    momentum: Rate = 0.9
    nesterov: bool = False
    decay: Rate = 5e-4
    per_class: Count = 4
    frozen: tuple[str, ...] = ()
    frozen_norm: bool = True

    def factor(self, progress: float) -> float:
        """What learning rates are multiplied with after ``progress`` epochs."""
        if progress < self.warmup:
            return (int(progress) + 1) / self.warmup
        if self.schedule == "step":
            done = sum(progress >= epoch for epoch in self.drops)
            return float(self.drop ** (done if self.drops else int(progress) // self.drop_every))
        from math import cos, pi

        return 0.5 * (1 + cos(pi * int(progress) / self.epochs))


@dataclass(frozen=True)
class TrainingRecipe:
    """How a base model is trained.

    Attributes:
        name: Its name.
        backbone: As `alphafix.oltr.models.backbones.build_backbone` takes it.
        pretrained: Whether the backbone starts from weights that the user has to give.
        width: Feature width D of OLTR's second stage (fc_add), None for the backbone's own.
        channels: 3 (RGB), 1 (grey), or None to see from the images.
        size: Side of the model's input, or None for that of the images (small ones).
        resize: Length of the shorter side before the crop, or None for ``size``.
        augmentation: "official", "paper", "cifar", "small" or "none".
        few_below: Classes with fewer training samples are few-split.
        many_above: Classes with more are many-split.
        diversity: RIDE's factor on the diversity of its experts.
        spread: How far RIDE's temperatures follow the frequency of classes, 0 to 1.
        stages: The first stage and the second one.
    """

    __pydantic_config__ = _STRICT

    name: str = "custom"
    backbone: str = "resnet10"
    pretrained: bool = False
    width: Count | None = None
    channels: Literal[1, 3] | None = None
    size: Count | None = 224
    resize: Count | None = 256
    augmentation: AugmentationName = "official"
    few_below: Count = 20
    many_above: Annotated[int, Field(ge=0)] = 100
    diversity: Rate = 0.2
    spread: Annotated[float, Field(ge=0, lt=1)] = 0.05
    stages: tuple[StageRecipe, StageRecipe] = field(
        default=(StageRecipe(), StageRecipe(lr=0.1, feature_lr=0.01, epochs=60, drop_every=20))
    )

    @property
    def thresholds(self) -> Thresholds:
        """Where few and many end."""
        return Thresholds(few=self.few_below, many=self.many_above)

    def changed(self, **values: Any) -> TrainingRecipe:
        """With other values where they are not None."""
        return replace(self, **{k: v for k, v in values.items() if v is not None})


# OLTR's code counts >= 100 samples as many and <= 20 as few.
_FEW, _MANY = 21, 99

# Nothing but modulated attention, fc_add and the head learns (see `Network`).
_FROZEN = ("network.backbone",)

# The code trains in training mode throughout, so that BatchNorm goes on.
_FIXED: dict[str, Any] = {"frozen": _FROZEN, "frozen_norm": False}


def _table_8(lr: float, **second: Any) -> tuple[StageRecipe, StageRecipe]:
    """Table 8: 30 epochs, a tenth every 10, for both stages; ``second`` of the second one."""
    return StageRecipe(lr=lr), StageRecipe(lr=lr, **second)


_OFFICIAL = {
    "imagenet-lt": TrainingRecipe(
        name="imagenet-lt",
        backbone="resnet10",
        width=512,
        few_below=_FEW,
        many_above=_MANY,
        spread=0.02,
    ),
    "places-lt": TrainingRecipe(
        name="places-lt",
        backbone="timm:resnet152",
        pretrained=True,
        width=512,
        stages=(
            StageRecipe(lr=0.1, feature_lr=1e-3),
            StageRecipe(lr=0.01, feature_lr=1e-4, **_FIXED),
        ),
        few_below=_FEW,
        many_above=_MANY,
    ),
    # The code has no configuration of these two: Table 8 and appendix D.3.
    "ms1m-lt": TrainingRecipe(
        name="ms1m-lt",
        backbone="timm:resnet50",
        pretrained=True,
        width=512,
        stages=_table_8(0.01),
        # Table 4: many-shot from 5 images of a person on, one-shot below 2.
        few_below=2,
        many_above=4,
    ),
    "sun-lt": TrainingRecipe(
        name="sun-lt",
        backbone="timm:resnet152",
        pretrained=True,
        width=512,
        stages=_table_8(0.01, **_FIXED),
        few_below=_FEW,
        many_above=_MANY,
    ),
    # Not in the paper: the usual schedule of CIFAR-100-LT (Cao et al. 2019, cifar_train.py),
    # then OLTR's second stage at its learning rates.
    "cifar100-lt": TrainingRecipe(
        name="cifar100-lt",
        backbone="resnet32",
        channels=3,
        size=32,
        resize=32,
        augmentation="cifar",
        diversity=0.45,
        stages=(
            StageRecipe(epochs=200, lr=0.1, drops=(160, 180), drop=0.01, warmup=5, decay=2e-4),
            StageRecipe(epochs=60, lr=0.1, feature_lr=0.01, drop_every=20, decay=2e-4),
        ),
    ),
}

_PAPER = {
    "imagenet-lt": {"stages": _table_8(0.1)},
    "places-lt": {"stages": _table_8(0.01, frozen=_FROZEN)},
    "sun-lt": {"stages": _table_8(0.01, frozen=_FROZEN)},
}


def _ride(**values: Any) -> tuple[StageRecipe, StageRecipe]:
    """RIDE's two stages: experts, and the router (config_*_ride.json and config_*_ride_ea.json)."""
    return (
        StageRecipe(lr=0.1, nesterov=True, warmup=5, **values),
        # Their balanced batches hold one sample of a class at a time.
        StageRecipe(epochs=5, lr=0.01, schedule="cosine", batch=512, nesterov=True, per_class=1),
    )


# What RIDE's authors train otherwise than those of the recipe.
_RIDE = {
    "cifar100-lt": _ride(epochs=200, drops=(160, 180), drop=0.01),
    "imagenet-lt": _ride(epochs=100, drops=(60, 80), batch=256, decay=2e-4),
}

BUILT_IN = tuple(_OFFICIAL)
"""Names of the built-in recipes."""


def built_in(name: str, preset: str = "official") -> TrainingRecipe:
    """A built-in recipe as the paper or its code has it.

    The paper scales images to 256 x 256 and cuts out 224 x 224; its code cuts out parts of
    random size. The paper's splits are > 100 and < 20.
    """
    recipe = _OFFICIAL[name]
    if preset != "paper" or name == "cifar100-lt":
        return recipe
    recipe = replace(recipe, augmentation="paper")
    if name != "ms1m-lt":
        recipe = replace(recipe, few_below=20, many_above=100)
    return recipe.changed(**_PAPER.get(name, {}))


def of_method(recipe: TrainingRecipe, method: str) -> TrainingRecipe:
    """The recipe with the schedule of the method's authors, where they have one of their own.

    Args:
        recipe: As `read_recipe` gives it; a recipe from a file stays as it is.
        method: A method of `train-oltr`.
    """
    stages = _RIDE.get(recipe.name) if method in ("ride", "ride-routing") else None
    if stages is None or recipe not in (built_in(recipe.name), built_in(recipe.name, "paper")):
        return recipe
    return replace(recipe, stages=stages)


def read_recipe(spec: str, preset: str = "official") -> TrainingRecipe:
    """A built-in recipe, or one from a YAML or JSON file.

    Such a file has the fields of `TrainingRecipe`, ``stage1`` and ``stage2`` with those of
    `StageRecipe`, and ``base`` with the name of a built-in recipe to start from.

    Raises:
        InputError: If there is no such recipe, or the file says something that is not
            understood; its line is named.
    """
    if spec in BUILT_IN:
        return built_in(spec, preset)
    path = Path(spec)
    if not path.is_file():
        raise InputError(
            f"there is no recipe {spec}",
            expected=f"{', '.join(BUILT_IN)}, or a YAML or JSON file",
            todo=f"correct {option('recipe')}",
        )
    document = read_document(path)
    parts = _fields(document, "a recipe")
    if not parts:
        raise _not_understood(document.place, "nothing", "names and values")
    stages = [_fields(parts.pop(name, _NOTHING), name) for name in _STAGES]
    base = parts.pop("base", _NOTHING)
    if "stages" in parts or "extends" in parts:
        raise InputError(
            f"{path} is a chain of stages, not how one training is done",
            expected=f"{', '.join(BUILT_IN)}, or a file with some of {', '.join(PARTS)}",
            todo=f"`alphafix run {path}` does its stages",
        )
    if base.value is not None and base.plain() not in BUILT_IN:
        raise _not_understood(base.place, f"base: {base.plain()}", ", ".join(BUILT_IN))
    start = asdict(TrainingRecipe() if base.value is None else built_in(base.value, preset))
    data = {**start, "name": path.stem, **_plain(parts)}
    data["stages"] = [
        {**earlier, **_plain(stage)} for earlier, stage in zip(start["stages"], stages, strict=True)
    ]
    try:
        return TypeAdapter(TrainingRecipe).validate_python(data)
    except ValidationError as error:
        raise _explained(error, document.place, parts, stages) from error


_STAGES = ("stage1", "stage2")
PARTS = ("base", *(one.name for one in fields(TrainingRecipe) if one.name != "stages"), *_STAGES)
"""What a file of a recipe may have."""

_NOTHING = Node(None, Place(""))


def _fields(node: Node, what: str) -> dict[str, Node]:
    """Fields by name: dashes are as good as underscores."""
    return {name.replace("-", "_"): value for name, value in node.mapping(what).items()}


def _plain(nodes: Mapping[str, Node]) -> dict[str, Any]:
    return {name: node.plain() for name, node in nodes.items()}


def _explained(
    error: ValidationError, place: Place, parts: dict[str, Node], stages: list[dict[str, Node]]
) -> InputError:
    """The first thing that is wrong, and where it stands."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    if where[0] == "stages" and len(where) > 1:
        number = int(where[1])
        where, parts = [_STAGES[number], *where[2:]], stages[number]
    name = next((part for part in where if part in parts), None)
    got = f"{'.'.join(where)}: {first['input']!r}"
    expected = first["msg"]
    if first["type"] == "unexpected_keyword_argument":
        of = StageRecipe if where[0] in _STAGES else None
        expected = ", ".join(PARTS if of is None else [one.name for one in fields(of)])
    return _not_understood(place if name is None else parts[name].place, got, expected)


def _not_understood(place: Place, got: str, expected: str) -> InputError:
    return InputError(
        f"{place}: the recipe is not understood", got=got, expected=expected, todo="correct it"
    )


def retimed(
    recipe: TrainingRecipe,
    *,
    epochs: tuple[int, ...] = (),
    lr: tuple[float, ...] = (),
    feature_lr: tuple[float, ...] = (),
    batch_size: int | None = None,
) -> TrainingRecipe:
    """A recipe with other values of both stages, or one value for each; () leaves them."""
    given = {"epochs": epochs, "lr": lr, "feature_lr": feature_lr}
    given["batch"] = () if batch_size is None else (batch_size,)
    first, second = (
        _changed(stage, {name: many[min(i, len(many) - 1)] for name, many in given.items() if many})
        for i, stage in enumerate(recipe.stages)
    )
    return replace(recipe, stages=(first, second))


def _changed(stage: StageRecipe, values: dict[str, Any]) -> StageRecipe:
    if "epochs" in values and stage.schedule == "step":
        # The drops stay at the same parts of the whole.
        share = values["epochs"] / stage.epochs
        values["drop_every"] = max(1, round(stage.drop_every * share))
        values["drops"] = tuple(max(1, round(epoch * share)) for epoch in stage.drops)
        values["warmup"] = round(stage.warmup * share)
    return replace(stage, **values)


def resized(recipe: TrainingRecipe, size: int | None) -> TrainingRecipe:
    """Another input size, if there is one, with the same part of the image cut out."""
    if size is None:
        return recipe
    resize = size
    if recipe.size is not None and recipe.resize is not None:
        resize = round(recipe.resize * size / recipe.size)
    return replace(recipe, size=size, resize=resize)


def without_weights(recipe: TrainingRecipe, *, from_scratch: bool) -> TrainingRecipe:
    """A recipe for a training that is given no weights to start from.

    Raises:
        InputError: If the recipe wants some, and ``from_scratch`` is false.
    """
    if recipe.pretrained and not from_scratch:
        raise InputError(
            f"the recipe {recipe.name} starts from a trained backbone",
            got=f"no {option('pretrained')}",
            expected=f"a checkpoint of {recipe.backbone} trained on ImageNet",
            todo=f"give {option('pretrained', 'FILE')} (nothing is downloaded), or "
            f"{option('from_scratch', True)}",
        )
    return replace(recipe, pretrained=False)
