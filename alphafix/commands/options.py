"""What the options of all stages share.

The command line makes its flags from the fields (`alphafix.commands.flags`): a field's description
is its help text, and `flag` gives it short names or makes it a positional argument.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from alphafix.errors import InputError, option
from alphafix.images.names import SPLITS
from alphafix.shown import without_secrets_in


def flag(
    default: Any = ...,
    *,
    help: str,
    flags: tuple[str, ...] = (),
    argument: bool = False,
    metavar: str | None = None,
    writes: bool = False,
    complete: str | None = None,
    **limits: Any,
) -> Any:
    """A field of an options model, and how it appears on the command line.

    Args:
        default: Its value if it is not given; it must be given if there is none.
        help: What it means, in a sentence: its help text. "  [words]" at its end say what holds
            without it, where ``default`` (None, say) does not.
        flags: Flags to use instead of ``--field-name``.
        argument: Whether it is a positional argument.
        metavar: What stands for the value in the help text.
        writes: Whether it names a file or folder that the command writes.
        complete: The function of `alphafix.commands.completion` that the shell completes it with.
        **limits: What pydantic checks (``ge``, ``min_length``, ...).
    """
    said, _, words = help.partition("  [")
    otherwise = words.rstrip(".").removesuffix("]") or None
    said += "." if otherwise and said[-1] not in ".!?" else ""
    extra: dict[str, Any] = {
        "flags": list(flags),
        "argument": argument,
        "metavar": metavar,
        "writes": writes,
        "complete": complete,
        "otherwise": otherwise,
    }
    return Field(default, description=said, json_schema_extra=extra, **limits)


def _split(value: object) -> object:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, (list, tuple)):
        return [part for item in value for part in (str(item).split(","))]
    return [value] if isinstance(value, (int, float)) else value


Several = BeforeValidator(_split)
"""For a tuple of numbers: also takes one number, and on the command line "1,2,3"."""


def _joined(value: object) -> object:
    items = value if isinstance(value, (list, tuple)) else [value]
    plain = all(isinstance(i, (str, int, float)) and not isinstance(i, bool) for i in items)
    return ",".join(map(str, items)) if items and plain else value


Commas = BeforeValidator(_joined)
"""For a text of parts with commas: also takes them as a list, as YAML has it, or one number."""

# Fields that several commands have, with what they mean everywhere.
FewBelow = Annotated[
    int | None, flag(help="Classes with fewer training samples are few-split  [20].", ge=1)
]
ManyAbove = Annotated[
    int | None, flag(help="Classes with more training samples are many-split  [100].", ge=0)
]
NameOrder = Annotated[
    Literal["string", "natural"] | None,
    flag(help="Order of class names in the logits; needed where the two differ."),
]
ClassMap = Annotated[
    Path | None,
    flag(help="Class names in the order of the logits: one a line, or JSON.", metavar="FILE"),
]
ListRoot = Annotated[
    Path | None,
    flag(help="Folder that the paths of a list are relative to  [the list's own].", metavar="DIR"),
]
Workers = Annotated[
    int | None, flag(help="Processes that load images  [one a core, at most 16].", ge=0)
]
Compile = Annotated[bool, flag(help="Compile the model first (torch.compile).")]
StoreDtype = Annotated[
    Literal["float32", "float16", "bfloat16"], flag(help="Type of stored features.")
]
Bootstraps = Annotated[
    int, flag(help="Draws behind the 95% intervals (samples, by class).", ge=100)
]
WordnetEdges = Annotated[int, flag(help="Longest WordNet path between classes of one group.", ge=1)]
OpenThreshold = Annotated[
    float, flag(help="Softmax confidence under which a sample is unknown.", ge=0, le=1)
]


def extra_of(field: FieldInfo) -> dict[str, Any]:
    """What `flag` says of a field."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


