"""Options of `alphafix compare`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from alphafix.commands.options import Flag, Several, StageOptions


class CompareOptions(StageOptions):
    """Options of `alphafix compare`."""

    on: Annotated[
        Literal["test", "val"],
        Field(description="Where to compare; hyper-parameters are always chosen on validation."),
    ] = "test"
    max_overall_drop: Annotated[
        float,
        Field(
            ge=0,
            description="Points of overall validation accuracy that a method with a knob may "
            "spend on the few split.",
        ),
    ] = 2.0
    methods: Annotated[
        tuple[str, ...],
        Several,
        Flag(metavar="NAME[,NAME...]"),
        Field(description="Rivals to compare with  [all]."),
    ] = ()
    rho: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...],
        Several,
        Flag(metavar="NUMBER[,NUMBER...]"),
        Field(min_length=1, description="Values of rho for AlphaNet."),
    ] = (0.1, 0.25, 0.5, 1.0, 2.0)
    seeds: Annotated[int, Field(ge=1, description="AlphaNet's trials for each rho.")] = 5
    k: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Several,
        Flag(("-k", "--k"), metavar="NUMBER[,NUMBER...]"),
        Field(
            description="Neighbours a class for the report's figure of accuracy against K "
            "(the table has the K of alphafix neighbors)."
        ),
    ] = (2, 3, 5, 10)
    on_top: Annotated[
        bool, Field(description="Also put AlphaNet on top of every other linear head.")
    ] = True
    on_top_seeds: Annotated[int, Field(ge=1, description="Trials on each other head.")] = 2
    one_rho: Annotated[
        float, Field(ge=0, description="Rho of AlphaNet on top of other heads, and of -k.")
    ] = 0.5
    bootstraps: Annotated[
        int, Field(ge=100, description="Draws behind the 95% intervals (samples, by class).")
    ] = 1000
    seed: Annotated[int, Field(ge=0, description="Seed of everything random.")] = 0

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        return self.model_dump(mode="json", exclude={"run", "overwrite"})
