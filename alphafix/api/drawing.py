"""All figures of a run directory, as Matplotlib figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.evaluate.work import measure
from alphafix.report.collect import Evidence, pictures
from alphafix.run.directory import NEIGHBORS, Run
from alphafix.values.neighbors import Neighbours

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(options: EvaluateOptions) -> dict[str, Figure]:
    """Evaluate and draw every figure that the data allow, by name.

    Raises:
        MissingStageError: If there are no features of the split, no neighbours or no correction.
        StaleInputError: If one was made from something that has changed since.
    """
    run = Run(options.run)
    run.require_fresh(NEIGHBORS)
    found = measure(options)
    evidence = Evidence(
        found.evaluation,
        found.both,
        found.store,
        found.head,
        found.correction,
        Neighbours.load(run.path(NEIGHBORS)),
        found.groups,
    )
    return {picture.name: picture.drawing for picture in pictures(evidence)}
