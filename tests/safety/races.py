"""Every pair of commands that write, at once, many times: ``python -m tests.safety.races``.

Both are forked from one process that has done everything once, wait at a barrier, and start within
the time that one of them takes of each other, half of them at nearly the same moment. What must
hold after each race:

* each ends with 0, or with one clear error and no traceback;
* all files are byte for byte as after one of the two serial orders (or as after one command alone,
  where the other was refused): so nothing is lost, half-written or left over;
* the model is the original, or ``patch --revert`` brings it back.

``--json FILE`` keeps what was found after each few races, and the same command goes on from there.
What takes long and changes no file is made short: trainings of ``compare``, and the pictures, in
whose place are hashes of what is drawn.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import itertools
import json
import multiprocessing
import os
import pickle
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import faiss  # noqa: F401 (so that every process finds it loaded)
import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_model
from torch import nn

from alphafix import commands
from alphafix.alphanet.settings import FitSettings
from alphafix.alphanet.trial import Hyper
from alphafix.commands.app import app
from alphafix.commands.compare import work as compare_work
from alphafix.commands.report import work as report_work
from alphafix.features.verification import MEMORY
from alphafix.files import digest
from alphafix.metrics import limits
from alphafix.metrics.comparison import Comparison
from alphafix.report import content, page
from alphafix.report.collect import Evidence, pictures
from alphafix.report.pictures import Picture
from alphafix.rivals import comparing, kept
from tests.common import make_problem, write_run

MODEL = "model.safetensors"
RUN = "alphafix-run"
OTHER = "other-run"
RECIPE = """
run: alphafix-run
stages:
  - neighbors: {k: 2}
  - train: {seeds: 1, epochs: 5, rho: 2}
  - evaluate: {bootstraps: 100, seed: 2}
"""

NETWORK = (
    "--backbone python:tests.safety.races:network --data data --image-size 8 "
    "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --workers 0"
)
FIX = (
    "fix net.safetensors --backbone python:tests.safety.races:network --data data "
    "-o fixed.safetensors --max-overall-drop 99 --set extract.workers=0 "
    "--set extract.image_size=8 --set extract.mean='0.5,0.5,0.5' --set extract.std='0.5,0.5,0.5' "
    "--set extract.few_below=2 --set extract.many_above=2 --set train.method=few-bias "
    "--set report.bootstraps=100 --set evaluate.bootstraps=100 --run fixed"
)

# Each changes something: other options than what is there was made with.
COMMANDS = {
    "extract": f"extract {NETWORK} --overwrite",
    "neighbors": "neighbors -k 4 --overwrite",
    "train": "train --seeds 1 --epochs 5 --rho 1 --overwrite",
    "evaluate": "evaluate --bootstraps 100 --seed 1 --overwrite --junit junit.xml",
    "compare": "compare --methods tau-norm --rho 1 --seeds 1 -k 2 --no-on-top --bootstraps 100 "
    "--overwrite",
    "report": "report --bootstraps 100 --overwrite",
    "patch copy": f"patch {MODEL} -o copy.safetensors --overwrite",
    "patch --in-place": f"patch {MODEL} --in-place",
    "patch --revert": f"patch {MODEL} --revert",
    # From another run directory, whose lock is another one; without --overwrite.
    "other copy": f"patch {MODEL} -o copy.safetensors --run {OTHER}",
    "other --in-place": f"patch {MODEL} --in-place --run {OTHER}",
    "other --revert": f"patch {MODEL} --revert --run {OTHER}",
    "features import": "features import --split val val.npz --overwrite",
    "features export": "features export --split val out.npy --overwrite",
    "run": "run recipe.yaml --overwrite",
    # Into run directories that are not there yet.
    "extract anew": f"extract {NETWORK} --run new-run",
    "import": "import features all.npz --head head.npz --run new-run",
    "fix": FIX,
}

SPLITS = ("train", "val", "test")

# Seconds after the barrier at which the second command may start, in every second race.
LATEST = 0.02

# Races of a pair between two notes of what was found.
ROUND = 5


def network() -> nn.Module:
    """A model of 12 classes, for `extract`."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 8), nn.ReLU(), nn.Linear(8, 12))
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 10
    return model


