"""The engine: images in memory or in files, what is random, rates, frozen parts, selection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from alphafix.devices import Placement
from alphafix.errors import InputError
from alphafix.images.spec import open_data
from alphafix.images.splits import open_splits
from alphafix.metrics.accuracy import accuracy_of_counts
from alphafix.oltr.losses.objectives import Objective, OLTRObjective
from alphafix.oltr.models.spec import ModelSpec
from alphafix.oltr.models.transform import ImageTransform
from alphafix.oltr.training.augmentation import (
    BATCH_AUGMENTATIONS,
    BatchAugmentation,
    PhotoAugmentation,
)
from alphafix.oltr.training.images import FileImages, TensorImages, TrainingData, labels_of
from alphafix.oltr.training.loop import StageState, parameter_groups, train_stage
from alphafix.oltr.training.methods import METHODS
from alphafix.oltr.training.pipeline import Trained, start_stage, train_method
from alphafix.oltr.training.recipes import StageRecipe
from alphafix.oltr.training.running import Running, closed_accuracy
from alphafix.oltr.training.sampling import draw_epoch
from alphafix.reading.schema import typed
from alphafix.values.classes import ClassTable
from tests.devices import on_each_device
from tests.oltr.drawings import COUNTS, NAMES, SIDE, draw, write_folders

CPU = torch.device("cpu")
TRANSFORM = ImageTransform(3, SIDE, SIDE, mean=(0.2, 0.2, 0.2), std=(0.2, 0.2, 0.2))
CLASSES = ClassTable(NAMES, np.array(COUNTS["train"], dtype=np.int64))
SETTING = ModelSpec("small", CLASSES.counts, 3, SIDE)
STAGE = StageRecipe(epochs=2, lr=0.05, batch=16, drop_every=1)
STAGES = (STAGE, replace(STAGE, feature_lr=0.01))


def images_of(split: str, augmentation: BatchAugmentation | None = None) -> TensorImages:
    rng = np.random.default_rng(len(split))
    labels = np.repeat(np.arange(len(NAMES)), COUNTS[split])
    pixels = np.stack([draw(int(label), rng) for label in labels]).transpose(0, 3, 1, 2)
    return TensorImages(pixels, labels, TRANSFORM, augmentation)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return TrainingData(images_of("train", BATCH_AUGMENTATIONS["small"]), images_of("val"), CLASSES)


def train(
    data: TrainingData, method: str = "oltr", seed: int = 0, placement: Placement | None = None
) -> Trained:
    running = Running(placement or Placement(CPU))
    return train_method(METHODS[method], SETTING, data, STAGES, seed=seed, running=running)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return list(first) == list(second) and all(torch.equal(first[n], second[n]) for n in first)


@on_each_device
def test_oltr__learns_both_stages_and_says_how(data: TrainingData, device: str) -> None:
    trained = train(data, placement=Placement.choose(device, "fp32"))
    assert [(r["stage"], r["epoch"]) for r in trained.history] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    losses = [record["loss"] for record in trained.history]
    assert losses[1] < losses[0]
    assert losses[3] < losses[2]
    assert trained.history[-1]["val"]["overall"] > 90
    assert trained.history[-1]["val"]["many"] is None
    assert trained.history[2]["lr"] == pytest.approx(
        {"features": 0.01, "head": 0.05, "objective": 0.01}
    )
    assert trained.history[3]["lr"] == pytest.approx(
        {"features": 0.001, "head": 0.005, "objective": 0.001}
    )


def test_training__of_the_same_seed_is_the_same_to_the_bit(data: TrainingData) -> None:
    torch.manual_seed(1)
    one = train(data).model
    torch.manual_seed(2)  # the global generator must not matter, nor be touched
    before = torch.get_rng_state()
    other = train(data).model
    assert torch.equal(before, torch.get_rng_state())
    assert same(one, other)
    assert not same(one, train(data, seed=1).model)


def test_files_and_memory__give_the_same_batches_for_any_number_of_workers(tmp_path: Path) -> None:
    source = open_splits(open_data(str(write_folders(tmp_path))), ["train"]).sources["train"]
    labels = labels_of(source)
    epoch = draw_epoch(labels, sampler="class_aware", batch=16, seed=0, stage=2, epoch=0)
    made = []
    for workers in (0, 2):
        files = FileImages(source, labels, TRANSFORM, BATCH_AUGMENTATIONS["small"], workers=workers)
        made.append(list(files.training(epoch, CPU)))
    made.append(list(files.in_memory().training(epoch, CPU)))
    for batches in made[1:]:
        for (images, targets), (expected, expected_targets) in zip(batches, made[0], strict=True):
            assert torch.equal(images, expected)
            assert torch.equal(targets, expected_targets)


@pytest.mark.parametrize("kind", ["official", "paper"])
def test_photo_augmentation__follows_the_seed_in_any_process(tmp_path: Path, kind: str) -> None:
    source = open_splits(open_data(str(write_folders(tmp_path))), ["train"]).sources["train"]
    labels = labels_of(source)
    transform = ImageTransform(3, 20, 16)
    epoch = draw_epoch(labels, sampler="plain", batch=32, seed=0, stage=1, epoch=0)
    made = [
        torch.cat([b for b, _ in FileImages(
            source, labels, transform, PhotoAugmentation(kind, 20, 16), workers=workers
        ).training(epoch, CPU)])
        for workers in (0, 2)
    ]  # fmt: skip
    assert torch.equal(*made)
    other = draw_epoch(labels, sampler="plain", batch=32, seed=0, stage=1, epoch=1)
    augmentation = PhotoAugmentation(kind, 20, 16)
    again = FileImages(source, labels, transform, augmentation).training(
        replace(epoch, seeds=other.seeds), CPU
    )
    assert not torch.equal(torch.cat([b for b, _ in again]), made[0])


def test_batch_augmentation__of_no_strength_changes_nothing() -> None:
    images = torch.rand(4, 3, 8, 8) * 255
    seeds = np.arange(4, dtype=np.uint64)
    torch.testing.assert_close(BatchAugmentation()(images, seeds), images)


def test_batch_augmentation__of_cifar_shifts_by_whole_pixels_and_mirrors() -> None:
    image = torch.arange(1, 1 + 32 * 32, dtype=torch.float32).view(1, 1, 32, 32)
    images = image.repeat(64, 1, 1, 1)
    changed = BATCH_AUGMENTATIONS["cifar"](images, np.arange(64, dtype=np.uint64))
    padded = nn.functional.pad(image, (4, 4, 4, 4))[0, 0]
    crops = {}
    for y in range(9):
        for x in range(9):
            crop = padded[y : y + 32, x : x + 32]
            crops[(y, x, False)], crops[(y, x, True)] = crop, crop.flip(1)
    found = []
    for image in changed[:, 0]:
        near = [key for key, crop in crops.items() if (image - crop).abs().max() < 0.1]
        assert len(near) == 1
        found.append(near[0])
    assert len({key[:2] for key in found}) > 20
    assert 16 < sum(key[2] for key in found) < 48


def test_augmentation__of_a_sample_does_not_depend_on_its_batch() -> None:
    images = torch.rand(6, 1, 16, 16) * 255
    seeds = np.arange(6, dtype=np.uint64) + np.uint64(99)
    augmentation = BATCH_AUGMENTATIONS["small"]
    whole = augmentation(images, seeds)
    parts = torch.cat([augmentation(images[i::2], seeds[i::2]) for i in range(2)])
    torch.testing.assert_close(parts, torch.cat([whole[0::2], whole[1::2]]))


def test_transform__of_grey_and_square_images() -> None:
    from PIL import Image

    pixels = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60)
    image = Image.fromarray(pixels).convert("RGB")
    assert ImageTransform(1, 20, 16)(image).shape == (1, 16, 16)
    assert ImageTransform(3, 20, 16)(image).shape == (3, 16, 16)
    whole = ImageTransform(1, 20, 20, square=True)(image)
    expected = np.asarray(image.convert("L").resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(whole[0].numpy(), expected)
    transform = ImageTransform(1, 20, 16, mean=(0.5,), std=(0.25,))
    normalised = transform.normalize(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    assert normalised.flatten().tolist() == pytest.approx([-2.0, 2.0])
    assert typed(ImageTransform, transform.to_dict()) == transform


def test_first_centroids__are_class_means_with_test_transforms(data: TrainingData) -> None:
    first = train_method(METHODS["plain"], SETTING, data, STAGES).model
    oltr = METHODS["oltr"].stages[1]
    model = start_stage(oltr, SETTING, data.train, first, seed=1)
    model.eval()
    every = np.arange(len(data.train), dtype=np.int64)
    with torch.inference_mode():
        batches = [(model(x).direct, y) for x, y in data.train.plain(every, 1000, CPU)]
    ((direct, labels),) = batches
    expected = torch.stack([direct[labels == c].mean(0) for c in range(len(NAMES))])
    centroids = model.head.get_parameter("centroids")
    torch.testing.assert_close(centroids.detach(), expected, rtol=1e-5, atol=1e-6)
    # The hallucinator starts as the first classifier, the backbone as the first one.
    hallucinator = model.head.get_submodule("memory.hallucinator")
    assert torch.equal(hallucinator.get_parameter("weight"), first.head.linear()[0])
    assert same(model.network.backbone, first.network.backbone)


def test_groups__head_features_and_centroids_have_their_own_rates() -> None:
    model = METHODS["oltr"].stages[1].build_model(SETTING)
    objective = METHODS["oltr"].stages[1].build_objective(model, SETTING)
    assert isinstance(objective, OLTRObjective)
    groups = parameter_groups(model, objective, STAGES[1])
    assert [group["name"] for group in groups] == ["features", "head", "objective"]
    assert [group["lr"] for group in groups] == [0.01, 0.05, 0.01]
    counted = [id(p) for group in groups for p in group["params"]]
    assert len(counted) == len(set(counted)) == len(list(model.parameters()))
    assert [p.shape for p in groups[2]["params"]] == [(len(NAMES), 96)]


def test_rates__fall_by_steps_along_a_cosine_and_after_a_warm_up() -> None:
    step = StageRecipe(epochs=30, drop_every=10)
    assert [step.factor(e) for e in (0, 9.99, 10, 29)] == pytest.approx([1, 1, 0.1, 0.01])
    at = StageRecipe(epochs=200, drops=(160, 180), drop=0.01)
    assert [at.factor(e) for e in (0, 159.9, 160, 180)] == pytest.approx([1, 1, 0.01, 1e-4])
    cosine = StageRecipe(epochs=10, schedule="cosine")
    assert [cosine.factor(e) for e in (0, 5.9, 10)] == pytest.approx([1, 0.5, 0])
    # Cao et al. 2019, adjust_learning_rate; RIDE, train.py: (1 + epoch) / warmup, epochs from 0.
    warm = StageRecipe(epochs=10, warmup=5)
    assert [warm.factor(e) for e in (0, 0.9, 1, 4, 5)] == pytest.approx([0.2, 0.2, 0.4, 1, 1])


def test_frozen__parts_stay_as_they_are_with_their_statistics(data: TrainingData) -> None:
    model = METHODS["plain"].stages[0].build_model(SETTING)
    before = weights(model)
    stage = replace(STAGE, frozen=("network.backbone",))
    train_stage(model, Objective(), data, stage)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("network.backbone")


def test_frozen__statistics_go_on_where_the_recipe_says_so(data: TrainingData) -> None:
    model = METHODS["plain"].stages[0].build_model(SETTING)
    before = weights(model)
    train_stage(
        model, Objective(), data, replace(STAGE, frozen=("network.backbone",), frozen_norm=False)
    )
    for name, tensor in model.state_dict().items():
        if name.startswith("network.backbone"):
            statistics = "running_" in name or name.endswith("num_batches_tracked")
            assert torch.equal(tensor, before[name]) != statistics


def test_frozen__a_part_that_is_not_there_is_an_error(data: TrainingData) -> None:
    model = METHODS["plain"].stages[0].build_model(SETTING)
    with pytest.raises(InputError, match=r"no part network\.trunk"):
        train_stage(model, Objective(), data, replace(STAGE, frozen=("network.trunk",)))


def test_selection__of_equal_epochs_the_first(data: TrainingData) -> None:
    """As in OLTR's run_networks.py: only an accuracy that is greater replaces the best."""
    model = METHODS["plain"].stages[0].build_model(SETTING)
    still = replace(STAGE, epochs=3, lr=0.0, frozen=("network",))
    result = train_stage(model, Objective(), data, still)
    assert len({record["val"]["overall"] for record in result.history}) == 1
    assert result.best == 1


