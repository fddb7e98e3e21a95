"""The commands: what each is. The command line, recipes, the Python API and --json follow from it.

A folder ``commands/X`` holds ``options.py`` (one frozen model: flags, keywords and recipe
entries), ``work.py`` (whether the result is there; load values, call the library, save) and
``show.py`` (what a person sees). All are loaded when they are used: listing loads nothing.
"""

from __future__ import annotations

import logging

from alphafix.commands.command import Command

# In the order of a user's work.
_ALL = (
    Command(
        "demo",
        "DemoOptions",
        "Run the whole chain on embedded images: a first look, offline, in a minute.",
        example="alphafix demo --run alphafix-demo",
        begins=True,
        feeds=False,
        log=logging.WARNING,
    ),
    Command(
        "fix",
        "FixOptions",
        """Correct a model's rare classes: every stage in one line, for the common case.

Extracts features, finds neighbours, trains with the method that gains most under the limit,
holds the limit on test images, writes the patched copy, and the page that explains it. Stages
that are up to date are left out. What does not keep the limit is not written (exit code 3).
""",
        example="alphafix fix model.safetensors --backbone timm:resnet18 --data data --run fixed "
        "-o fixed.safetensors",
        begins=True,
        feeds=False,
    ),
    Command(
        "extract",
        "ExtractOptions",
        "Compute features of images with your model, and save its head.",
        example="alphafix extract --backbone timm:resnet18 --weights model.safetensors --data data",
        begins=True,
    ),
    Command(
        "neighbors",
        "NeighborsOptions",
        "Find the other classes nearest to each few-split class, by their mean features.",
        example="alphafix neighbors -k 5 --metric euclidean --csv neighbors.csv",
        begins=True,
    ),
    Command(
        "train",
        "TrainOptions",
        "Train AlphaNet: corrected rows for the few-split classes.",
        example="alphafix train --rho 0.25,0.5,1,2 --seeds 10",
    ),
    Command(
        "patch",
        "PatchOptions",
        "Write the corrected rows into a copy of the model file, and nothing else.",
        example="alphafix patch model.safetensors",
        feeds=False,
    ),
    Command(
        "evaluate",
        "EvaluateOptions",
        "Compare base and corrected accuracy; exit with code 3 if a gate is not met.",
        example="alphafix evaluate --max-overall-drop 2 --min-few-gain 5",
        feeds=False,
        judged=True,
    ),
    Command(
        "compare",
        "CompareOptions",
        """Compare AlphaNet, its control and the simpler methods on the same features and split.

Writes compare.json, the picture of the trade-off, compare.svg and compare.png, and what the
slider of the report needs, compare.safetensors, into the run directory.
""",
        example="alphafix compare --methods few-bias,logit-adjustment --rho 0.25,0.5,1",
        feeds=False,
    ),
    Command(
        "report",
        "ReportOptions",
        """Write a page with the verdict, the trade-off to steer, every class and all figures.

The page needs no network: open it in any browser. Each figure is also written as SVG and
PNG, and its data as CSV.
""",
        example="alphafix report --output report",
        feeds=False,
    ),
    Command(
        "features merge",
        "MergeOptions",
        """Make one store of what the jobs of an array have extracted, if nothing is missing.

Each job runs `alphafix extract` with --shard-index and --shard-count. The features are those of one
extraction, byte by byte.
""",
        example="alphafix features merge",
        begins=True,
    ),
    Command(
        "features import",
        "ImportOptions",
        "Make the features of a split from a file; the run has a head already.",
        example="alphafix features import --split val val.npz",
    ),
    Command(
        "features export",
        "ExportOptions",
        "Write the features of a split to a file.",
        example="alphafix features export train.npz",
        feeds=False,
    ),
    Command(
        "import",
        "ForeignOptions",
        """Take features, heads and checkpoints of other projects.

Features and a head become a run directory, from which `alphafix neighbors` goes on; a
checkpoint becomes a plain model file (for oltr a folder), for `alphafix extract` and
`alphafix patch`. Of torch files only tensors are read; nothing in them can run.
""",
        example="alphafix import alphanet-official ImageNetLT --allow-pickle --run imagenet",
        begins=True,
    ),
    Command(
        "run",
        "RecipeOptions",
        """Run the stages of a recipe; those that are up to date are left out.

A recipe is a YAML file: `stages:` with one stage an item, each with its options by their
names on the command line. Relative paths start from the recipe's folder.
""",
        example="alphafix run recipe.yaml --set train.rho=0.25 --dry-run",
    ),
    Command(
        "make-lt",
        "MakeLtOptions",
        """Draw long-tailed training lists, balanced val and test lists, and open classes.

Paths in the lists are relative to --data: `alphafix extract --data LISTS --root DATA`.
""",
        example="alphafix make-lt --data photos --output photos-lt --open-classes 10",
    ),
    Command(
        "train-oltr",
        "TrainOltrOptions",
        """Train a base model on long-tailed images: OLTR, or one of its competitors.

The result is a backbone: `alphafix extract --backbone oltr:DIR`.
""",
        example="alphafix train-oltr --data photos-lt --root photos --recipe cifar100-lt "
        "--epochs 2",
        begins=True,
    ),
    Command(
        "inspect",
        "InspectOptions",
        "Show which layers of a model file could be the head; print its name if one must be it.",
        example="alphafix inspect model.safetensors",
    ),
)

_GROUPS = {"features": "Take features from other tools' files, write such files, or merge parts."}

COMMANDS = {command.name: command for command in _ALL}
"""By their names on the command line: "train", "features import"."""

LINES = {
    command.word: _GROUPS.get(command.word, command.help.partition("\n")[0]) for command in _ALL
}
"""The line of each word after ``alphafix`` in --help."""


def group(word: str) -> tuple[Command, ...]:
    """What ``alphafix WORD`` is: one command, or those of a group ("features")."""
    return tuple(command for command in _ALL if command.word == word)