@dataclass(frozen=True)
class Outcome:
    """What two commands leave.

    Attributes:
        codes: Their exit codes.
        files: Hash of each file; folders are there too.
    """

    codes: tuple[int, int]
    files: tuple[tuple[str, str], ...]


def prepare(folder: Path) -> None:
    """A run directory with all results, a model, images, features of another tool, a recipe."""
    problem = make_problem()
    write_run(folder / RUN, problem)
    write_run(folder / OTHER, problem)
    tensors = {"fc.weight": problem.head.weight, "fc.bias": problem.head.bias_or_zeros}
    save_file(tensors, folder / MODEL)
    np.savez(folder / "head.npz", weight=tensors["fc.weight"], bias=tensors["fc.bias"])
    save_model(network().state_dict(), folder / "net.safetensors")
    write_images(folder)
    np.savez(folder / "val.npz", features=-problem.features["val"], labels=problem.labels["val"])
    both: dict[str, Any] = {}
    for split in ("train", "val"):
        both[f"{split}_features"] = problem.features[split]
        both[f"{split}_labels"] = problem.labels[split]
    np.savez(folder / "all.npz", **both)
    (folder / "recipe.yaml").write_text(RECIPE)


def write_images(folder: Path) -> None:
    """Images of 12 classes, 3 of them rare, in ``folder``/data."""
    rng = np.random.default_rng(0)
    for split, number, image in itertools.product(SPLITS, range(12), range(3)):
        if split == "train" and number > 8 and image:
            continue
        path = folder / "data" / split / f"class {number:02}" / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)


def sketch(value: Picture | Comparison) -> str:
    """What tells the figure of a value from that of another, without drawing it."""
    if isinstance(value, Comparison):
        return digest(value.to_dict())
    return digest([value.title, value.csv(), dict(value.values)])


def remembered(folder: Path, evidence: Evidence) -> list[Picture]:
    """The figures of a report without their drawings, made once for the same evidence."""
    file = folder / f"{hashlib.sha256(pickle.dumps(evidence)).hexdigest()}.pictures"
    with contextlib.suppress(FileNotFoundError):
        made: list[Picture] = pickle.loads(file.read_bytes())
        return made
    made = [replace(picture, drawing=cast(Any, None)) for picture in pictures(evidence)]
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_bytes(pickle.dumps(made))
    draft.replace(file)
    return made


def hasten(folder: Path) -> None:
    """Make short what takes long and changes no file; ``folder`` keeps what figures hold."""
    torch.set_num_threads(1)
    # How long a fit took is told, and is no part of what is compared.
    comparing._timed = lambda work: (work(), 0.0)
    vars(kept)["time"] = SimpleNamespace(perf_counter=lambda: 0.0)
    vars(comparing)["FitSettings"] = partial(FitSettings, hyper=Hyper(epochs=1))
    limits.HALVES = 4
    vars(content)["pictures"] = partial(remembered, folder)
    page.Drawn.of = classmethod(  # type: ignore[assignment,method-assign]
        lambda cls, picture: cls(picture, sketch(picture), "")
    )
    vars(report_work)["png_bytes"] = lambda made, title=None: str(title).encode()
    vars(compare_work).update(
        figure=lambda value: value,
        svg_text=sketch,
        png_bytes=lambda value: sketch(value).encode(),
    )
    for command in commands.COMMANDS.values():
        command._function("work", "work"), command._function("show", "show")


