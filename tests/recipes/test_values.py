"""Every value of every recipe, beside where it is from.

OLTR's code is github.com/zhmiao/OpenLongTailRecognition-OLTR, AlphaNet's
github.com/jayanthkoushik/alphanet; Table 8 and appendix D.3 are the OLTR paper's.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from alphafix.alphanet.trial import Hyper
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.oltr.models.spec import OFFICIAL as OLTR
from alphafix.oltr.training.recipes import BUILT_IN, built_in, of_method, read_recipe, retimed
from alphafix.recipes.recipe import load_recipe
from alphafix.values.classes import Thresholds

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"

# Table 8: SGD with momentum 0.9, decay 5e-4, batches of 128, a tenth every 10 epochs.
STAGE: dict[str, Any] = {
    "epochs": 30,
    "lr": 0.1,
    "feature_lr": None,
    "schedule": "step",
    "drop_every": 10,
    "drops": (),
    "drop": 0.1,
    "warmup": 0,
    "batch": 128,
    "momentum": 0.9,
    "nesterov": False,
    "decay": 5e-4,
    "per_class": 4,
    "frozen": (),
    "frozen_norm": True,
}
FROZEN = ("network.backbone",)

IMAGENET: dict[str, Any] = {
    "name": "imagenet-lt",
    "backbone": "resnet10",
    "pretrained": False,
    "width": 512,
    "channels": None,
    "size": 224,
    "resize": 256,
    "augmentation": "official",
    # The code counts >= 100 as many and <= 20 as few.
    "few_below": 21,
    "many_above": 99,
    # RIDE: config_imagenet_lt_resnext50_ride.json has reweight_factor 0.02.
    "diversity": 0.2,
    "spread": 0.02,
    # config/ImageNet_LT/stage_1.py and stage_2_meta_embedding.py.
    "stages": (STAGE, STAGE | {"feature_lr": 0.01, "epochs": 60, "drop_every": 20}),
}
PLACES = IMAGENET | {
    "name": "places-lt",
    "backbone": "timm:resnet152",
    "pretrained": True,
    "spread": 0.05,
    # config/Places_LT/stage_1.py and stage_2_meta_embedding.py; networks in training mode.
    "stages": (
        STAGE | {"feature_lr": 1e-3},
        STAGE | {"lr": 0.01, "feature_lr": 1e-4, "frozen": FROZEN, "frozen_norm": False},
    ),
}
OFFICIAL = {
    "imagenet-lt": IMAGENET,
    "places-lt": PLACES,
    # No configuration in the code: Table 8; Table 4 begins many-shot at 5 images.
    "ms1m-lt": PLACES
    | {
        "name": "ms1m-lt",
        "backbone": "timm:resnet50",
        "few_below": 2,
        "many_above": 4,
        "stages": (STAGE | {"lr": 0.01}, STAGE | {"lr": 0.01}),
    },
    # Appendix D.3: as Places-LT in Table 8; networks in training mode, as in run_networks.py.
    "sun-lt": PLACES
    | {
        "name": "sun-lt",
        "stages": (
            STAGE | {"lr": 0.01},
            STAGE | {"lr": 0.01, "frozen": FROZEN, "frozen_norm": False},
        ),
    },
    # Cao et al. 2019, cifar_train.py; RIDE's config_imbalance_cifar100_ride.json: diversity 0.45.
    "cifar100-lt": IMAGENET
    | {
        "name": "cifar100-lt",
        "backbone": "resnet32",
        "width": None,
        "channels": 3,
        "size": 32,
        "resize": 32,
        "augmentation": "cifar",
        "few_below": 20,
        "many_above": 100,
        "diversity": 0.45,
        "spread": 0.05,
        "stages": (
            STAGE | {"epochs": 200, "drops": (160, 180), "drop": 0.01, "warmup": 5, "decay": 2e-4},
            STAGE | {"feature_lr": 0.01, "epochs": 60, "drop_every": 20, "decay": 2e-4},
        ),
    },
}

# The paper: 256 x 256 and a crop of 224, splits > 100 and < 20, Table 8's rates.
AS_PUBLISHED = {"augmentation": "paper", "few_below": 20, "many_above": 100}
PAPER = {
    "imagenet-lt": IMAGENET | AS_PUBLISHED | {"stages": (STAGE, STAGE)},
    "places-lt": PLACES
    | AS_PUBLISHED
    | {"stages": (STAGE | {"lr": 0.01}, STAGE | {"lr": 0.01, "frozen": FROZEN})},
    "ms1m-lt": OFFICIAL["ms1m-lt"] | {"augmentation": "paper"},
    "sun-lt": OFFICIAL["sun-lt"]
    | AS_PUBLISHED
    | {"stages": (STAGE | {"lr": 0.01}, STAGE | {"lr": 0.01, "frozen": FROZEN})},
    "cifar100-lt": OFFICIAL["cifar100-lt"],
}


@pytest.mark.parametrize("preset", ["official", "paper"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_training_recipe__is_the_whole_list(name: str, preset: str) -> None:
    expected = {"official": OFFICIAL, "paper": PAPER}[preset][name]
    assert asdict(built_in(name, preset)) == expected


def test_training_recipe__of_longtailness_freezes_the_backbone() -> None:
    """OLTR, section 4.3: "the weights of the backbone network are frozen during training"."""
    first, second = IMAGENET["stages"]
    stages = (first, second | {"frozen": FROZEN, "frozen_norm": False})
    expected = IMAGENET | {"name": "frozen", "stages": stages}
    assert asdict(read_recipe(str(RECIPES / "frozen.yaml"))) == expected


# RIDE: config_imbalance_cifar100_ride.json, config_imagenet_lt_resnet10_ride.json, and the router's
# config_*_ride_ea.json, with batches in which every class comes once in turn ("balanced").
EXPERTS = STAGE | {"lr": 0.1, "warmup": 5, "nesterov": True}
ROUTER = STAGE | {
    "epochs": 5,
    "lr": 0.01,
    "schedule": "cosine",
    "batch": 512,
    "nesterov": True,
    "per_class": 1,
}
RIDE = {
    "cifar100-lt": EXPERTS | {"epochs": 200, "drops": (160, 180), "drop": 0.01},
    "imagenet-lt": EXPERTS | {"epochs": 100, "drops": (60, 80), "batch": 256, "decay": 2e-4},
}


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("preset", ["official", "paper"])
@pytest.mark.parametrize("method", ["ride", "ride-routing", "oltr"])
def test_training_recipe__of_ride_is_its_authors(name: str, preset: str, method: str) -> None:
    recipe = built_in(name, preset)
    expected = asdict(recipe)
    if method != "oltr" and name in RIDE:
        expected["stages"] = (RIDE[name], ROUTER)
    assert asdict(of_method(recipe, method)) == expected


def test_training_recipe__of_ones_own_stays_as_it_is() -> None:
    own = retimed(built_in("cifar100-lt"), epochs=(3,))
    assert of_method(own, "ride") is own


# AlphaNet, section 4.1 and train.py: 25 epochs, chosen from the 5th on, batches of 64, AdamW at
# 1e-3, hidden layers of 32; K = 5 nearest by Euclidean distance (the defaults of `neighbors`).
ALPHANET: dict[str, Any] = {
    "rho": (0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 3.0),
    "seeds": 10,
    "k": (),
    "metric": None,
    "preset": "paper",
    "hidden": (32, 32, 32),
    "epochs": 25,
    "first_epoch": 5,
    "batch_size": 64,
    "lr": 1e-3,
    "select": "overall",
    "holdout": None,
}
CIFAR: dict[str, Any] = {
    "rho": (0.5, *(rho for rho in ALPHANET["rho"] if rho != 0.5)),
    "select": "none",
}
CHAINS = {
    "imagenet-lt-crt": ALPHANET,
    "imagenet-lt-lws": ALPHANET,
    "imagenet-lt-ride": ALPHANET,
    "places-lt-crt": ALPHANET,
    "places-lt-lws": ALPHANET,
    # Tables A6 and A7: no validation set, so that nothing is chosen; 25 epochs as everywhere (the
    # later manuscript has 10, and other figures). rho 0.5, the paper's example, comes first.
    "cifar-100-lt-ride": ALPHANET | CIFAR,
    "cifar-100-lt-ltr": ALPHANET | CIFAR,
    # The authors' later manuscript, tables/appendix: hyperparams.md and
    # models_split_top1_accs_vs_rho_inat.md. What costs least overall comes first.
    "inaturalist-2018-crt": ALPHANET
    | {
        "rho": (0.05, 0.01, 0.02, 0.03, 0.04),
        "epochs": 10,
        "batch_size": 256,
        "select": "none",
    },
}


@pytest.mark.parametrize("name", CHAINS)
def test_chain__trains_alphanet_with_the_whole_list(name: str) -> None:
    (step,) = (s for s in load_recipe(RECIPES / f"{name}.yaml").steps if s.stage == "train")
    values = {option: node.plain() for option, node in step.options.items()}
    options = TrainOptions.model_validate({"run": "run", **values})
    assert {key: getattr(options, key) for key in ALPHANET} == CHAINS[name]


def test_chains__are_all_recipes_that_train_alphanet() -> None:
    found = {
        path.stem
        for path in RECIPES.glob("*-*.yaml")
        if path.stem != "stand-in-oltr"
        and any(step.stage == "train" for step in load_recipe(path).steps)
    }
    assert found == set(CHAINS)


def test_chains__defaults_that_no_recipe_changes() -> None:
    """AlphaNet, section 4.1: few < 20, many > 100, a tenth every 10 epochs; AdamW's own decay."""
    neighbours = NeighborsOptions.model_validate({"run": "run"})
    assert (neighbours.k, neighbours.metric) == (5, "euclidean")
    assert (neighbours.few_below, neighbours.many_above) == (None, None)
    assert (Thresholds().few, Thresholds().many) == (20, 100)
    assert (Hyper().decay_every, Hyper().weight_decay) == (10, 0.01)