GROUPS = {
    "Trade-off": (
        "max_overall_drop",
        "max_base_drop",
        "max_class_drop",
        "min_few_gain",
        "confidence",
        "confident",
        "select",
        "allow_worse",
        "at",
        "ensemble",
        "calibrate",
    ),
    "Network and training": (
        "include_self",
        "learn_bias",
        "hidden",
        "epochs",
        "first_epoch",
        "lr",
        "feature_lr",
        "preset",
        "max_steps",
        "selector",
        "reachability",
        "attention",
        "attention_map",
        "experts",
        "width",
        "channels",
        "pretrained",
        "from_scratch",
        "first_stage",
        "on_top",
        "on_top_seeds",
        "one_rho",
    ),
    "Images and labels": (
        "class_order",
        "class_map",
        "label_kind",
        "endings",
        "root",
        "prefix_map",
        "image_key",
        "label_key",
        "on_bad_image",
        "exif_rotate",
        "decode",
        "image_size",
        "crop_pct",
        "interpolation",
        "mean",
        "std",
        "val_fraction",
        "val_seed",
        "split_name",
    ),
    "Open set": (
        "open",
        "open_val",
        "open_threshold",
        "open_classes",
        "open_data",
        "open_images",
        "openmax",
        "openmax_rank",
        "odin",
    ),
    "Resources": (
        "device",
        "precision",
        "memory",
        "workers",
        "compile",
        "batch_size",
        "shard_samples",
        "shard_index",
        "shard_count",
        "store_dtype",
        "wait",
        "verify",
        "bootstraps",
    ),
    "Output": (
        "run",
        "run_directory",
        "output",
        "overwrite",
        "csv",
        "card",
        "base_model",
        "junit",
        "markdown",
        "logger",
        "tensorboard",
        "provenance",
        "all",
        "dry_run",
        "plan",
        "json",
        "help",
    ),
}
"""Groups of options in --help, by their names, which mean the same in every command; all others
come first."""


def is_path(annotation: object) -> bool:
    """Whether a type is ``Path`` or ``Path | None``."""
    return annotation is Path or set(get_args(annotation)) == {Path, type(None)}


# What stands for values that may be a path, or something else.
_OF_FILES = ("FILE", "DIR", "SPEC", "SPLIT")

# The words in it where a value is a path, or where some of it may be.
_PATHS = {"FILE", "DIR", "SPLIT"}
_WITH_PATHS = {*_PATHS, "SPEC", "NEW"}