def call(world: Path, words: str, told: Path, start: tuple[int, int], delay: float) -> int:
    """Fork a process that does a command once the barrier is open, in silence; its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.close(start[1])
        os.chdir(world)
        output = os.open(told, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.read(start[0], 1)  # until the other end is closed
        time.sleep(delay)
        app(words.split())
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def together(world: Path, notes: Path, words: list[str], delays: list[float]) -> list[int]:
    """Exit codes of commands that start at one barrier."""
    start = os.pipe()
    children = [
        call(world, each, notes / str(i), start, delay)
        for i, (each, delay) in enumerate(zip(words, delays, strict=True))
    ]
    os.close(start[0])
    os.close(start[1])
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def state(world: Path) -> tuple[tuple[str, str], ...]:
    """Hash of each file; what was verified when is no result."""
    return tuple(
        (str(path.relative_to(world)), hashlib.sha256(path.read_bytes()).hexdigest())
        if path.is_file()
        else (f"{path.relative_to(world)}/", "")
        for path in sorted(world.rglob("*"))
        if path.name != MEMORY
    )


Pair = tuple[str, str]


class Races:
    """Races in one folder.

    Args:
        folder: An empty folder.
        seed: Seed of the delays.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.world, self.notes = folder / "world", folder / "notes"
        self.seed = seed
        self.allowed: dict[Pair, list[Outcome]] = {}
        self.took: dict[tuple[str, bool], float] = {}
        self.notes.mkdir()
        self.plain, self.patched = folder / "plain", folder / "patched"
        self.world.mkdir()
        prepare(self.world)
        for run, seed in ((RUN, 0), (OTHER, 7)):
            self.must(f"neighbors -k 3 --run {run}")
            self.must(f"train --seeds 1 --seed {seed} --epochs 5 --run {run}")
        self.original = (self.world / MODEL).read_bytes()
        shutil.copytree(self.world, self.plain)
        self.must(COMMANDS["patch --in-place"])
        shutil.copytree(self.world, self.patched)

    def must(self, words: str) -> None:
        """Do a command that cannot fail."""
        if together(self.world, self.notes, [words], [0]) != [0]:
            raise RuntimeError(f"{words}: {(self.notes / '0').read_text()}")

    def anew(self, pair: Pair) -> None:
        """The files as they are before a race: of a patched model, if one reverts."""
        shutil.rmtree(self.world)
        shutil.copytree(self.patched if _reverts(pair) else self.plain, self.world)

    def warm(self, names: Iterable[str]) -> None:
        """Do commands once in this process, so that those forked from it need not begin."""
        here = Path.cwd()
        for name in names:
            self.anew((name, name))
            os.chdir(self.world)
            with _silent(), contextlib.suppress(SystemExit):
                app(COMMANDS[name].split())
        os.chdir(here)
        gc.collect()
        gc.freeze()  # or collecting garbage would copy all of it in every race

    def outcome(self, codes: list[int]) -> Outcome:
        """What is there now."""
        return Outcome((codes[0], codes[1]), state(self.world))

    def serial(self, pair: Pair) -> list[Outcome]:
        """What may be left: one after the other, or one alone with the other refused."""
        found = []
        for first, second in ((0, 1), (1, 0)):
            self.anew(pair)
            codes = [1, 1]
            for place in (first, second):
                began = time.monotonic()
                codes[place] = together(self.world, self.notes, [COMMANDS[pair[place]]], [0])[0]
                if place == first:
                    self.took[pair[first], _reverts(pair)] = time.monotonic() - began
                    if codes[first] and not _reverts(pair):
                        raise RuntimeError(f"{pair[first]}: {(self.notes / '0').read_text()}")
                    alone = [codes[0] if place == 0 else 1, codes[1] if place == 1 else 1]
                    found.append(self.outcome(alone))
            found.append(self.outcome(codes))
        return found

    def race(self, pair: Pair, number: int) -> list[str]:
        """Race once; what is wrong then. The same number has the same delays."""
        if pair not in self.allowed:
            self.allowed[pair] = self.serial(pair)
        self.anew(pair)
        chance = random.Random(f"{self.seed} {pair} {number}")
        first = chance.randrange(2)
        latest = LATEST if number % 2 else self.took[pair[first], _reverts(pair)]
        delays = [0.0, 0.0]
        delays[1 - first] = chance.uniform(0, latest)
        codes = together(self.world, self.notes, [COMMANDS[name] for name in pair], delays)
        found = self.outcome(codes)
        wrong = []
        for place, code in enumerate(codes):
            told = (self.notes / str(place)).read_text(errors="replace")
            errors = sum(line.startswith("error: ") for line in told.splitlines())
            if code not in (0, 1) or errors != code or "Traceback" in told:
                wrong.append(f"exit code {code} with {errors} errors: {told[-2000:]}")
        if found not in self.allowed[pair]:
            allowed = self.allowed[pair]
            nearest = min((set(found.files) ^ set(one.files) for one in allowed), key=len)
            names = sorted({name for name, _ in nearest})
            wrong.append(f"as after no serial order: codes {codes}, differing {names[:8]}")
        if (self.world / MODEL).read_bytes() != self.original:
            self.must(COMMANDS["patch --revert"])
            if (self.world / MODEL).read_bytes() != self.original:
                wrong.append("the original is lost")
        return wrong