def test_selection__keeps_the_epoch_with_the_best_validation_accuracy(data: TrainingData) -> None:
    states: list[StageState] = []
    model = METHODS["plain"].stages[0].build_model(SETTING)
    stage = replace(STAGE, epochs=5, drop_every=9, lr=0.2)
    result = train_stage(model, Objective(), data, stage, save=states.append)
    found = [record["val"]["overall"] for record in result.history]
    assert result.best == max(range(1, 6), key=lambda epoch: (found[epoch - 1], -epoch))
    best = states[result.best - 1]["model"]
    assert all(torch.equal(best[name], t) for name, t in model.state_dict().items())
    assert data.val is not None
    assert closed_accuracy(model, data.val, CLASSES)["overall"] == max(found)


def test_selection__without_validation_keeps_the_last_epoch(data: TrainingData) -> None:
    model = METHODS["plain"].stages[0].build_model(SETTING)
    result = train_stage(model, Objective(), replace(data, val=None), STAGE)
    assert result.best == STAGE.epochs
    assert [record["val"] for record in result.history] == [None, None]


def test_accuracy__of_a_split_without_classes_is_none_and_never_nan() -> None:
    counts = np.array([5, 5, 5, 5, 5, 5])
    found = accuracy_of_counts(np.array([5, 5, 5, 5, 0, 1]), counts, CLASSES)
    assert found == {"few": 10.0, "medium": 100.0, "many": None, "overall": 70.0}
    nothing = accuracy_of_counts(np.zeros(6, np.int64), np.zeros(6, np.int64), CLASSES)
    assert set(nothing.values()) == {None}


