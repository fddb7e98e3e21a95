"""The stage `alphafix evaluate`: features, head and correction -> report.json."""

from __future__ import annotations

from alphafix.classes import ClassTable
from alphafix.correction import Correction
from alphafix.evaluation.evaluation import Evaluation
from alphafix.evaluation.gates import Gates
from alphafix.evaluation.measure import compare_predictions
from alphafix.evaluation.predictions import predict_pair
from alphafix.features.store import FeatureStore
from alphafix.head import Head
from alphafix.options.evaluate import EvaluateOptions
from alphafix.progress import Progress, silent
from alphafix.run import CLASSES, CORRECTION, HEAD, REPORT, Provenance, Run


def evaluate(options: EvaluateOptions, *, progress: Progress = silent) -> Evaluation:
    """Evaluate a run's correction on stored features and write report.json.

    An earlier report.json is replaced: it is cheap, and follows from what is there.

    Raises:
        MissingStageError: If there are no features of the split, or no correction.
        StaleInputError: If the correction was made from something that has changed since.
        InputError: If features, head and correction do not fit together.
    """
    run = Run(options.run)
    classes = ClassTable.load(run.require(CLASSES))
    store = FeatureStore.open(run.features(options.on))
    store.require_labels()
    head = Head.load(run.require(HEAD))
    head.require_match(width=store.width, num_classes=store.num_classes)
    run.require_fresh(CORRECTION)
    correction = Correction.load(run.path(CORRECTION))
    before, after = predict_pair(store, head, correction, progress=progress)
    inputs = run.hashes(CLASSES, HEAD, CORRECTION, run.manifest(options.on))
    found = compare_predictions(
        classes,
        store.labels,
        before,
        after,
        on=options.on,
        method=correction.method,
        draws=options.bootstraps,
        seed=options.seed,
        provenance=Provenance("evaluate", options.recorded(), inputs).to_dict(),
        progress=progress,
    )
    found.save(run.path(REPORT), overwrite=True)
    return found


def gates_of(options: EvaluateOptions) -> Gates:
    """The limits that the options set."""
    return Gates(
        min_few_gain=options.min_few_gain,
        max_overall_drop=options.max_overall_drop,
        max_base_drop=options.max_base_drop,
        max_class_drop=options.max_class_drop,
        confident=options.confident,
    )