def _reverts(pair: Pair) -> bool:
    return any(name.endswith("--revert") for name in pair)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing that this process says is heard."""
    kept = os.dup(1), os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        yield
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)


# The arenas of this process, by their folder.
_ARENAS: dict[Path, Races] = {}


def _round(folder: Path, seed: int, task: tuple[Pair, range]) -> tuple[str, int, list[str]]:
    pair, numbers = task
    own = folder / str(os.getpid())
    if own not in _ARENAS:
        own.mkdir()
        _ARENAS[own] = Races(own, seed)
    races = _ARENAS[own]
    return " | ".join(pair), len(numbers), [w for n in numbers for w in races.race(pair, n)]


def main() -> int:
    """Race, and print what was found; 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200, help="races of each pair")
    parser.add_argument("--only", default="", help="commands, with commas; every pair of them")
    parser.add_argument("--seed", type=int, default=0, help="seed of the delays")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="races at once")
    parser.add_argument("--folder", type=Path, help="where to race  [in memory, if that is there]")
    parser.add_argument("--json", type=Path, help="file of the figures, which goes on if there")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(COMMANDS)
    pairs = list(itertools.combinations_with_replacement(names, 2))
    figures: dict[str, Any] = {"seconds": 0.0, "pairs": {}}
    if given.json is not None and given.json.is_file():
        figures = json.loads(given.json.read_text())
    memory = Path("/dev/shm")
    place = given.folder or (memory if memory.is_dir() else None)
    with tempfile.TemporaryDirectory(dir=place) as made:
        folder = Path(made)
        hasten(folder)
        (folder / "warm").mkdir()
        Races(folder / "warm", given.seed).warm(names)
        found: dict[str, Any] = figures["pairs"]
        done = {pair: found.get(" | ".join(pair), {"races": 0})["races"] for pair in pairs}
        tasks = [
            (pair, range(start, min(start + ROUND, given.times)))
            for start in range(0, given.times, ROUND)
            for pair in pairs
            if start >= done[pair]
        ]
        before = figures["seconds"]
        began = time.monotonic()
        workers = multiprocessing.get_context("fork").Pool(given.jobs)
        work = partial(_round, folder, given.seed)
        with workers:
            for name, races, faults in workers.imap_unordered(work, tasks):
                own = found.setdefault(name, {"races": 0, "faults": []})
                own["races"] += races
                own["faults"] += faults
                figures["seconds"] = round(before + time.monotonic() - began, 1)
                _tell(figures, given.json)
                print(f"{name:40} {own['races']:4} {len(own['faults'])}", file=sys.stderr)
    print(_tell(figures, given.json))
    return 1 if figures["faults"] else 0


def _tell(figures: dict[str, Any], file: Path | None) -> str:
    """Sum up what was found, and keep it."""
    pairs = figures["pairs"]
    figures["races"] = sum(pair["races"] for pair in pairs.values())
    figures["faults"] = [f"{name}: {w}" for name, pair in pairs.items() for w in pair["faults"]]
    figures["least"] = min(pair["races"] for pair in pairs.values())
    text = json.dumps(figures, indent=2)
    if file is not None:
        draft = file.with_name(f"{file.name}.new")
        draft.write_text(text + "\n")
        draft.replace(file)
    return text


if __name__ == "__main__":
    raise SystemExit(main())
