"""`alphafix extract`: images and a model -> classes.json, the head, features."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.commands.command import Watch
from alphafix.commands.extract.kept import kept_features
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.part import PartResult, part_state, part_work
from alphafix.commands.extract.preparation import (
    check_model,
    class_table,
    damaged,
    job_of,
    keep_embedding,
    known_classes,
    load,
    open_images,
    save_head,
    save_table,
    stores_of,
)
from alphafix.devices import Placement
from alphafix.distributed import Ranks, alike, join
from alphafix.errors import InputError, Words, on_command_line, option, spelt
from alphafix.features.reuse import advice, only_weights_differ, take_over
from alphafix.features.split import extract_split, require_one_model
from alphafix.features.store import FeatureStore, made_with
from alphafix.files import remove_temporary
from alphafix.images.splits import SplitSources
from alphafix.metrics.accuracy import Accuracy, accuracy_of_counts
from alphafix.metrics.doubts import Hits, doubts
from alphafix.metrics.samples import hits_of, sample_doubts
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import CLASSES, FEATURES, HEAD, Run
from alphafix.values.arrays import IntArray
from alphafix.values.classes import TIERS, ClassTable
from alphafix.values.head import Head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractResult:
    """What a run holds after an extraction.

    Attributes:
        classes: The class table.
        head: The head.
        samples: Number of stored samples of each extracted split.
        skipped: Number of images that were left out, of each.
        counts: Samples of each class, int64 of shape C, of each.
        base: What the head predicts rightly, of each split of known classes.
        labels: How labels were read, of each split.
        transform: How images become the model's input.
        cut: Number of images whose values were cut to 8 bits, of each split.
        doubts: What speaks against the head, labels or transform, in sentences.
        folder: The run directory.
        files: What was written.
    """

    classes: ClassTable
    head: Head
    samples: dict[str, int]
    skipped: dict[str, int]
    counts: dict[str, IntArray]
    base: dict[str, Hits]
    labels: dict[str, dict[str, Any]]
    transform: dict[str, Any]
    cut: dict[str, int]
    doubts: list[str]
    folder: Path
    files: tuple[Path, ...] = ()

    def class_sizes(self) -> dict[str, dict[str, int]]:
        """Classes and images of few, medium, many and overall: rows of a table."""
        return {
            name: {
                "classes": len(self.classes.tier(name)),
                **{s: int(n[self.classes.tier(name)].sum()) for s, n in self.counts.items()},
            }
            for name in (*TIERS, "overall")
        }

    def base_accuracy(self) -> dict[str, Accuracy]:
        """Accuracy of the base head by split, of few, medium, many and overall."""
        return {
            split: accuracy_of_counts(hits.right, hits.samples, self.classes)
            for split, hits in self.base.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "classes": len(self.classes),
            "width": self.head.width,
            "thresholds": vars(self.classes.thresholds),
            "samples": self.samples,
            "skipped": self.skipped,
            "class_sizes": self.class_sizes(),
            "base_accuracy": self.base_accuracy(),
            "doubts": [spelt(doubt, on_command_line) for doubt in self.doubts],
            "labels": {**self.classes.labels, "splits": self.labels},
            "transform": self.transform,
            "cut": self.cut,
        }


def work(options: ExtractOptions, watch: Watch) -> ExtractResult | PartResult:
    """Extract all features (see `extract_all`), or one job's part of them (see `part_work`)."""
    whole = options.division is None
    return extract_all(options, watch) if whole else part_work(options, watch)


def extract_all(options: ExtractOptions, watch: Watch) -> ExtractResult:
    """Extract features and the head into a run directory.

    What an interrupted command left is used; what is finished is left as it is, and features
    whose model has another head stay (see `kept_features`). Under `torchrun` each process extracts
    its part.

    Raises:
        InputError: If the model, its weights or the data cannot be used, or do not fit.
        TargetExistsError: If the run holds features that were made otherwise.
    """
    if options.division is not None:
        raise InputError(
            f"{option('shard_index')} is for the command line",
            expected="all shards, or a job array whose jobs give the command",
        )
    run = Run(options.run)
    with alike():
        images = open_images(options, known_classes(run, options))
    with join() as ranks:
        images.warn()
        setting = Placement.choose(options.device, options.precision, local_rank=ranks.local_rank)
        broken = damaged(run, options, images, ranks)
        stores = stores_of(run, options, images, setting, ranks, broken)
        todo = {
            split: store
            for split, store in stores.items()
            if split in broken or store.state is not State.CURRENT
        }
        needed = bool(todo) or HEAD in broken or not run.has(HEAD)
        if needed:
            others = {
                split: store
                for split, store in todo.items()
                if split not in broken and only_weights_differ(store)
            }
            for split, store in todo.items():
                more = advice() if split in others else None
                store.check(overwrite=options.overwrite, todo=more)
            require_one_model(run.path(FEATURES), {s: store.plan for s, store in stores.items()})
        if needed or options.check is not None:
            extractor, images = load(options, images, next(iter(todo or stores)), setting)
            checked = check_model(options, images, extractor, watch.progress)
        if needed:
            ranks.wait()  # nobody writes before everybody has checked
            kept = {}
            if ranks.first:
                alone = functools.partial(job_of, options, extractor=extractor, ranks=Ranks())
                kept = kept_features(others, images, extractor, alone)
                plan = next(iter(stores.values())).plan
                save_head(run, extractor.head, plan, options, anew=HEAD in broken)
            anew = ranks.of_first(tuple(split for split in todo if split not in kept))
            for split in anew if ranks.first else ():
                todo[split].begin()
            ranks.wait()
            for split, store in todo.items():
                job, info = job_of(options, split, images.sources[split], extractor, ranks)
                info |= {"labels": images.record(split), "check": checked}
                info |= {"backbone_sha256": extractor.backbone_sha256 if ranks.first else None}
                if split in anew:
                    extract_split(job, ranks, store, info, watch.progress)
                elif ranks.first:
                    take_over(kept[split], store, extractor.head, info)
            ranks.wait()
        else:
            logger.info("%s is up to date", run.folder)
        if ranks.first:
            _tidy(run, stores.values())
            keep_embedding(run, options.backbone)
            _save_classes(run, images, options, anew=CLASSES in broken)  # the last, see `state`
        ranks.wait()
        if ranks.world > 1 and "train" in stores:
            _keep_scatter(run, ranks)
        found = _result(run, tuple(stores))
        for doubt in found.doubts if ranks.first else ():
            logger.warning("%s", Words(doubt))
        return found


