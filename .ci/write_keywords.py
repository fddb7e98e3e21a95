"""Write the keyword arguments of the Python API from the commands' options; --check says if stale.

alphafix/api/keywords.py is what type checkers and editors read: each options model as a TypedDict,
with the types that the model takes (a path may be text, several values may be one).
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from alphafix.commands import COMMANDS
from alphafix.commands.options import Several, StageOptions

FILE = Path(__file__).parents[1] / "alphafix/api/keywords.py"

# Commands that are functions, and fields that are arguments of the function or are for the command
# line alone.
FUNCTIONS: dict[str, frozenset[str]] = {
    "extract": frozenset({"backbone", "data", "shard_index", "shard_count"}),
    "neighbors": frozenset({"features", "head", "class_names"}),
    "train": frozenset({"plan"}),
    "patch": frozenset({"file", "correction"}),
    "evaluate": frozenset(
        {
            "all",
            "junit",
            "markdown",
            "confident",
            "min_few_gain",
            "max_overall_drop",
            "max_base_drop",
            "max_class_drop",
        }
    ),
    "compare": frozenset({"all"}),
    "inspect": frozenset({"file"}),
}

HEADER = '''"""The keyword arguments of the functions, for type checkers and editors.

Made from the options models by `.ci/write_keywords.py`; the models say what each means, what its
default is, and which values it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict


class StageKeywords(TypedDict, total=False):
    """What every function takes."""

'''


def main() -> int:
    """Write the module, or compare it with what would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if it is stale")
    text = "".join(module())
    if not parser.parse_args().check:
        FILE.write_text(text, encoding="utf-8")
    elif FILE.read_text(encoding="utf-8") != text:
        print(f"{FILE.name} is stale: run python .ci/write_keywords.py", file=sys.stderr)
        return 1
    return 0


def module() -> Iterator[str]:
    """The lines of the module."""
    yield HEADER
    yield from fields(StageOptions, frozenset())
    for name, left_out in FUNCTIONS.items():
        model = COMMANDS[name].options
        function = {"neighbors": "find_neighbors"}.get(name, name)
        yield f"\n\nclass {name.capitalize()}Keywords(StageKeywords, total=False):\n"
        yield f'    """Keywords of `alphafix.{function}` (see `{model.__name__}`)."""\n\n'
        yield from fields(model, left_out | set(StageOptions.model_fields))


def fields(model: type, left_out: frozenset[str]) -> Iterator[str]:
    """One line a field, wrapped as the formatter does."""
    for name, hint in get_type_hints(model, include_extras=True).items():
        if name in left_out or name not in model.model_fields:  # type: ignore[attr-defined]
            continue
        yield from wrapped(f"    {name}: ", " | ".join(dict.fromkeys(alternatives(hint))))


def wrapped(start: str, hint: str) -> Iterator[str]:
    """A field in lines of at most 100 characters."""
    if len(start + hint) <= 100:
        yield f"{start}{hint}\n"
        return
    raise ValueError(f"{start.strip()} does not fit into a line: shorten its alternatives")


def alternatives(hint: Any) -> Iterator[str]:
    """The types that a field takes, as source."""
    several = False
    while get_origin(hint) is Annotated:
        hint, *extra = get_args(hint)
        several = several or Several in extra
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        for part in get_args(hint):
            yield from alternatives(part)
    elif origin is Literal:
        yield f"Literal[{', '.join(map(quoted, get_args(hint)))}]"
    elif origin is tuple:
        one = " | ".join(alternatives(get_args(hint)[0]))
        if several:
            yield one
        yield f"Sequence[{one}]"
    elif hint is Path:
        yield from ("str", "Path")
    else:
        yield "None" if hint is type(None) else hint.__name__


def quoted(value: object) -> str:
    """A literal value as the formatter writes it."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    sys.exit(main())