# What a recipe says beside the training of AlphaNet, without the places of files.
PLACES_OF = {
    *(
        "source",
        "output",
        "features",
        "head",
        "weights",
        "data",
        "root",
        "file",
        "open",
        "open_val",
    ),
    *("recipe", "pretrained", "first_stage"),
}
# The image size and the transform are those of the backbone's library: 256, and a crop of 224.
RESNEXT = {"backbone": "torchvision:resnext50_32x4d"}
RESNET = {"backbone": "torchvision:resnet152"}
BALANCING = ("import", {"kind": "classifier-balancing"})
ON_TEST: tuple[str, dict[str, Any]] = ("evaluate", {})
NEIGHBOURS: tuple[str, dict[str, Any]] = ("neighbors", {})
PATCH: tuple[str, dict[str, Any]] = ("patch", {})
# Kang et al.: NCM by cosine of centred, normalised features. They take the tau of the best overall
# accuracy on validation; this is the largest few-split gain that costs none (the table says so).
OTHER_METHODS = (
    "compare",
    {
        "methods": ["ncm-cl2-cosine", "tau-norm"],
        "max_overall_drop": 0,
        "confidence": 0.5,
        "rho": [0.5],
        "on_top": False,
    },
)
# github.com/facebookresearch/odin, README.md: the best steps of all its data sets; T = 1000 in all.
ODIN = {
    "odin": True,
    "odin_temperature": [1, 10, 100, 1000],
    "odin_step": [0, 0.0005, 0.0006, 0.0008, 0.0011, 0.0014, 0.002, 0.0028, 0.0048],
}