def test_divergence__is_an_error_that_names_the_rate(data: TrainingData) -> None:
    model = METHODS["plain"].stages[0].build_model(SETTING)
    with pytest.raises(InputError, match=r"diverged in epoch 1 of stage 1[\s\S]*lr="):
        train_stage(model, Objective(), data, replace(STAGE, lr=1e30))


def test_a_class_without_samples__is_an_error_before_training(data: TrainingData) -> None:
    more = ClassTable((*NAMES, "gate"), np.array([*COUNTS["train"], 0]))
    model = METHODS["plain"].stages[0].build_model(SETTING)
    with pytest.raises(InputError, match=r"1 of 7 classes have no training samples[\s\S]*gate"):
        train_stage(model, Objective(), replace(data, classes=more), STAGE)


def test_images__that_do_not_fit_are_refused() -> None:
    labels = np.zeros(2, dtype=np.int64)
    for wrong in (
        torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(2, SIDE, SIDE, dtype=torch.uint8),
        torch.zeros(2, 3, SIDE, SIDE),
        torch.zeros(3, 3, SIDE, SIDE, dtype=torch.uint8),
    ):
        with pytest.raises(InputError, match="do not fit"):
            TensorImages(wrong, labels, TRANSFORM)


def test_state_of_another_model__is_refused(data: TrainingData) -> None:
    states: list[StageState] = []
    model = METHODS["plain"].stages[0].build_model(SETTING)
    train_stage(model, Objective(), data, replace(STAGE, epochs=1), save=states.append)
    other = METHODS["oltr"].stages[1].build_model(SETTING)
    with pytest.raises(InputError, match=r"does not fit this training[\s\S]*centroids"):
        train_stage(other, Objective(), data, STAGE, state=states[0])
    with pytest.raises(InputError, match="stage 1, expected 2"):
        train_stage(model, Objective(), data, STAGE, number=2, state=states[0])


def test_bf16__trains_to_about_the_same_losses(data: TrainingData) -> None:
    exact = train(data)
    running = Running(Placement(CPU, "bf16"))
    mixed = train_method(METHODS["oltr"], SETTING, data, STAGES, running=running)
    losses = [[record["loss"] for record in found.history] for found in (exact, mixed)]
    assert losses[0] != losses[1]
    # Small differences grow from step to step: only the first stage is compared closely.
    assert losses[1][:2] == pytest.approx(losses[0][:2], rel=0.1)
    assert mixed.history[-1]["val"]["overall"] > 90
    assert all(p.dtype == torch.float32 for p in mixed.model.parameters())
