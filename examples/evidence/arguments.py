"""What the scripts' command lines share: options, their types, one line for what goes wrong.

Exit codes are those of `alphafix`: 1 for what failed, 2 for an option that cannot be meant.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from alphafix.commands.app import soon_sleep
from alphafix.errors import AlphafixError, MissingPackageError
from alphafix.files import write_text

soon_sleep()  # as the commands do, before a script loads it

DATA = Path("evidence-data")
"""Where packages, pictures, models and features are kept, unless a script is told otherwise."""


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser that says what the first line of a script's docstring says."""
    return argparse.ArgumentParser(description=(doc or "").partition("\n")[0])


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add --data: the folder that all scripts share."""
    parser.add_argument(
        "--data",
        type=folder,
        default=DATA,
        metavar="FOLDER",
        help="where packages, pictures, models and features are kept, or are made [%(default)s]",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json: a file for the figures."""
    parser.add_argument("--json", type=new_file, metavar="FILE", help="keep all figures here, too")


def positive(text: str) -> int:
    """A type of argparse: 1, 2, ..."""
    return _whole(text, 1)


def from_zero(text: str) -> int:
    """A type of argparse: 0, 1, ..."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
    return int(text)


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """A type of argparse: some of the ``known`` names, split at commas, each of them once."""
    names = list(known)

    def named(text: str) -> list[str]:
        given = text.split(",")
        for name in given:
            if name not in names:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(names)}")
            if given.count(name) > 1:
                raise argparse.ArgumentTypeError(f"{name} is there twice")
        return given

    return named


def folder(text: str) -> Path:
    """A type of argparse: a folder, which may be made."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is no folder")
    return path


def new_file(text: str) -> Path:
    """A type of argparse: a file that can be written, found out before hours of work."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def keep(figures: object, path: Path | None) -> None:
    """Write figures as JSON, whole or not at all; nothing where no file is given."""
    if path is not None:
        write_text(path, json.dumps(figures, indent=1) + "\n", overwrite=True)


def optional(module: str, install: str) -> ModuleType:
    """A module of a package that only some scripts need.

    Args:
        module: Its name.
        install: What pip is to install.

    Raises:
        MissingPackageError: If it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"the package {module.partition('.')[0]} cannot be used",
            got=error,
            todo=f"pip install {install}",
        ) from error


def run_script(main: Callable[[], object]) -> None:
    """Do what a script does; what goes wrong is said in words, with exit code 1."""
    try:
        main()
    except AlphafixError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        sys.exit(f"error: {': '.join([*names, error.strerror or str(error)])}")
    except subprocess.CalledProcessError as error:  # it has said why
        sys.exit(f"error: the command failed: {' '.join(map(str, error.cmd))}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted; what was made before is kept")
