"""Values as Matplotlib figures."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING

from alphafix.errors import InputError
from alphafix.metrics.comparison import Comparison
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.open_set import OpenSet
from alphafix.report.distribution import draw_distribution
from alphafix.report.open_picture import open_curve_picture
from alphafix.report.pictures import alpha_picture, class_change_picture
from alphafix.report.tradeoff import draw_trade_off
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@singledispatch
def figure(value: object) -> Figure:
    """Draw a value.

    A class table is drawn as its distribution, a correction by AlphaNet as the densities of its
    coefficients, an evaluation as the change of each class, its open-set part as the sweep of
    the threshold, and a comparison as the trade-off of its methods.

    Args:
        value: One of these.

    Raises:
        InputError: If there is no figure of such a value.
    """
    raise InputError(
        f"there is no figure of a {type(value).__name__}",
        expected="a class table, a correction, an evaluation or a comparison",
    )


@figure.register(ClassTable)
def _class_table(value: ClassTable) -> Figure:
    return draw_distribution(value)


@figure.register(Correction)
def _correction(value: Correction) -> Figure:
    if value.trials is None:
        raise InputError(
            f"a correction by {value.method} has no coefficients to draw",
            expected="a correction by AlphaNet, with its trials",
        )
    return alpha_picture(value.trials).drawing


@figure.register(Evaluation)
def _evaluation(value: Evaluation) -> Figure:
    return class_change_picture(value.classes, value.by_class).drawing


@figure.register(OpenSet)
def _open_set(value: OpenSet) -> Figure:
    return open_curve_picture(value).drawing


@figure.register(Comparison)
def _comparison(value: Comparison) -> Figure:
    return draw_trade_off(value)
