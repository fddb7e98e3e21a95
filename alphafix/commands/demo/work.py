"""`alphafix demo`: the whole chain on embedded images, by the users' own commands."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from alphafix.alphanet.fit import fit
from alphafix.alphanet.measure import trial_accuracies
from alphafix.commands.command import Say, Watch
from alphafix.commands.demo.options import DemoOptions
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.evaluate.work import work as evaluate
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.work import extract_all as extract
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.neighbors.work import work as find_neighbors
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.patch.work import work as patch
from alphafix.commands.train.options import TrainOptions
from alphafix.commands.train.work import given_in, settings_of
from alphafix.commands.train.work import work as train
from alphafix.demo.glyphs import load_glyphs, unpack_images
from alphafix.errors import TargetExistsError, counted
from alphafix.features.store import FeatureStore
from alphafix.files import atomic_path
from alphafix.metrics.accuracy import Accuracy, tier_accuracy
from alphafix.metrics.comparison import BySeeds, over_seeds
from alphafix.progress import Progress
from alphafix.run.directory import CLASSES, CORRECTION, HEAD, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head

BACKBONE = "python:alphafix.demo.model:glyph_net"


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured on test images (top-1 in percent).

    Attributes:
        classes: The class table.
        base: The base model.
        nearest: The trials with the nearest neighbours.
        random: The trials with random neighbours, the control.
        corrected: The patched model: the mean of the seeds' corrected rows.
        patched: Where it is.
    """

    classes: ClassTable
    base: Accuracy
    nearest: BySeeds
    random: BySeeds
    corrected: Accuracy
    patched: Path

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data, with means and standard deviations (ddof = 1) over seeds."""
        return {
            "base": dict(self.base),
            "nearest": {k: one and one.to_dict() for k, one in self.nearest.items()},
            "random": {k: one and one.to_dict() for k, one in self.random.items()},
            "corrected": dict(self.corrected),
            "patched": str(self.patched),
        }


def work(options: DemoOptions, watch: Watch) -> DemoResult:
    """Unpack images and a base model, correct it, and measure both."""
    run, model = Run(options.run), options.run / "model.safetensors"
    images = options.run / "images"
    clock, quiet = _Clock(watch.say), Watch(watch.progress)
    _unpack(images, model, options, watch.progress)
    clock("images and a trained model, unpacked into " + str(options.run))
    found = extract(_extraction(options, images, model), quiet)
    total = sum(found.samples.values())
    clock(f"alphafix extract: features of {counted(total, 'image')}; {found.classes.describe()}")
    to, anew = options.run, options.overwrite
    near = find_neighbors(NeighborsOptions(run=to, overwrite=anew), quiet).neighbours
    clock(f"alphafix neighbors: the {near.k} nearest other classes of each few-split class")
    training = TrainOptions(run=to, overwrite=anew, rho=(options.rho,), seeds=options.seeds)
    train(training, quiet)
    correction = Correction.load(run.path(CORRECTION))
    trials = counted(options.seeds, "trial")
    clock(f"alphafix train --rho {options.rho:g}: {trials} with nearest neighbours")
    random = replace(settings_of(training), metric="random")
    control = fit(given_in(run), random, progress=watch.progress)
    clock("the control: as many trials with random neighbours")
    written = patch(PatchOptions(run=to, overwrite=True, file=model), quiet)
    rows = counted(len(correction.classes), "row")
    clock(f"alphafix patch: {rows} and biases changed in {written.target}")
    evaluate(EvaluateOptions(run=to, overwrite=anew), quiet)
    result = _measure(run, correction, control, written.target)
    clock("alphafix evaluate: both models on the test images")
    return result


class _Clock:
    """Says what was done, and in what time."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.last = time.perf_counter()

    def __call__(self, what: str) -> None:
        now = time.perf_counter()
        self.say(f"{now - self.last:5.1f} s  {what}")
        self.last = now


def _unpack(images: Path, model: Path, options: DemoOptions, progress: Progress) -> None:
    if options.run.exists() and not images.exists() and any(options.run.iterdir()):
        raise TargetExistsError(
            f"{options.run} exists and was not made by the demo",
            expected="a folder that is free",
            todo="choose another with --run",
        )
    if not images.exists():
        unpack_images(load_glyphs(), images, progress)
    data = files("alphafix.demo") / "data"
    with (
        as_file(data / "base-crt.safetensors") as crt,
        as_file(data / "base-ce-head.safetensors") as head,
    ):
        wanted = _model_bytes(crt, head if options.base == "ce" else None)
    if model.is_file() and model.read_bytes() == wanted:
        return
    with atomic_path(model, overwrite=options.overwrite) as temporary:
        temporary.write_bytes(wanted)


def _model_bytes(base: Path, head: Path | None) -> bytes:
    from safetensors.torch import load_file, save

    tensors = load_file(base)
    if head is not None:
        tensors |= load_file(head)
    return save(tensors)


def _extraction(options: DemoOptions, images: Path, model: Path) -> ExtractOptions:
    return ExtractOptions(
        run=options.run,
        overwrite=options.overwrite,
        backbone=BACKBONE,
        weights=model,
        data=str(images),
        split="train,val,test",
        workers=0,  # the images are so small that processes cost more than they save
        batch_size=256,
    )


def _measure(run: Run, correction: Correction, control: Correction, patched: Path) -> DemoResult:
    classes, head = ClassTable.load(run.path(CLASSES)), Head.load(run.path(HEAD))
    store = FeatureStore.open(run.features("test"))
    features, labels = store.array(), store.labels

    def accuracy(of: Head) -> Accuracy:
        return tier_accuracy(of.logits(features).argmax(1) == labels, labels, classes)

    trials = [found.trials for found in (correction, control)]
    nearest, random = (
        over_seeds([] if one is None else trial_accuracies(one, head, classes, store))
        for one in trials
    )
    corrected = accuracy(correction.apply(head))
    return DemoResult(classes, accuracy(head), nearest, random, corrected, patched)
