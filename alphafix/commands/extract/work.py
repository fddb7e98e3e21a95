"""`alphafix extract`: images and a model -> classes.json, the head, features."""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.checkpoints import open_checkpoint
from alphafix.checkpoints.formats.opening import find_file
from alphafix.commands.command import Watch
from alphafix.commands.extract.allocator import kept_memory
from alphafix.commands.extract.broken import broken_results
from alphafix.commands.extract.kept import kept_features
from alphafix.commands.extract.options import ExtractOptions
from alphafix.devices import Placement
from alphafix.distributed import Ranks, join, loading_processes
from alphafix.errors import InputError, Words, on_command_line, option, spelt
from alphafix.features.extraction import Job, extracted
from alphafix.features.reuse import advice, only_weights_differ, take_over
from alphafix.features.split import extract_split, of_the_model, require_one_model
from alphafix.features.store import FeatureStore, made_with, store_artifact
from alphafix.files import atomic_path, digest, remove_temporary, sha256_file
from alphafix.images.batches import BatchDataset, first_batch
from alphafix.images.encoded import choose_decoder, device_decoder, is_plain_jpeg
from alphafix.images.labels import KINDS, Known
from alphafix.images.source import ImageSource
from alphafix.images.spec import Details, open_data, resolved
from alphafix.images.splits import Said, SplitSources, choose_splits, open_splits
from alphafix.metrics.accuracy import Accuracy, accuracy_of_counts
from alphafix.metrics.doubts import Hits, doubts
from alphafix.metrics.samples import hits_of, sample_doubts
from alphafix.models.arguments import arguments
from alphafix.models.check import Part, check, read_answers
from alphafix.models.extractor import Extractor
from alphafix.models.loading import load_classifier, made_by, own_file, without_folder
from alphafix.models.model import AmbiguousModelError
from alphafix.models.preprocess import Overrides
from alphafix.models.variants import tell_best, with_figures
from alphafix.oltr.training.embedding import EMBEDDING
from alphafix.progress import Progress
from alphafix.run.artifact import Artifact, Plan, State
from alphafix.run.directory import CLASSES, FEATURES, HEAD, Provenance, Run
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


def work(options: ExtractOptions, watch: Watch) -> ExtractResult:
    """Extract features and the head into a run directory.

    What an interrupted command left is used; what is finished is left as it is, and features
    whose model has another head stay (see `kept_features`). Under `torchrun` each process extracts
    its part.

    Raises:
        InputError: If the model, its weights or the data cannot be used, or do not fit.
        TargetExistsError: If the run holds features that were made otherwise.
    """
    run = Run(options.run)
    with join() as ranks:
        images = _open_images(options, _known(run, options))
        images.warn()
        setting = Placement.choose(options.device, options.precision, local_rank=ranks.local_rank)
        broken = _broken(run, options, images, ranks)
        stores = _stores(run, options, images, setting, ranks, broken)
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
            extractor, images = _load(options, images, next(iter(todo or stores)), setting)
            checked = _check(options, images, extractor, watch.progress)
        if needed:
            ranks.wait()  # nobody writes before everybody has checked
            kept = {}
            if ranks.first:
                alone = functools.partial(_job, options, extractor=extractor, ranks=Ranks())
                kept = kept_features(others, images, extractor, alone)
                plan = next(iter(stores.values())).plan
                _save_head(run, extractor.head, plan, options, anew=HEAD in broken)
            anew = ranks.of_first(tuple(split for split in todo if split not in kept))
            for split in anew if ranks.first else ():
                todo[split].begin()
            ranks.wait()
            for split, store in todo.items():
                job, info = _job(options, split, images.sources[split], extractor, ranks)
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
            _keep_embedding(run, options.backbone)
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
    run = Run(options.run)
    setting = Placement.choose(options.device, options.precision)
    images = _open_images(options, _known(run, options))
    found = {store.state for store in _stores(run, options, images, setting, Ranks()).values()}
    if found == {State.CURRENT}:
        # What is written after the features, where a kill may have come between.
        if not (run.has(HEAD) and run.has(CLASSES)):
            return State.MISSING
        earlier = ClassTable.load(run.path(CLASSES))
        table = _class_table(run, images, options, earlier)
        return State.CURRENT if earlier.to_dict() == table.to_dict() else State.UNFINISHED
    return State.OTHER if State.OTHER in found else State.MISSING


