"""The stages as functions: on values in memory, or on a run directory.

Each takes the values that its stage reads, as arguments, and returns what it makes; nothing is
written then. Without values it does what the command of the same name does in the run directory
``run`` (default: the environment variable ALPHAFIX_RUN, or "alphafix-run"). The other keywords
are those of the command line, with the same defaults. In every path, be it a text or a `Path`, and
in those that values are saved to and loaded from, ``~`` is the home folder. Nothing here prints.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import nearest_neighbours, warn_of_few
from alphafix.api.inputs import (
    Features,
    options_for_values,
    options_of,
    required,
    store_of,
)
from alphafix.commands.command import Watch, alone
from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.inspect.options import InspectOptions
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.errors import InputError, counted
from alphafix.run.directory import NEIGHBORS, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from alphafix.api.keywords import (
        CompareKeywords,
        EvaluateKeywords,
        ExtractKeywords,
        InspectKeywords,
        NeighborsKeywords,
        PatchKeywords,
        TrainKeywords,
    )
    from alphafix.checkpoints.head.inspection import Inspection
    from alphafix.commands.extract.work import ExtractResult
    from alphafix.commands.patch.work import PatchResult
    from alphafix.commands.train.work import TrainResult
    from alphafix.features.features import Features as FeatureValues
    from alphafix.metrics.comparison import Comparison
    from alphafix.metrics.evaluation import Evaluation
    from alphafix.openset.evaluating import Evaluated


def extract(backbone: str, data: str | Path, **options: Unpack[ExtractKeywords]) -> ExtractResult:
    """Compute features of images and find the head, into a run directory.

    Args:
        backbone: The model, such as "timm:resnet50".
        data: The images: a folder, a list, archives or arrays.
        **options: As `alphafix extract` takes them.

    Returns:
        Class table, head and sample counts; `FeatureStore.open` opens the features.

    Raises:
        InputError: If the model, its weights or the data cannot be used, or do not fit.
        TargetExistsError: If the run holds features that were made otherwise.
    """
    from alphafix.commands.extract.work import extract_all as run_stage

    given = options_of(ExtractOptions, options, backbone=backbone, data=str(data))
    return alone(run_stage, given)


def find_neighbors(
    features: Features | None = None,
    head: Head | None = None,
    classes: ClassTable | None = None,
    **options: Unpack[NeighborsKeywords],
) -> Neighbours:
    """Find the base classes nearest to each few-split class.

    Args:
        features: Training features and labels; without them, those of the run directory.
        head: The head that they enter, to check that both fit.
        classes: The class table; by default the training labels are counted.
        **options: As `alphafix neighbors` takes them.

    Raises:
        InputError: If the values do not fit together, or there is nothing to correct.
        MissingStageError: If the run directory has no features yet.
    """
    if features is None:
        _no_others(head=head, classes=classes)
        from alphafix.commands.neighbors.work import work as run_stage

        return alone(run_stage, options_of(NeighborsOptions, options)).neighbours
    chosen = options_for_values(NeighborsOptions, options)
    store = store_of(features, num_classes=_number(head, classes))
    table = _table(store, classes).with_thresholds(chosen.few_below, chosen.many_above)
    if head is not None:
        head.require_match(width=store.width, num_classes=len(table))
    warn_of_few(chosen.k)
    return nearest_neighbours(
        store.class_means(), table, k=chosen.k, metric=chosen.metric, seed=chosen.seed
    )


def train(
    features: Features | None = None,
    head: Head | None = None,
    classes: ClassTable | None = None,
    neighbors: Neighbours | None = None,
    *,
    val: Features | None = None,
    **options: Unpack[TrainKeywords],
) -> Correction:
    """Train AlphaNet, or fit another method: corrected rows for the few-split classes.

    Args:
        features: Training features and labels; without them, those of the run directory.
        head: The head to correct.
        classes: The class table; by default the training labels are counted.
        neighbors: From `find_neighbors`; found with its defaults if left out.
        val: Validation features and labels, on which epochs and settings are chosen.
        **options: As `alphafix train` takes them.

    Raises:
        InputError: If the values or options do not fit together.
        MissingStageError: If the run directory lacks a result of an earlier stage.
    """
    from alphafix.commands.train.work import settings_of
    from alphafix.commands.train.work import work as run_stage
    from alphafix.rivals.correct import correct

    if features is None:
        _no_others(head=head, classes=classes, neighbors=neighbors, val=val)
        return _trained(alone(run_stage, options_of(TrainOptions, options)))
    chosen = options_for_values(TrainOptions, options)
    own: Head = required("head", head)
    store, table, near = _training(features, own, classes, neighbors, max(chosen.k, default=None))
    held = None if val is None else store_of(val, num_classes=own.num_classes)
    return correct(chosen.method, Given(store, held, own, table, near), settings_of(chosen))


def evaluate(
    features: Features | None = None,
    head: Head | None = None,
    classes: ClassTable | None = None,
    correction: Correction | None = None,
    **options: Unpack[EvaluateKeywords],
) -> Evaluation:
    """Compare base and corrected accuracy on the same samples.

    Args:
        features: Features and labels to evaluate on; without them, the split ``on`` of the run
            directory.
        head: The base head.
        classes: The class table, which says what is few-split.
        correction: The correction.
        **options: As `alphafix evaluate` takes them.

    Raises:
        InputError: If the values do not fit together.
        MissingStageError: If the run directory lacks a result of an earlier stage.
    """
    if features is None:
        _no_others(head=head, classes=classes, correction=correction)
        from alphafix.commands.evaluate.work import work as run_stage

        return alone(run_stage, options_of(EvaluateOptions, options)).evaluation
    return _evaluated(features, head, classes, correction, options).evaluation


def compare(
    features: Features | None = None,
    head: Head | None = None,
    classes: ClassTable | None = None,
    neighbors: Neighbours | None = None,
    *,
    val: Features | None = None,
    test: Features | None = None,
    **options: Unpack[CompareKeywords],
) -> Comparison:
    """Compare AlphaNet, its control and the simpler methods on the same features.

    Args:
        features: Training features and labels; without them, those of the run directory.
        head: The base head.
        classes: The class table; by default the training labels are counted.
        neighbors: From `find_neighbors`, for its K; found with its defaults if left out.
        val: Validation features and labels, on which all settings are chosen.
        test: Features and labels to compare on (with ``on="val"`` not needed).
        **options: As `alphafix compare` takes them.

    Raises:
        InputError: If the values or options do not fit together.
        MissingStageError: If the run directory lacks a result of an earlier stage.
    """
    from alphafix.commands.compare.work import settings_of
    from alphafix.commands.compare.work import work as run_stage
    from alphafix.rivals.comparing import compare as compare_values

    if features is None:
        _no_others(head=head, classes=classes, neighbors=neighbors, val=val, test=test)
        return alone(run_stage, options_of(CompareOptions, options)).comparison
    chosen = options_for_values(CompareOptions, options)
    own: Head = required("head", head)
    store, table, near = _training(features, own, classes, neighbors, None)
    held = store_of(required("val", val), num_classes=own.num_classes)
    measured = held
    if chosen.on == "test":
        measured = store_of(required("test", test), num_classes=own.num_classes)
    given = Given(store, held, own, table, near)
    return compare_values(given, measured, settings_of(chosen), on=chosen.on)


def patch(
    file: str | Path,
    correction: Correction | str | Path | None = None,
    *,
    of: Head | None = None,
    **options: Unpack[PatchKeywords],
) -> PatchResult:
    """Write corrected rows into a copy of a model file, or into it.

    Args:
        file: The model file, the index of a sharded model, or the folder that holds it.
        correction: The correction, or its file; by default that of the run directory.
        of: The head that the correction was trained for; by default, where a correction is
            given, the head that is found in the file.
        **options: As `alphafix patch` takes them.

    Raises:
        InputError: If the head is not in the file or cannot hold the correction.
        TargetExistsError: If the target is there already.
        MissingStageError: If the run directory has no head or no correction yet.
    """
    from alphafix.commands.patch.work import patch_values
    from alphafix.commands.patch.work import work as run_stage

    if not isinstance(correction, Correction):
        _no_others(of=of)
        given = options_of(PatchOptions, options, file=file, correction=correction)
        return alone(run_stage, given)
    if "run" in options:
        raise InputError("run does not go together with a correction that is given as a value")
    return patch_values(options_of(PatchOptions, options, file=file), of, correction, Watch())


def inspect(file: str | Path, **options: Unpack[InspectKeywords]) -> Inspection:
    """Show which tensors of a model file could be the head.

    Args:
        file: The model file, of any format.
        **options: As `alphafix inspect` takes them.

    Raises:
        InputError: If the file is not there.
        FileFormatError: If it is damaged or of no known format.
    """
    from alphafix.commands.inspect.work import work as run_stage

    return alone(run_stage, options_of(InspectOptions, options, file=file))


def figures(
    features: Features | None = None,
    head: Head | None = None,
    classes: ClassTable | None = None,
    correction: Correction | None = None,
    neighbors: Neighbours | None = None,
    **options: Unpack[EvaluateKeywords],
) -> dict[str, Figure]:
    """Every figure of the AlphaNet paper that the data allow, as Matplotlib figures by name.

    Args:
        features: Features and labels to evaluate on; without them, the split ``on`` of the run
            directory.
        head: The base head.
        classes: The class table.
        correction: The correction.
        neighbors: From `find_neighbors`.
        **options: As `alphafix evaluate` takes them.

    Raises:
        InputError: If the values do not fit together.
        MissingStageError: If the run directory lacks a result of an earlier stage.
    """
    from alphafix.commands.evaluate.work import measure
    from alphafix.report.collect import Evidence, pictures

    if features is None:
        _no_others(head=head, classes=classes, correction=correction, neighbors=neighbors)
        chosen = options_of(EvaluateOptions, options)
        run = Run(chosen.run)
        run.require_fresh(NEIGHBORS)
        evidence = Evidence(measure(chosen), Neighbours.load(run.path(NEIGHBORS)))
    else:
        found = _evaluated(features, head, classes, correction, options)
        evidence = Evidence(found, required("neighbors", neighbors))
    return {picture.name: picture.drawing for picture in pictures(evidence)}


def _evaluated(
    features: Features,
    head: Head | None,
    classes: ClassTable | None,
    correction: Correction | None,
    options: EvaluateKeywords,
) -> Evaluated:
    from alphafix.commands.evaluate.work import measure_values

    own: Head = required("head", head)
    return measure_values(
        options_for_values(EvaluateOptions, options),
        store_of(features, num_classes=own.num_classes),
        own,
        required("classes", classes),
        required("correction", correction),
    )


def _trained(found: TrainResult) -> Correction:
    """The correction, where more than a plan was asked for."""
    if found.correction is None:
        raise InputError(
            "nothing was trained", got="plan=True", todo="leave it out, or use the command line"
        )
    return found.correction


def _no_others(**values: object) -> None:
    """Check that no value is given where the run directory is meant."""
    given = [name for name, value in values.items() if value is not None]
    if given:
        raise InputError(
            f"{given[0]} is given without features",
            got=", ".join(given),
            expected="features too, or no values at all to work in a run directory",
        )


def _number(head: Head | None, classes: ClassTable | None) -> int | None:
    """C, as far as it is known."""
    if classes is not None:
        return len(classes)
    return None if head is None else head.num_classes


def _table(store: FeatureValues, classes: ClassTable | None) -> ClassTable:
    if classes is not None:
        return classes
    return ClassTable.of(store.labels, num_classes=store.num_classes)


def _training(
    features: Features,
    head: Head,
    classes: ClassTable | None,
    neighbors: Neighbours | None,
    k: int | None,
) -> tuple[FeatureValues, ClassTable, Neighbours]:
    """Training features with their class table and neighbours."""
    store = store_of(features, num_classes=head.num_classes)
    head.require_match(width=store.width, num_classes=store.num_classes)
    table = _table(store, classes)
    if neighbors is None:
        wanted = NeighborsOptions() if k is None else NeighborsOptions(k=k)
        neighbors = nearest_neighbours(store.class_means(), table, k=wanted.k)
    elif neighbors.few.tolist() != table.few.tolist():
        raise InputError(
            "the neighbours are not those of this class table's few-split classes",
            got=f"neighbours of {counted(len(neighbors.few), 'class')}, table of {len(table.few)}",
            expected="the same few-split classes in both",
            todo="find the neighbours with this class table",
        )
    return store, table, neighbors
