"""OLTR and its competitors on Emoji-LT, with whole subcategories as unknown classes.

    python examples/evidence/oltr_pictures.py [--pretrained] [--seeds 3] [--rows NAMES]

ResNet-10 from scratch, or with --pretrained EfficientNet-Lite0 from ImageNet's weights, on the
pictures of `emoji.py` at 40 pixels. A tenth of the base classes, and the subcategories too small to
be classes, are open; of the others' emoji that are not for training 40% are validation and the rest
test, a whole emoji with all its designs at a time. All rows but RIDE and weight balancing share the
plain model of their seed as first stage, and all have the same learning rates: see SCRATCH and
PRETRAINED; RIDE needs a ResNet. AlphaNet is then trained on top of some of them.
What an interrupted run left is used.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from arguments import add_data, add_json, names_of, parser_of, positive, run_script
from emoji import EMOJI
from lite0 import NAME, lite0
from PIL import Image
from spread import with_spread
from stored import Recipe, save

import alphafix
from alphafix.files import read_json, write_json

SIDE = 40
FEW = 20
SHARE_OPEN = 0.1
SHARE_VAL = 0.4
"""Of the held-out emoji of each class."""

AWARE = "class-aware"
CORRECTED = ("plain", AWARE, "OLTR")
"""Rows on which AlphaNet is trained, too."""
TIERS = ("few", "medium", "many", "overall")
FIGURES = (*TIERS, "AUROC", "F")

COMMON: Mapping[str, object] = {
    "channels": 3,
    "size": None,
    "resize": None,
    "augmentation": "small",
}
SCRATCH: Mapping[str, object] = {
    **COMMON,
    "stage1": {"epochs": 12, "lr": 0.1, "schedule": "cosine", "warmup": 1},
    "stage2": {"epochs": 4, "lr": 0.05, "feature_lr": 0.01, "schedule": "cosine"},
}
PRETRAINED: Mapping[str, object] = {
    **COMMON,
    "stage1": {"epochs": 5, "lr": 0.02, "schedule": "cosine", "warmup": 1},
    "stage2": {"epochs": 4, "lr": 0.1, "feature_lr": 0.01, "schedule": "cosine"},
}
"""Chosen so that the plain model learns; nothing was tried for the other rows, but for the second
stage of PRETRAINED, whose rates are the best of three for class-aware batches on validation."""


def glyph_rows() -> ModuleType:
    """The comparison on glyphs, whose rows and figures these are."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "glyphs_lt"))
    import oltr_comparison

    return oltr_comparison


def rows_of(*, pretrained: bool) -> list[Any]:
    """All rows beside the plain one."""
    glyphs = glyph_rows()
    return [
        *glyphs.OTHERS,
        # It shares the first stages of a ResNet among its experts.
        *([] if pretrained else [glyphs.Row("RIDE", {"method": "ride"}, own_first=True)]),
        glyphs.Row("weight balancing", {"method": "weight-balancing"}, own_first=True),
    ]


def held_out(recipe: Recipe, data: Path) -> list[str]:
    """Base classes that are unknown: a tenth of them."""
    train = recipe.pictures(data) / "train"
    base = [path.name for path in sorted(train.iterdir()) if len(list(path.iterdir())) >= FEW]
    held = np.random.default_rng(0).choice(base, round(SHARE_OPEN * len(base)), replace=False)
    return sorted(held.tolist())


def divide(
    recipe: Recipe, folder: Path, data: Path, *, held: Collection[str], side: int | None
) -> None:
    """Write train/, val/, test/ and open/ of CLASS/MOTIF--DESIGNER.png, unless the folder is there.

    Args:
        recipe: Whose pictures.
        folder: Where to.
        data: Where its pictures are, or are made.
        held: Classes that are unknown.
        side: Pixels of the copies; None for those that there are.
    """
    if folder.is_dir():
        return
    rng = np.random.default_rng(0)
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    for path in sorted(recipe.pictures(data).glob("*/*")):
        split, label = path.parts[-2:]
        files = sorted(path.iterdir())
        motifs = sorted({motif_of(file) for file in files})
        first = set(rng.permutation(motifs)[: round(SHARE_VAL * len(motifs))].tolist())
        unknown = split == "open" or label in held
        if unknown and split == "train":
            continue
        for file in files:
            known = "val" if split == "test" and motif_of(file) in first else split
            copy = part / ("open" if unknown else known) / label / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if side is None:
                shutil.copyfile(file, copy)
                continue
            with Image.open(file) as image:
                image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC).save(copy)
    part.rename(folder)


def motif_of(path: Path) -> str:
    """What a picture shows, whoever drew it."""
    return path.name.rpartition("--")[0]


def measure(
    recipe: Recipe, data: Path, seeds: range, *, pretrained: bool, names: Sequence[str] = ()
) -> dict[str, object]:
    """Train all rows, or those of ``names``, and return their figures as JSON data."""
    glyphs = glyph_rows()
    work = data / f"{recipe.name}-oltr"
    divide(recipe, work / "pictures", data, held=held_out(recipe, data), side=SIDE)
    said = work / ("pretrained" if pretrained else "scratch")
    said.mkdir(exist_ok=True)
    recipe_of_rows = PRETRAINED if pretrained else SCRATCH
    write_json(said / "recipe.json", dict(recipe_of_rows), overwrite=True)
    more: dict[str, object] = {
        "data": str(work / "pictures"),
        "root": None,
        "recipe": str(said / "recipe.json"),
        "backbone": f"timm:{NAME}" if pretrained else "resnet10",
    }
    if pretrained:
        weights = said / "imagenet.safetensors"
        if not weights.is_file():
            save(lite0(1000), weights)
        more["pretrained"] = weights
    others = [
        replace(row, distances=False)
        for row in rows_of(pretrained=pretrained)
        if not names or row.name in names
    ]
    found: dict[str, object] = glyphs.measure(said, seeds, 1, more, others)
    folders = [(row, said / f"seed-{seed}" / row) for row in CORRECTED for seed in seeds]
    found["alphanet"] = [
        {"row": row, "splits": alphanet_on_top(folder, work / "pictures")}
        for row, folder in folders
        if folder.is_dir()
    ]
    return {**found, "recipe": json.dumps(recipe_of_rows), "backbone": more["backbone"]}