def oltr(*methods: str, **more: Any) -> list[tuple[str, dict[str, Any]]]:
    """A stage a method."""
    return [("train-oltr", {"method": method, **more}) for method in methods]


def of_power(power: int) -> list[tuple[str, dict[str, Any]]]:
    """ImageNet-LT's counts: Pareto, at most 1,280 images a class, 20 of validation, 50 of test."""
    tail = {"power": power, "max_images": 1280, "val": 20, "test": 50}
    return [("make-lt", {**tail, "val_from": "train", "test_from": "val"}), *oltr("plain", "oltr")]


STAGES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "imagenet-lt-crt": [BALANCING, ("extract", RESNEXT), NEIGHBOURS, ON_TEST, PATCH],
    "imagenet-lt-lws": [BALANCING, ("extract", RESNEXT), NEIGHBOURS, ON_TEST, PATCH],
    # Normalised features and rows, times 30, joined: in the import. RIDE normalises its rows.
    "imagenet-lt-ride": [
        ("import", {"kind": "ride"}),
        NEIGHBOURS,
        ON_TEST,
        ("patch", {"direction_only": True}),
    ],
    "places-lt-crt": [BALANCING, ("extract", RESNET), NEIGHBOURS, ON_TEST, PATCH],
    "places-lt-lws": [BALANCING, ("extract", RESNET), NEIGHBOURS, ON_TEST, PATCH],
    "cifar-100-lt-ride": [
        ("import", {"kind": "ride"}),
        NEIGHBOURS,
        ON_TEST,
        ("patch", {"direction_only": True}),
    ],
    # The authors' appendix: "we multiplied all prediction scores by 100".
    "cifar-100-lt-ltr": [("import", {"kind": "features", "scale": 100}), NEIGHBOURS, ON_TEST],
    # classifier-balancing's data/dataloader.py: means and deviations of iNaturalist.
    "inaturalist-2018-crt": [
        BALANCING,
        (
            "extract",
            RESNET
            | {"split": "train,val", "mean": "0.466,0.471,0.380", "std": "0.195,0.194,0.192"},
        ),
        NEIGHBOURS,
        ("evaluate", {"on": "val"}),
        PATCH,
    ],
    "imagenet-lt-ce": [BALANCING, ("extract", RESNEXT), NEIGHBOURS, OTHER_METHODS],
    "places-lt-ce": [BALANCING, ("extract", RESNET), NEIGHBOURS, OTHER_METHODS],
    "imagenet-lt-oltr": oltr("plain", "oltr"),
    "places-lt-oltr": oltr("plain", "oltr"),
    # Table 8 trains on people's folders; one image a person is held out.
    "ms1m-lt-oltr": [
        ("make-lt", {"order": "size", "min_images": 4, "val": 0, "test": 1}),
        *oltr("plain", "oltr"),
    ],
    # Table 4, right.
    "sun-lt-oltr": oltr("plain", "oltr", "cost-sensitive", "model-regression", "metamodelnet"),
    "cifar-100-oltr": oltr("plain", "oltr", **ODIN),
    "imagenet-lt-powers": [*of_power(6), *of_power(3), *of_power(1)],
    "imagenet-lt-unknown": oltr("plain", "oltr", open_classes=[1, 2, 10, 50, 100, 200]),
}