def _broken(
    run: Run, options: ExtractOptions, images: SplitSources, ranks: Ranks
) -> frozenset[str]:
    """What is damaged and may be made anew."""
    if not options.overwrite:
        return frozenset()
    return ranks.of_first(broken_results(run, images.sources) if ranks.first else frozenset())


def _stores(
    run: Run,
    options: ExtractOptions,
    images: SplitSources,
    setting: Placement,
    ranks: Ranks,
    broken: frozenset[str] = frozenset(),
) -> dict[str, Artifact]:
    """The store of each split, as it would be made now; the first process looks at the data."""
    sources = images.sources if ranks.first else {}
    data = ranks.of_first({split: source.fingerprint() for split, source in sources.items()})
    decoder = choose_decoder(options.decode, setting.device, exif_rotate=options.exif_rotate)
    common = {
        **options.recorded(),
        "precision": setting.precision,
        "decode": decoder,
        "backbone": without_folder(options.backbone),
        "model_sha256": _hash(own_file(options.backbone)),
        "weights_sha256": _hash(options.weights),
        "config_sha256": _hash_all(made_by(options.backbone, options.weights)),
    }
    found = {}
    for split in images.sources:
        recorded = {
            **common,
            "split": split,
            "data_sha256": data[split].sha256,
            "data_hashed": data[split].of,
            "labels_sha256": images.reading.digest(),
        }
        plan = Provenance(stage="extract", options=recorded, inputs={}).to_dict()
        store = store_artifact(run.features(split), plan)
        earlier = () if split in broken else (store.recorded(), store.begun())
        found[split] = replace(store, plan=_spelt_as_before(plan, *earlier))
    return found


def _spelt_as_before(plan: Plan, *earlier: Plan | None) -> Plan:
    """The plan, with places that are the same as in an earlier one written as they were there."""
    options = dict(plan["options"])
    for other in earlier:
        before = dict((other or {}).get("options") or {})
        for name in ("data", "root"):
            now, then = options.get(name), before.get(name)
            if now and then and resolved(str(now)) == resolved(str(then)):
                options[name] = then
    return {**plan, "options": options}


def _hash(file: Path | None) -> str | None:
    """Hash of a model's file; of all its parts for the index of a sharded model."""
    if file is None:
        return None
    file = find_file(file)
    if file.suffix == ".json" and file.name != "config.json":
        return open_checkpoint(file).sha256()
    return sha256_file(file)


def _hash_all(files: tuple[Path, ...]) -> str | None:
    """Hash of what decides how a model is made, if there is such a file."""
    hashes = {file.name: sha256_file(file) for file in files}
    return digest(hashes) if hashes else None


def _known(run: Run, options: ExtractOptions) -> Known | None:
    """What is known of the run's classes, unless this extraction makes them anew."""
    fresh = options.overwrite and "train" in (options.split or "train")  # which is always a split
    return _known_of(ClassTable.load(run.path(CLASSES))) if run.has(CLASSES) and not fresh else None


def _known_of(classes: ClassTable) -> Known:
    """What a class table says of names and labels."""
    kind = classes.labels.get("read_as")
    return Known(
        classes.names, kind if kind in KINDS else None, classes.labels.get("order", CLASSES)
    )


def _open_images(options: ExtractOptions, known: Known | None) -> SplitSources:
    data = open_data(options.data, Details.of(vars(options)))
    said = Said.of(vars(options))
    return open_splits(
        data, choose_splits(data, options.split, options.data, said), said, known=known
    )


