"""The command line: ``python -m rebuild STEP --work FOLDER``, or ``all`` for every step."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import numpy as np

from .build import build
from .classes import BuildOptions
from .clean import clean
from .families import merge_clones
from .homoglyphs import frequent_code_points, homoglyph_shares
from .pack import shrink_images, write_archive
from .render import RenderOptions, render_faces
from .scan import find_fonts, scan_fonts
from .values import load_faces, load_rendering, save_faces, save_rendering

Arguments = argparse.Namespace
Options = TypeVar("Options")


def run_scan(arguments: Arguments) -> str:
    """Read the faces of the font files: faces.json."""
    paths = find_fonts(arguments.fonts)
    if not paths:
        raise ValueError(f"no .ttf or .otf files in {', '.join(map(str, arguments.fonts))}")
    faces = scan_fonts(paths)
    save_faces(arguments.work / "faces.json", faces)
    groups = {face.group for face in faces}
    return f"{len(paths)} files, {len(faces)} text faces, {len(groups)} family groups"


def run_render(arguments: Arguments) -> str:
    """Draw the glyphs: rendered/."""
    faces = load_faces(arguments.work / "faces.json")
    rendering = render_faces(faces, pick(RenderOptions, arguments))
    save_rendering(arguments.work / "rendered", rendering)
    return f"{len(rendering)} glyphs"


def run_clean(arguments: Arguments) -> str:
    """Mark the glyphs to keep: keep.npy."""
    keep = clean(load_rendering(arguments.work / "rendered"))
    np.save(arguments.work / "keep.npy", keep)
    return f"{keep.sum()} of {len(keep)} glyphs kept"


def run_families(arguments: Arguments) -> str:
    """Merge clone families: families.json."""
    faces = load_faces(arguments.work / "faces.json")
    merged = merge_clones(faces, load_rendering(arguments.work / "rendered"))
    text = json.dumps(merged, ensure_ascii=False, indent=1)
    (arguments.work / "families.json").write_text(text, encoding="utf-8")
    return f"{len(merged)} family groups merged into {len(set(merged.values()))}"


def run_homoglyphs(arguments: Arguments) -> str:
    """Compare neighbouring code points: homoglyphs.json."""
    rendering = load_rendering(arguments.work / "rendered")
    keep = np.load(arguments.work / "keep.npy")
    code_points = frequent_code_points(rendering, keep, arguments.min_kept)
    shares = homoglyph_shares(rendering, code_points)
    rows = [[*pair, share] for pair, share in shares.items()]
    (arguments.work / "homoglyphs.json").write_text(json.dumps(rows), encoding="utf-8")
    return f"{len(code_points)} code points, {len(rows)} pairs compared"


def run_build(arguments: Arguments) -> str:
    """Choose classes and samples: glyphs-lt-32px.npz."""
    work = arguments.work
    rows = json.loads((work / "homoglyphs.json").read_text(encoding="utf-8"))
    arrays = build(
        load_faces(work / "faces.json"),
        load_rendering(work / "rendered"),
        np.load(work / "keep.npy"),
        json.loads((work / "families.json").read_text(encoding="utf-8")),
        {(first, second): share for first, second, share in rows},
        pick(BuildOptions, arguments),
    )
    write_archive(work / "glyphs-lt-32px.npz", arrays)
    counts = np.bincount(arrays["train_y"].astype(np.int64))
    many, few = int((counts > 100).sum()), int((counts < 20).sum())
    return (
        f"{len(counts)} classes ({many} many, {len(counts) - many - few} medium, {few} few), "
        f"{len(arrays['train_y'])} train, {len(arrays['val_y'])} val, "
        f"{len(arrays['test_y'])} test, {len(arrays['open_cp'])} open"
    )


def run_pack(arguments: Arguments) -> str:
    """Shrink to 16 x 16 and compress: glyphs-lt-16px.npz."""
    with np.load(arguments.work / "glyphs-lt-32px.npz") as archive:
        arrays = dict(archive)
    path = arguments.work / "glyphs-lt-16px.npz"
    write_archive(path, shrink_images(arrays))
    return f"{path}: {path.stat().st_size / 1e6:.2f} MB"


STEPS: dict[str, Callable[[Arguments], str]] = {
    "scan": run_scan,
    "render": run_render,
    "clean": run_clean,
    "families": run_families,
    "homoglyphs": run_homoglyphs,
    "build": run_build,
    "pack": run_pack,
}


def pick(kind: Callable[..., Options], arguments: Arguments) -> Options:
    """Make an options object from the flags that are named like its fields."""
    names = kind.__annotations__
    return kind(**{name: getattr(arguments, name) for name in names})


def add_options(parser: argparse.ArgumentParser, kind: type) -> None:
    """Add a flag for every field of an options dataclass."""
    for item in fields(kind):
        flag = "--" + item.name.replace("_", "-")
        help_text = item.metadata["help"]
        parser.add_argument(flag, type=type(item.default), default=item.default, help=help_text)


def make_parser() -> argparse.ArgumentParser:
    """Define the command line: one subcommand a step, and ``all``."""
    parser = argparse.ArgumentParser(prog="rebuild", description="Rebuild Glyphs-LT from fonts.")
    commands = parser.add_subparsers(dest="step", required=True)
    for name in [*STEPS, "all"]:
        text = STEPS[name].__doc__ if name in STEPS else "Run every step in order."
        command = commands.add_parser(
            name, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        command.add_argument("--work", type=Path, required=True, help="folder for all files")
        add_step_flags(command, name)
    return parser


def add_step_flags(command: argparse.ArgumentParser, name: str) -> None:
    """Add the flags that one step, or ``all``, has beside ``--work``."""
    if name in ("scan", "all"):
        command.add_argument(
            "--fonts",
            type=Path,
            nargs="+",
            default=[Path("/usr/share/fonts")],
            help="where to look",
        )
    if name in ("render", "all"):
        add_options(command, RenderOptions)
    if name in ("homoglyphs", "all"):
        command.add_argument(
            "--min-kept", type=int, default=70, help="cleaned glyphs that a candidate needs"
        )
    if name in ("build", "all"):
        add_options(command, BuildOptions)


def main() -> int:
    """Run one step or all of them; results go to stdout."""
    arguments = make_parser().parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in STEPS if arguments.step == "all" else [arguments.step]:
        try:
            print(f"{name}: {STEPS[name](arguments)}", flush=True)
        except (ValueError, OSError) as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
