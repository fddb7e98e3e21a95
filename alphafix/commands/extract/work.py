"""`alphafix extract`: images and a model -> classes.json, the head, features."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.commands.command import Watch
from alphafix.commands.extract.memory import keep_embedding
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.plan import (
    OF_THE_MODEL,
    Plan,
    check_plans,
    choose_decoder,
    make_plans,
)
from alphafix.distributed import Ranks, join
from alphafix.errors import InputError
from alphafix.features.extraction import Job
from alphafix.features.ledger import Ledger
from alphafix.features.split import extract_split
from alphafix.features.store import STATISTICS, FeatureStore
from alphafix.files import read_tensors, remove_temporary
from alphafix.images.batches import BatchDataset, first_batch
from alphafix.images.encoded import DeviceDecoder, is_plain_jpeg
from alphafix.images.source import ImageSource
from alphafix.images.spec import open_data
from alphafix.images.splits import SplitSources, choose_splits, open_splits
from alphafix.models.extractor import Extractor, Setting
from alphafix.models.loading import load_classifier
from alphafix.models.preprocess import Overrides
from alphafix.run.artifact import State
from alphafix.run.directory import CLASSES, HEAD, Run
from alphafix.values.arrays import IntArray
from alphafix.values.classes import TIERS, ClassTable, Thresholds
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
        folder: The run directory.
        files: What was written.
    """

    classes: ClassTable
    head: Head
    samples: dict[str, int]
    skipped: dict[str, int]
    counts: dict[str, IntArray]
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

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "classes": len(self.classes),
            "width": self.head.width,
            "thresholds": vars(self.classes.thresholds),
            "samples": self.samples,
            "skipped": self.skipped,
            "class_sizes": self.class_sizes(),
        }


def work(options: ExtractOptions, watch: Watch) -> ExtractResult:
    """Extract features and the head into a run directory.

    What an interrupted command left is used; what is finished is left as it is. Under
    `torchrun` each process extracts its part.

    Raises:
        InputError: If the model, its weights or the data cannot be used, or do not fit.
        TargetExistsError: If the run holds features that were made otherwise.
    """
    run = Run(options.run)
    with join() as ranks:
        images = _open_images(run, options)
        setting = Setting.choose(options.device, options.precision, local_rank=ranks.local_rank)
        plans = make_plans(options, images, setting)
        ledgers = {split: Ledger(run.features(split)) for split in plans}
        todo = {s: ledger for s, ledger in ledgers.items() if not ledger.finished(plans[s])}
        if todo or not run.has(HEAD):
            check_plans(run, plans, ledgers, options)
            extractor = _load(options, images.sources[next(iter(todo or plans))], setting)
            images.check_classes(extractor.head.num_classes, extractor.class_names)
            for split, source in images.sources.items():
                _tell(split, source, extractor.head.num_classes)
            ranks.wait()  # nobody writes before everybody has checked
            if ranks.first:
                _begin(run, extractor.head, todo, plans, options.overwrite)
            ranks.wait()
            for split, ledger in todo.items():
                job = _job(options, images.sources[split], extractor, ledger, ranks)
                info = _info(options, split, extractor)
                extract_split(job, ranks, plans[split], info, watch.progress)
        else:
            logger.info("%s is up to date", run.folder)
        if ranks.first:
            _tidy(run, ledgers)
            _write_classes(run, images.names, options)
            keep_embedding(run, options.backbone)
        ranks.wait()
        return _result(run, tuple(plans))


def state(options: ExtractOptions) -> State:
    """Whether the features are there as `work` would make them (see it for errors)."""
    run = Run(options.run)
    images = _open_images(run, options)
    plans = make_plans(options, images, Setting.choose(options.device, options.precision))
    ledgers = {split: Ledger(run.features(split)) for split in plans}
    todo = [split for split, ledger in ledgers.items() if not ledger.finished(plans[split])]
    if not todo and run.has(HEAD):
        return State.CURRENT
    # An interrupted extraction has no manifest yet.
    return State.OTHER if any(run.has(run.manifest(s)) for s in todo) else State.MISSING


def _tell(split: str, source: ImageSource, num_classes: int) -> None:
    """Say what was found, before the long work starts."""
    labels = source.known_labels
    if labels is None:
        logger.info("%s: %d archives", split, source.groups)
        return
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    logger.info(
        "%s: %s images, %s to %s of each of %s classes",
        *(split, f"{len(labels):,}", f"{counts.min():,}", f"{counts.max():,}", f"{num_classes:,}"),
    )


def _info(options: ExtractOptions, split: str, extractor: Extractor) -> dict[str, Any]:
    """What the manifest says besides shards and provenance."""
    return {
        "split": split,
        "source": options.data,
        "transform": dict(extractor.preprocess.record),
        "decoder": "pillow" if _decoder(options, extractor) is None else "torch",
        "head_of": vars(extractor.reading),
    }


def _tidy(run: Run, ledgers: dict[str, Ledger]) -> None:
    """Remove what a process that was killed at the very end left behind."""
    for name in (HEAD, CLASSES):
        remove_temporary(run.folder, name)
    for ledger in ledgers.values():
        ledger.clear()
        remove_temporary(ledger.folder)


def _open_images(run: Run, options: ExtractOptions) -> SplitSources:
    data = open_data(
        options.data,
        root=options.root,
        prefixes=_prefixes(options),
        image_key=options.image_key,
        label_key=options.label_key,
    )
    splits = choose_splits(data, options.split, options.data)
    fresh = options.overwrite and "train" in splits
    known = ClassTable.load(run.path(CLASSES)).names if run.has(CLASSES) and not fresh else None
    return open_splits(
        data,
        splits,
        known=known,
        order=options.class_order,
        class_map=options.class_map,
        limit=options.limit,
    )


