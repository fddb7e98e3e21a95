"""Every value of every recipe, beside where it is from.

OLTR's code is github.com/zhmiao/OpenLongTailRecognition-OLTR, AlphaNet's
github.com/jayanthkoushik/alphanet; Table 8 and appendix D.3 are the OLTR paper's.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from alphafix.commands.train.options import TrainOptions
from alphafix.oltr.training.recipes import BUILT_IN, built_in, of_method, retimed
from alphafix.recipes.recipe import load_recipe

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
    # Appendix D.3: as Places-LT in Table 8.
    "sun-lt": PLACES
    | {"name": "sun-lt", "stages": (STAGE | {"lr": 0.01}, STAGE | {"lr": 0.01, "frozen": FROZEN})},
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
    "sun-lt": OFFICIAL["sun-lt"] | AS_PUBLISHED,
    "cifar100-lt": OFFICIAL["cifar100-lt"],
}


@pytest.mark.parametrize("preset", ["official", "paper"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_training_recipe__is_the_whole_list(name: str, preset: str) -> None:
    expected = {"official": OFFICIAL, "paper": PAPER}[preset][name]
    assert asdict(built_in(name, preset)) == expected


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
    "epochs": 10,
    "select": "none",
}
CHAINS = {
    "imagenet-lt-crt": ALPHANET,
    "imagenet-lt-lws": ALPHANET,
    "imagenet-lt-ride": ALPHANET,
    "places-lt-crt": ALPHANET,
    "places-lt-lws": ALPHANET,
    # Tables A6 and A7: 10 epochs and no validation set; rho 0.5, the paper's example, comes first.
    "cifar-100-lt-ride": ALPHANET | CIFAR,
    "cifar-100-lt-ltr": ALPHANET | CIFAR,
    # The authors' first manuscript: 10 epochs, batches of 256.
    "inaturalist-2018-crt": ALPHANET
    | {"rho": (0.5, 1.0), "epochs": 10, "batch_size": 256, "holdout": 0.1},
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
