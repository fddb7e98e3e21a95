"""Options of `alphafix compare`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from alphafix.commands.options import Bootstraps, FeatureStageOptions, Several, flag
from alphafix.metrics.confidence import DEFAULT_CONFIDENCE


class CompareOptions(FeatureStageOptions):
    """Options of `alphafix compare`."""

    INCIDENTAL = FeatureStageOptions.INCIDENTAL | {"all", "time"}

    on: Literal["test", "val"] = flag(
        "test", help="Where to compare; hyper-parameters are always chosen on validation."
    )
    max_overall_drop: float = flag(
        2.0,
        help="Points of overall accuracy on fresh samples that a method with a knob may spend on "
        "the few split.",
        ge=0,
    )
    confidence: float = flag(
        DEFAULT_CONFIDENCE,
        help="Probability with which that limit holds (see train).",
        ge=0.5,
        lt=1,
    )
    methods: Annotated[tuple[str, ...], Several] = flag(
        (),
        help="Rivals to compare with  [all but the forms of model-regression and metamodelnet].",
        metavar="NAME[,NAME...]",
        complete="rivals",
    )
    rho: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Several] = flag(
        (0.1, 0.25, 0.5, 1.0, 2.0),
        help="Values of rho for AlphaNet.",
        metavar="NUMBER[,NUMBER...]",
        min_length=1,
    )
    seeds: int = flag(5, help="AlphaNet's trials for each rho.", ge=1)
    k: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Several] = flag(
        (2, 3, 5, 10),
        help="Neighbours a class for the report's figure of accuracy against K "
        "(the table has the K of alphafix neighbors).",
        flags=("-k", "--k"),
        metavar="NUMBER[,NUMBER...]",
    )
    on_top: bool = flag(True, help="Also put AlphaNet on top of every other linear head.")
    on_top_seeds: int = flag(2, help="Trials on each other head.", ge=1)
    one_rho: float = flag(0.5, help="Rho of AlphaNet on top of other heads, and of -k.", ge=0)
    time: float | None = flag(
        None,
        help="Seconds that trained methods, AlphaNet on top of others and the figure against K may "
        "take; what is not done by then is named as left out, and the same command goes on with "
        "it  [as long as it takes].",
        gt=0,
        metavar="SECONDS",
    )
    bootstraps: Bootstraps = 1000
    seed: int = flag(0, help="Seed of everything random.", ge=0)
    all: bool = flag(
        False,
        help="Show every method, not those alone that no other dominates or the verdict names.",
    )