def _prefixes(options: ExtractOptions) -> dict[str, str]:
    parts = [text.partition("=") for text in options.prefix_map]
    wrong = [old for old, equals, _ in parts if not equals]
    if wrong:
        raise InputError("--prefix-map is not understood", got=wrong[0], expected="OLD=NEW")
    return {old: new for old, _, new in parts}


def _load(options: ExtractOptions, source: ImageSource, setting: Setting) -> Extractor:
    overrides = Overrides(
        image_size=options.image_size,
        crop_pct=options.crop_pct,
        interpolation=options.interpolation,
        mean=_channels("mean", options.mean),
        std=_channels("std", options.std),
    )
    classifier = load_classifier(options.backbone, options.weights, overrides)
    transform = classifier.preprocess.transform
    dataset = BatchDataset(source, transform, exif_rotate=options.exif_rotate)
    images = first_batch(dataset, options.batch_size, skip_bad=options.on_bad_image == "skip")
    return Extractor.prove(classifier, images, setting, head=options.head, compiled=options.compile)


def _channels(name: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--{name} is not understood", got=text, expected="numbers with commas"
        ) from error


def _begin(
    run: Run, head: Head, ledgers: dict[str, Ledger], plans: dict[str, Plan], overwrite: bool
) -> None:
    """Write the head, and clear what the new features replace."""
    plan = next(iter(plans.values()))
    recorded = {k: v for k, v in plan["options"].items() if k in OF_THE_MODEL}
    provenance = {**plan, "options": recorded}
    if not run.has(HEAD) or run.provenance(HEAD) != provenance:
        head.save(run.path(HEAD), provenance=provenance, overwrite=overwrite)
    for split, ledger in ledgers.items():
        ledger.begin(plans[split])


def _job(
    options: ExtractOptions,
    source: ImageSource,
    extractor: Extractor,
    ledger: Ledger,
    ranks: Ranks,
) -> Job:
    preprocess, decoder = extractor.preprocess, _decoder(options, extractor)
    return Job(
        dataset=BatchDataset(
            source,
            preprocess.transform,
            exif_rotate=options.exif_rotate,
            keep_encoded=None if decoder is None else is_plain_jpeg,
        ),
        decoder=decoder,
        features_of=extractor,
        ledger=ledger,
        num_classes=extractor.head.num_classes,
        width=extractor.head.width,
        dtype=options.store_dtype,
        batch_size=options.batch_size,
        workers=_workers(options, ranks),
        pin_memory=extractor.setting.device.type == "cuda",
        skip_bad=options.on_bad_image == "skip",
        rank=ranks.rank,
        world=ranks.world,
        shard_samples=options.shard_samples,
    )


def _decoder(options: ExtractOptions, extractor: Extractor) -> DeviceDecoder | None:
    preprocess = extractor.preprocess
    if choose_decoder(options, extractor.setting) == "pillow":
        return None
    if preprocess.geometry is None or options.exif_rotate:
        if options.decode == "auto":
            return None
        raise InputError(
            "--decode torch cannot do this model's transform",
            got="--exif-rotate" if options.exif_rotate else str(preprocess.record.get("origin")),
            expected="scaling of the shorter side and a crop of the centre",
            todo="leave --decode out",
        )
    geometry = preprocess.geometry.on_tensor
    return DeviceDecoder(extractor.setting.device, geometry, preprocess.transform)


def _workers(options: ExtractOptions, ranks: Ranks) -> int:
    """Loading processes: one a core of this process's share of the machine."""
    if options.workers is not None:
        return options.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(16, (cores or 1) // ranks.local_world))


def _write_classes(run: Run, names: tuple[str, ...] | None, options: ExtractOptions) -> None:
    """Write classes.json if anything of it has changed."""
    earlier = ClassTable.load(run.path(CLASSES)) if run.has(CLASSES) else None
    num_classes = Head.load(run.path(HEAD)).num_classes
    limits = earlier.thresholds if earlier is not None else Thresholds()
    table = ClassTable(
        names=names or tuple(str(number) for number in range(num_classes)),
        counts=_train_counts(run, num_classes),
        thresholds=Thresholds(
            few=limits.few if options.few_below is None else options.few_below,
            many=limits.many if options.many_above is None else options.many_above,
        ),
    )
    if earlier is None or earlier.to_dict() != table.to_dict():
        table.save(run.path(CLASSES), overwrite=True)


def _train_counts(run: Run, num_classes: int) -> IntArray:
    if not run.has(run.manifest("train")):
        logger.warning("no training features yet: the class counts in classes.json are 0")
        return np.zeros(num_classes, dtype=np.int64)
    return _counts(run, "train")


def _counts(run: Run, split: str) -> IntArray:
    counts: IntArray = read_tensors(run.features(split) / STATISTICS)[0]["counts"]
    return counts


def _result(run: Run, splits: tuple[str, ...]) -> ExtractResult:
    stores = {split: FeatureStore.open(run.features(split)) for split in splits}
    return ExtractResult(
        classes=ClassTable.load(run.path(CLASSES)),
        head=Head.load(run.path(HEAD)),
        samples={split: len(store) for split, store in stores.items()},
        skipped={split: int(store.info["skipped"]) for split, store in stores.items()},
        counts={split: _counts(run, split) for split in splits},
        folder=run.folder,
        files=tuple(map(run.path, (CLASSES, HEAD, *map(run.manifest, splits)))),
    )