class CommandOptions(BaseModel):
    """Options of any command."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    INCIDENTAL: ClassVar[frozenset[str]] = frozenset()
    """Fields that do not decide the result: where it goes, where files lie, who is told."""

    ELSEWHERE: ClassVar[frozenset[str]] = frozenset()
    """Fields of paths that may be addresses, as they are."""

    ALTERNATIVES: ClassVar[frozenset[str]] = frozenset()
    """Fields of which a command that says one is not given what another was set to before."""

    @field_validator("*", mode="before")
    @classmethod
    def _as_paths(cls, value: object, info: ValidationInfo) -> object:
        """Paths, and texts of such, with the home folders that they name.

        What is neither an address nor a path is refused, while both its slashes can be told.
        """
        from alphafix.remote import at_home, home_path, is_address

        def expanded(item: object) -> object:
            if isinstance(item, str):
                return at_home(item)
            return home_path(item) if isinstance(item, Path) else item

        name = str(info.field_name)
        if name not in cls._naming(_WITH_PATHS):
            return value
        if isinstance(value, str) and get_origin(cls.model_fields[name].annotation) is tuple:
            value = [value]  # one of several
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if not isinstance(item, str):
                continue
            if not item.strip():
                raise _is_empty(name)
            if (begun := cls._begun(name, item)) is not None:
                raise _is_cut_off(name, begun)
            if name in cls.paths():
                is_address(item)
                is_address(item.partition("=")[2])
        if isinstance(value, (list, tuple)):
            return [expanded(item) for item in value]
        return expanded(value)

    def model_dump(self, **how: Any) -> dict[str, Any]:
        """As pydantic does; JSON data has addresses with both slashes, and without secrets."""
        from alphafix.remote import as_given, is_address

        data = super().model_dump(**how)
        if how.get("mode") == "json":
            for name in data:
                value = getattr(self, name)
                if isinstance(value, Path) and is_address(value):
                    data[name] = as_given(value)
                elif isinstance(value, tuple) and any(isinstance(item, Path) for item in value):
                    data[name] = [as_given(item) for item in value]
            return {name: without_secrets_in(value) for name, value in data.items()}
        return data

    @classmethod
    def paths(cls) -> tuple[str, ...]:
        """Names of the options that are paths, alone, in a list or as SPLIT=FILE."""
        return cls._naming(_PATHS)

    @classmethod
    def _naming(cls, words: Collection[str]) -> tuple[str, ...]:
        """Names of the options that are paths, or whose value is said by one of some words."""
        return tuple(
            name
            for name, field in cls.model_fields.items()
            if is_path(field.annotation)
            or not set(words).isdisjoint(re.findall("[A-Z]+", extra_of(field)["metavar"] or ""))
        )

    @classmethod
    def _begun(cls, name: str, item: str) -> str | None:
        """What a value of an option begins with that has nothing behind it; None of whole ones."""
        words = re.findall("[A-Z]+=?", extra_of(cls.model_fields[name])["metavar"] or "")
        forms = {"SPLIT=": "|".join(f"{split}=" for split in SPLITS), "SPEC": "[a-z]{2,}:"}
        begun = item.strip()
        return begun if any(re.fullmatch(forms.get(word, ""), begun) for word in words) else None

    @property
    def place(self) -> Path | None:
        """The folder in which one command works at a time, if there is one."""
        return None

    @property
    def stays(self) -> bool:
        """Whether that folder stays, if it was there before, when there is nothing in it."""
        return True

    @property
    def holds(self) -> bool:
        """Whether this process, of those that `torchrun` started, locks that folder for all."""
        return os.environ.get("RANK", "0") == "0"

    @classmethod
    def outputs(cls) -> tuple[str, ...]:
        """Names of the options that name what is written."""
        fields = cls.model_fields.items()
        return tuple(name for name, field in fields if extra_of(field)["writes"])

    @classmethod
    def files(cls) -> tuple[str, ...]:
        """Names of the options whose text may name a file or folder."""
        fields = cls.model_fields.items()
        return tuple(name for name, field in fields if extra_of(field)["metavar"] in _OF_FILES)

    def inputs(self, *, but: Collection[str] = ()) -> Iterator[Path]:
        """Paths that options name to be read, alone, in a list or as SPLIT=FILE."""
        left_out = {"run", *self.outputs(), *but}
        for name, value in self:
            if name in left_out:
                continue
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Path):
                    yield item
                elif isinstance(item, str):
                    yield from (Path(item), Path(item.partition("=")[2]))

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        return self.model_dump(mode="json", exclude=set(self.INCIDENTAL))


def _is_empty(name: str) -> InputError:
    return InputError(
        f"{option(name)} is empty",
        got="a text with nothing in it, as of a variable that is not set",
        expected="a path",
        todo="give one (. is the folder at hand), or leave the option out",
    )


def _is_cut_off(name: str, begun: str) -> InputError:
    what = "path" if begun.endswith("=") else "path or name"
    return InputError(
        f"the {what} behind {begun} is empty: {option(name)}",
        got="nothing there, as of a variable that is not set",
        expected=f"a {what}",
        todo=f"give {option(name, begun + what.split()[-1].upper())}, or leave the option out",
    )


class StageOptions(CommandOptions):
    """What every stage takes that works in a run directory."""

    INCIDENTAL = frozenset({"run", "overwrite", "wait"})

    run: Path = flag(
        Path("alphafix-run"),
        help="Run directory, where the stages leave their results.",
        metavar="DIR",
    )
    overwrite: bool = flag(False, help="Replace results that are there.")
    wait: float = flag(
        600.0,
        ge=0,
        metavar="SECONDS",
        help="How long to wait for another command that works in the same run directory or on "
        "the same model file.",
    )

    @property
    def place(self) -> Path | None:
        """The run directory, in which one command works at a time."""
        return self.run


class FeatureStageOptions(StageOptions):
    """What stages take that read stored features."""

    INCIDENTAL = StageOptions.INCIDENTAL | {"verify"}

    verify: bool = flag(
        True,
        help="Compare stored features with their hashes before their first use; what has not "
        "changed since is not read again.",
    )