@pytest.mark.parametrize("name", STAGES)
def test_recipe__says_this_and_nothing_else(name: str) -> None:
    steps = load_recipe(RECIPES / f"{name}.yaml").steps
    found = [
        (step.stage, {k: node.plain() for k, node in step.options.items() if k not in PLACES_OF})
        for step in steps
        if step.stage != "train"
    ]
    assert found == STAGES[name]


def test_recipes__all_are_here() -> None:
    names = {path.stem for path in RECIPES.glob("*-*.yaml")} - {"stand-in-oltr"}
    assert set(STAGES) == names
    # ... with the recipe of training that belongs to each.
    trained = {
        name: {
            step.options["recipe"].plain()
            for step in load_recipe(RECIPES / f"{name}.yaml").steps
            if step.stage == "train-oltr"
        }
        for name in names
    }
    assert {name: used for name, used in trained.items() if used} == {
        "imagenet-lt-oltr": {"imagenet-lt"},
        "imagenet-lt-unknown": {"imagenet-lt"},
        "imagenet-lt-powers": {"frozen.yaml"},
        "places-lt-oltr": {"places-lt"},
        "ms1m-lt-oltr": {"ms1m-lt"},
        "sun-lt-oltr": {"sun-lt"},
        "cifar-100-oltr": {"cifar100-lt"},
    }


def test_train_oltr__defaults_that_no_recipe_changes() -> None:
    """OLTR's configurations (open_threshold), DiscCentroidsLoss.py, MetaEmbeddingClassifier.py."""
    options = TrainOltrOptions.model_validate({"data": "data", "recipe": "imagenet-lt"})
    assert (options.preset, options.open_threshold, options.experts) == ("official", 0.1, 3)
    assert (options.openmax, options.odin, options.open_classes) == (False, False, ())
    assert (OLTR.loss_weight, OLTR.repulsion, OLTR.margin) == (0.01, 0.01, 10)
    assert (OLTR.cosine_scale, OLTR.reachability, OLTR.squash) == (16, 10, "linear")