def alphanet_on_top(training: Path, pictures: Path) -> dict[str, Any]:
    """AlphaNet on what `train-oltr` left, stage by stage; test figures of each tier."""
    run = training / "alphanet"
    if not (run / "on-top.json").is_file():
        alphafix.extract(f"oltr:{training}", pictures, run=run, overwrite=True)
        alphafix.find_neighbors(run=run, overwrite=True)
        alphafix.train(run=run, rho=0.5, overwrite=True)
        found = alphafix.evaluate(run=run, overwrite=True)
        write_json(run / "on-top.json", found.to_dict()["splits"])
    splits: dict[str, Any] = read_json(run / "on-top.json")
    return {tier: {"top1": splits[tier]["top1"]} for tier in TIERS}


def corrected(results: Mapping[str, Any]) -> Iterator[str]:
    """AlphaNet on top, its change ± the standard deviation over seeds, as Markdown."""
    yield "| on top of | few | change | overall | change |"
    yield "|---|---:|---:|---:|---:|"
    for name in dict.fromkeys(one["row"] for one in results["alphanet"]):
        cells = []
        for tier in ("few", "overall"):
            mine = [
                one["splits"][tier]["top1"] for one in results["alphanet"] if one["row"] == name
            ]
            change = [one["change"]["value"] for one in mine]
            cells.append(f"{np.mean([one['corrected']['value'] for one in mine]):.1f}")
            cells.append(mean_of(change))
        yield f"| {name} | {' | '.join(cells)} |"


def mean_of(change: Sequence[float]) -> str:
    """A mean change ± its standard deviation over seeds."""
    spread = float(np.std(change, ddof=min(1, len(change) - 1)))
    return with_spread(f"{np.mean(change):+.1f}", spread, len(change))


def compared(results: Mapping[str, Any]) -> Iterator[str]:
    """All rows, and what each has more than class-aware batches of the same seed, as Markdown."""
    runs: Sequence[Mapping[str, Any]] = results["runs"]
    yield (
        "| row | few / medium / many / overall | AUROC | F | few, overall, AUROC and F less "
        f"those of {AWARE} |"
    )
    yield "|---|---|---:|---:|---|"
    aware = {run["seed"]: figures(run) for run in runs if run["row"] == AWARE}
    for name in dict.fromkeys(run["row"] for run in runs):
        own = {run["seed"]: figures(run) for run in runs if run["row"] == name}
        mean = {what: np.mean([row[what] for row in own.values()]) for what in FIGURES}
        told = " / ".join(f"{mean[tier]:.1f}" for tier in TIERS)
        less = []
        for what in ("few", "overall", "AUROC", "F"):
            change = [row[what] - aware[seed][what] for seed, row in own.items() if seed in aware]
            less.append(mean_of(change) if change else "n/a")
        paired = "" if name == AWARE else ", ".join(less)
        yield f"| {name} | {told} | {mean['AUROC']:.1f} | {mean['F']:.1f} | {paired} |"


def figures(run: Mapping[str, Any]) -> dict[str, float]:
    """Closed accuracy on test; unknown classes by the largest softmax probability.

    F is at the threshold that 95% of the validation pictures pass; a tier without classes has none.
    """
    closed = run["closed"]["test"]
    found = {tier: np.nan if closed[tier] is None else closed[tier] for tier in TIERS}
    by_softmax = next(row for row in run["detection"] if row["method"] == "max-softmax")
    return {**found, "AUROC": by_softmax["auroc"], "F": run["accepting_95"]["f_measure"]}


def main() -> None:
    """Measure, write and print."""
    parser = parser_of(__doc__)
    add_data(parser)
    parser.add_argument(
        "--pretrained", action="store_true", help="begin with ImageNet's weights, not from scratch"
    )
    parser.add_argument("--seeds", type=positive, default=3, help="trainings a row [%(default)s]")
    known = [row.name for row in rows_of(pretrained=False)]
    parser.add_argument(
        "--rows",
        type=names_of(known),
        default=[],
        metavar="NAMES",
        help=f"rows beside the plain one, some of {', '.join(known)} [all]",
    )
    add_json(parser)
    given = parser.parse_args()
    possible = [row.name for row in rows_of(pretrained=given.pretrained)]
    if impossible := [name for name in given.rows if name not in possible]:
        parser.error(f"argument --rows: {impossible[0]} needs a ResNet, so not with --pretrained")
    seeds = range(given.seeds)
    results = measure(EMOJI, given.data, seeds, pretrained=given.pretrained, names=given.rows)
    if given.json:
        write_json(given.json, results, overwrite=True)
    print("\n".join([*compared(results), "", *corrected(results)]))


if __name__ == "__main__":
    run_script(main)