def without_store(
    options: ExtractOptions, split: str, classes: ClassTable, transform: Mapping[str, Any] | None
) -> tuple[Job, Head]:
    """One split's extraction by itself, of these classes, and the head of its model.

    Args:
        options: What to extract from.
        split: The split.
        classes: The classes.
        transform: The record of the transform of earlier features, to be used again.

    Raises:
        InputError: If the model, its weights or the data cannot be used, or do not fit.
    """
    images = _open_images(options, _known_of(classes))
    setting = Placement.choose(options.device, options.precision)
    extractor, images = _load(options, images, split, setting, transform)
    job, _ = _job(options, split, images.sources[split], extractor, Ranks())
    return job, extractor.head


def _load(
    options: ExtractOptions,
    images: SplitSources,
    split: str,
    setting: Placement,
    transform: Mapping[str, Any] | None = None,
) -> tuple[Extractor, SplitSources]:
    """The model with its head, proven on the first images of a split, and fit for the classes."""
    overrides = Overrides(
        image_size=options.image_size,
        crop_pct=options.crop_pct,
        interpolation=options.interpolation,
        mean=_channels("mean", options.mean),
        std=_channels("std", options.std),
    )

    def with_arguments(args: Mapping[str, Any]) -> tuple[Extractor, BatchDataset]:
        classifier = load_classifier(
            options.backbone,
            options.weights,
            overrides,
            section=options.section,
            args=args,
            transform=transform,
        )
        prepare = classifier.preprocess.transform
        dataset = BatchDataset(images.sources[split], prepare, exif_rotate=options.exif_rotate)
        batch = first_batch(dataset, options.batch_size, skip_bad=options.on_bad_image == "skip")
        head, compiled = options.head, options.compile
        return Extractor.prove(classifier, batch, setting, head=head, compiled=compiled), dataset

    args = arguments(options.model_arg)
    try:
        found, dataset = with_arguments(args)
    except AmbiguousModelError as error:
        tried = ((more, *with_arguments({**args, **more})) for more in error.choices)
        raise with_figures(error, tried) from error
    images = images.check_classes(found.head.num_classes, found.class_names)
    images.tell(found.head.num_classes)
    if options.check is None and transform is None:  # which say that it is the right one
        tell_best(found, dataset, spec=options.backbone, split=split)
    return found, images


def _check(
    options: ExtractOptions, images: SplitSources, extractor: Extractor, progress: Progress
) -> str | None:
    """Hold the model against what the user's own code gave, if that is given: before any work."""
    if options.check is None:
        return None
    answers = read_answers(options.check)
    split = answers.split or next((s for s in ("val", "test") if s in images.sources), "train")
    if split not in images.sources:
        raise InputError(
            f"{options.check} is of a split that is not extracted",
            got=split,
            expected=" or ".join(images.sources),
            todo=f"correct the file, or give {option('split')}",
        )
    job, _ = _job(options, split, images.sources[split], extractor, Ranks())
    job = replace(job, shard_samples=options.batch_size, dtype="float32")
    size = answers.count if answers.accuracy is None else job.dataset.source.known_size
    with progress(f"check {split}", size) as advance:
        found = (
            Part(part.ids, part.labels, extractor.head.logits(part.array()))
            for part in extracted(job, advance)
        )
        return check(answers, found, images.names)


def _channels(name: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"{option(name)} is not understood", got=text, expected="numbers with commas"
        ) from error


def _save_head(run: Run, head: Head, plan: Plan, options: ExtractOptions, *, anew: bool) -> None:
    provenance = {**plan, "options": of_the_model(plan)}
    if anew or not run.has(HEAD) or run.provenance(HEAD) != provenance:
        file = options.weights or own_file(options.backbone)
        head.save(
            run.path(HEAD),
            provenance=provenance,
            overwrite=options.overwrite,
            like=None if file is None else find_file(file),
        )


