"""What an extraction is made of: images, model, plans of stores, jobs."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from alphafix.checkpoints import open_checkpoint
from alphafix.checkpoints.formats.class_names import ClassNames
from alphafix.checkpoints.formats.opening import find_file
from alphafix.checkpoints.head.inspection import class_names_of, the_same_in_all
from alphafix.commands.extract.allocator import kept_memory
from alphafix.commands.extract.broken import broken_results
from alphafix.commands.extract.options import ExtractOptions
from alphafix.devices import Placement
from alphafix.distributed import Ranks, loading_processes
from alphafix.errors import AlphafixError, InputError, Words, option
from alphafix.features.extraction import Job, extracted
from alphafix.features.split import of_the_model
from alphafix.features.store import MANIFEST, store_artifact
from alphafix.files import atomic_path, digest, sha256_file
from alphafix.images.batches import BatchDataset, first_batch
from alphafix.images.encoded import choose_decoder, device_decoder, is_plain_jpeg
from alphafix.images.labels import KINDS, Known
from alphafix.images.source import ImageSource
from alphafix.images.spec import Details, open_data, resolved
from alphafix.images.splits import Said, SplitSources, choose_splits, open_splits
from alphafix.models.arguments import arguments
from alphafix.models.check import Part, check, read_answers
from alphafix.models.extractor import Extractor
from alphafix.models.loading import load_classifier, made_by, own_file, without_folder
from alphafix.models.model import AmbiguousModelError
from alphafix.models.preprocess import Overrides
from alphafix.models.variants import tell_best, with_figures
from alphafix.oltr.training.embedding import EMBEDDING
from alphafix.progress import Progress
from alphafix.run.artifact import Artifact, Plan
from alphafix.run.directory import CLASSES, HEAD, Provenance, Run
from alphafix.shown import without_secrets
from alphafix.values.arrays import IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.division import Division
from alphafix.values.head import Head

logger = logging.getLogger(__name__)


def damaged(
    run: Run, options: ExtractOptions, images: SplitSources, ranks: Ranks
) -> frozenset[str]:
    """What is damaged and may be made anew."""
    if not options.overwrite:
        return frozenset()
    return ranks.of_first(broken_results(run, images.sources) if ranks.first else frozenset())


def stores_of(
    run: Run,
    options: ExtractOptions,
    images: SplitSources,
    setting: Placement,
    ranks: Ranks,
    broken: frozenset[str] = frozenset(),
    last: str = MANIFEST,
) -> dict[str, Artifact]:
    """The store of each split, as it would be made now; the first process looks at the data.

    ``last`` is the file that is written last.
    """
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
        store = store_artifact(run.features(split), plan, last)
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


def known_classes(run: Run, options: ExtractOptions) -> Known | None:
    """What is known of the run's classes, unless this extraction makes them anew."""
    fresh = options.overwrite and "train" in (options.split or "train")  # which is always a split
    return _known_of(ClassTable.load(run.path(CLASSES))) if run.has(CLASSES) and not fresh else None


def _known_of(classes: ClassTable) -> Known:
    """What a class table says of names and labels."""
    kind = classes.labels.get("read_as")
    return Known(
        classes.names, kind if kind in KINDS else None, classes.labels.get("order", CLASSES)
    )


def open_images(options: ExtractOptions, known: Known | None) -> SplitSources:
    """The images of all splits that are to be extracted."""
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
    images = open_images(options, _known_of(classes))
    setting = Placement.choose(options.device, options.precision)
    extractor, images = load(options, images, split, setting, transform)
    job, _ = job_of(options, split, images.sources[split], extractor, Ranks())
    return job, extractor.head


def load(
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
    if transform is None and (cut := found.preprocess.what_is_cut(overrides)) is not None:
        logger.info("%s", Words(cut))
    images = _of_the_model(images, found, options)
    images.tell(found.head.num_classes)
    if options.check is None and transform is None:  # which say that it is the right one
        tell_best(found, dataset, spec=options.backbone, split=split)
    return found, images


def _of_the_model(
    images: SplitSources, extractor: Extractor, options: ExtractOptions
) -> SplitSources:
    """Hold the data's classes against the model's own, which its code or its weights file names."""
    rows, names = extractor.head.num_classes, extractor.class_names
    if names is None and options.weights is not None:
        file: ClassNames = {}
        with suppress(AlphafixError):  # of what is no weights file, such as an exported program
            file = class_names_of(open_checkpoint(options.weights, section=options.section), rows)
        names = the_same_in_all(file)
        if names is not None and options.class_map is not None:
            # Its maker can have meant anything by such an entry, and the user has said the order.
            try:
                return images.check_classes(rows, names)
            except InputError as error:
                entry, kept = next(iter(file)), Words(option("class_map"))
                said = (error.brief, entry, options.weights.name, kept)
                logger.warning("%s, by %s in %s; the order of %s is taken", *said)
                names = None
    return images.check_classes(rows, names)


def check_model(
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
    job, _ = job_of(options, split, images.sources[split], extractor, Ranks())
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


def save_head(run: Run, head: Head, plan: Plan, options: ExtractOptions, *, anew: bool) -> None:
    """Write the head, unless it is there as the plan of a split would make it."""
    provenance = {**plan, "options": of_the_model(plan)}
    if anew or not run.has(HEAD) or run.provenance(HEAD) != provenance:
        file = options.weights or own_file(options.backbone)
        head.save(
            run.path(HEAD),
            provenance=provenance,
            overwrite=options.overwrite,
            like=None if file is None else find_file(file),
        )


def job_of(
    options: ExtractOptions,
    split: str,
    source: ImageSource,
    extractor: Extractor,
    ranks: Ranks,
    division: Division | None = None,
) -> tuple[Job, dict[str, Any]]:
    """This process's part of a split, and what the manifest says besides shards and plan."""
    division = division or Division()
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
        # A job's shards are the same however many processes it has.
        rank=division.index + division.count * ranks.rank,
        world=division.count * ranks.world,
        shard_samples=options.shard_samples,
    )
    info = {
        "split": split,
        "source": without_secrets(options.data),
        "transform": dict(preprocess.record),
        "decoder": "pillow" if decoder is None else "torch",
        "head_of": vars(extractor.reading),
        "model_args": dict(extractor.args),
    }
    return job, info


def keep_embedding(run: Run, backbone: str) -> None:
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


def class_table(
    images: SplitSources, options: ExtractOptions, counts: IntArray, earlier: ClassTable | None
) -> ClassTable:
    """The classes of an extraction.

    Args:
        images: Its images, whose labels name the classes.
        options: Its options; thresholds that they leave out stay.
        counts: Training samples of each class, int64 of shape C.
        earlier: The class table that is there, if there is one.
    """
    names = images.names or (earlier.names if earlier else tuple(map(str, range(len(counts)))))
    table = ClassTable(names, counts, labels=images.decided())
    if earlier is not None:
        table = replace(table, thresholds=earlier.thresholds)
    return table.with_thresholds(options.few_below, options.many_above)


def save_table(run: Run, table: ClassTable, earlier: ClassTable | None) -> None:
    """Write classes.json if it says something else than before."""
    if earlier is None or earlier.to_dict() != table.to_dict():
        table.save(run.path(CLASSES), overwrite=True)