def state(options: ExtractOptions) -> State:
    """Whether the features are there as `work` would make them (see it for errors)."""
    if options.division is not None:
        return part_state(options)
    run = Run(options.run)
    setting = Placement.choose(options.device, options.precision)
    images = open_images(options, known_classes(run, options))
    found = {store.state for store in stores_of(run, options, images, setting, Ranks()).values()}
    if found == {State.CURRENT}:
        # What is written after the features, where a kill may have come between.
        if not (run.has(HEAD) and run.has(CLASSES)):
            return State.MISSING
        earlier = ClassTable.load(run.path(CLASSES))
        table = _class_table(run, images, options, earlier)
        return State.CURRENT if earlier.to_dict() == table.to_dict() else State.UNFINISHED
    return State.OTHER if State.OTHER in found else State.MISSING


def _tidy(run: Run, stores: Iterable[Artifact]) -> None:
    """Remove what a process that was killed at the very end left behind."""
    for name in (HEAD, CLASSES):
        remove_temporary(run.folder, name)
    for store in stores:
        store.finish()
        remove_temporary(store.path.parent)


def _save_classes(run: Run, images: SplitSources, options: ExtractOptions, *, anew: bool) -> None:
    """Write classes.json if anything of it has changed."""
    earlier = ClassTable.load(run.path(CLASSES)) if run.has(CLASSES) and not anew else None
    if not run.has(run.manifest("train")):
        logger.warning("no training features yet: the class counts in classes.json are 0")
    save_table(run, _class_table(run, images, options, earlier), earlier)


def _class_table(
    run: Run, images: SplitSources, options: ExtractOptions, earlier: ClassTable | None
) -> ClassTable:
    """The class table of the features that are there, with what an earlier one had decided."""
    num_classes = Head.load(run.path(HEAD)).num_classes
    if run.has(run.manifest("train")):
        counts = FeatureStore.open(run.features("train")).class_counts()
    else:
        counts = np.zeros(num_classes, dtype=np.int64)
    return class_table(images, options, counts, earlier)


def _keep_scatter(run: Run, ranks: Ranks) -> None:
    """Measure how base classes scatter, for `train --method lda`, while there are many processes.

    One process alone does so when that method is trained: it may never be.
    """
    base = ClassTable.load(run.path(CLASSES)).base
    FeatureStore.open(run.features("train")).within_class(base, ranks)
    ranks.wait()


def _result(run: Run, splits: tuple[str, ...]) -> ExtractResult:
    stores = {split: FeatureStore.open(run.features(split)) for split in splits}
    classes, head = ClassTable.load(run.path(CLASSES)), Head.load(run.path(HEAD))
    base = hits_of(stores)
    return ExtractResult(
        classes=classes,
        head=head,
        base=base,
        labels={split: store.info.get("labels", {}) for split, store in stores.items()},
        transform=next(iter(stores.values())).info["transform"],
        cut={split: int(store.info.get("cut", 0)) for split, store in stores.items()},
        doubts=[
            *(doubts(head, classes.names, base, stores[next(iter(base))]) if base else []),
            *sample_doubts({split: made_with(store) for split, store in stores.items()}, base),
        ],
        samples={split: len(store) for split, store in stores.items()},
        skipped={split: int(store.info["skipped"]) for split, store in stores.items()},
        counts={split: store.class_counts() for split, store in stores.items()},
        folder=run.folder,
        files=tuple(map(run.path, (CLASSES, HEAD, *map(run.manifest, splits)))),
    )