def _job(
    options: ExtractOptions,
    split: str,
    source: ImageSource,
    extractor: Extractor,
    ranks: Ranks,
) -> tuple[Job, dict[str, Any]]:
    """This process's part of a split, and what the manifest says besides shards and plan."""
    preprocess, device = extractor.preprocess, extractor.setting.device
    decoder = device_decoder(
        options.decode,
        device,
        None if preprocess.geometry is None else preprocess.geometry.on_tensor,
        preprocess.transform,
        exif_rotate=options.exif_rotate,
    )
    job = Job(
        dataset=BatchDataset(
            source,
            preprocess.transform,
            exif_rotate=options.exif_rotate,
            keep_encoded=None if decoder is None else is_plain_jpeg,
        ),
        decoder=decoder,
        around=kept_memory,
        features_of=extractor,
        head=extractor.head,
        num_classes=extractor.head.num_classes,
        width=extractor.head.width,
        dtype=options.store_dtype,
        batch_size=options.batch_size,
        workers=loading_processes(options.workers, ranks),
        pin_memory=device.type == "cuda",
        skip_bad=options.on_bad_image == "skip",
        rank=ranks.rank,
        world=ranks.world,
        shard_samples=options.shard_samples,
    )
    info = {
        "split": split,
        "source": options.data,
        "transform": dict(preprocess.record),
        "decoder": "pillow" if decoder is None else "torch",
        "head_of": vars(extractor.reading),
        "model_args": dict(extractor.args),
    }
    return job, info


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
    table = _class_table(run, images, options, earlier)
    if earlier is None or earlier.to_dict() != table.to_dict():
        table.save(run.path(CLASSES), overwrite=True)


def _class_table(
    run: Run, images: SplitSources, options: ExtractOptions, earlier: ClassTable | None
) -> ClassTable:
    """The class table of the features that are there, with what an earlier one had decided."""
    num_classes = Head.load(run.path(HEAD)).num_classes
    if run.has(run.manifest("train")):
        counts = FeatureStore.open(run.features("train")).class_counts()
    else:
        counts = np.zeros(num_classes, dtype=np.int64)
    names = images.names or (earlier.names if earlier else tuple(map(str, range(num_classes))))
    table = ClassTable(names, counts, labels=images.decided())
    if earlier is not None:
        table = replace(table, thresholds=earlier.thresholds)
    return table.with_thresholds(options.few_below, options.many_above)


def _keep_scatter(run: Run, ranks: Ranks) -> None:
    """Measure how base classes scatter, for `train --method lda`, while there are many processes.

    One process alone does so when that method is trained: it may never be.
    """
    base = ClassTable.load(run.path(CLASSES)).base
    FeatureStore.open(run.features("train")).within_class(base, ranks)
    ranks.wait()


def _keep_embedding(run: Run, backbone: str) -> None:
    """Copy the sample that train-oltr left beside a model with a memory into the run.

    A sample of another model, from an extraction before, is removed.
    """
    kind, _, folder = backbone.partition(":")
    source, target = Path(folder) / EMBEDDING, run.path(EMBEDDING)
    if kind != "oltr" or not source.is_file():
        target.unlink(missing_ok=True)
    elif not target.is_file() or sha256_file(source) != sha256_file(target):
        with atomic_path(target, overwrite=True) as temporary:
            shutil.copyfile(source, temporary)


def _result(run: Run, splits: tuple[str, ...]) -> ExtractResult:
    stores = {split: FeatureStore.open(run.features(split)) for split in splits}
    classes, head = ClassTable.load(run.path(CLASSES)), Head.load(run.path(HEAD))
    base = hits_of(stores)
    means = stores[next(iter(base))].class_means() if base else None
    return ExtractResult(
        classes=classes,
        head=head,
        base=base,
        labels={split: store.info.get("labels", {}) for split, store in stores.items()},
        transform=next(iter(stores.values())).info["transform"],
        cut={split: int(store.info.get("cut", 0)) for split, store in stores.items()},
        doubts=[
            *([] if means is None else doubts(head, classes.names, base, means)),
            *sample_doubts({split: made_with(store) for split, store in stores.items()}, base),
        ],
        samples={split: len(store) for split, store in stores.items()},
        skipped={split: int(store.info["skipped"]) for split, store in stores.items()},
        counts={split: store.class_counts() for split, store in stores.items()},
        folder=run.folder,
        files=tuple(map(run.path, (CLASSES, HEAD, *map(run.manifest, splits)))),
    )
