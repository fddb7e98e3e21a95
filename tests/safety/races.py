"""Every pair of commands that write, at once, many times: ``python -m tests.safety.races``.

Both are forked from one process that has everything imported, wait at a barrier, and start within
a few hundredths of a second of each other. What must hold after each race:

* each ends with 0, or with one clear error and no traceback;
* all files are byte for byte as after one of the two serial orders (or as after one command alone,
  where the other was refused): so nothing is lost, half-written or left over;
* the model is the original, or ``patch --revert`` brings it back.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss  # noqa: F401 (so that every process finds it loaded)
import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from torch import nn

import alphafix.report.pictures  # noqa: F401
from alphafix import commands
from alphafix.commands.app import app
from alphafix.features.verification import MEMORY
from alphafix.rivals import comparing
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

# Each changes something: other options than what is there was made with.
COMMANDS = {
    "extract": "extract --backbone python:tests.safety.races:network --data data --overwrite "
    "--workers 0 --image-size 8",
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
    "features export": "features export --split val out.npz --overwrite",
    "run": "run recipe.yaml --overwrite",
}

# Seconds after the barrier at which the second command may start.
LATEST = 0.08


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
    rng = np.random.default_rng(0)
    for split, number, image in itertools.product(("train", "val"), range(12), range(2)):
        path = folder / "data" / split / f"class {number}" / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    np.savez(folder / "val.npz", features=-problem.features["val"], labels=problem.labels["val"])
    (folder / "recipe.yaml").write_text(RECIPE)


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


class Races:
    """Races in one folder.

    Args:
        folder: An empty folder.
        seed: Seed of the delays.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.world, self.notes = folder / "world", folder / "notes"
        self.random = random.Random(seed)
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
        """Do a command that has to work."""
        if together(self.world, self.notes, [words], [0]) != [0]:
            raise RuntimeError(f"{words}: {(self.notes / '0').read_text()}")

    def anew(self, pair: tuple[str, str]) -> None:
        """The files as they are before a race: of a patched model, if one reverts."""
        reverts = any(name.endswith("--revert") for name in pair)
        shutil.rmtree(self.world)
        shutil.copytree(self.patched if reverts else self.plain, self.world)

    def outcome(self, codes: list[int]) -> Outcome:
        """What is there now."""
        return Outcome((codes[0], codes[1]), state(self.world))

    def serial(self, pair: tuple[str, str]) -> list[Outcome]:
        """What may be left: one after the other, or one alone with the other refused."""
        found = []
        for first, second in ((0, 1), (1, 0)):
            self.anew(pair)
            codes = [1, 1]
            for place in (first, second):
                codes[place] = together(self.world, self.notes, [COMMANDS[pair[place]]], [0])[0]
                if place == first:
                    alone = [codes[0] if place == 0 else 1, codes[1] if place == 1 else 1]
                    found.append(self.outcome(alone))
            found.append(self.outcome(codes))
        return found

    def race(self, pair: tuple[str, str], allowed: list[Outcome]) -> list[str]:
        """Race once; what is wrong then."""
        self.anew(pair)
        delays = [0.0, self.random.uniform(0, LATEST)]
        self.random.shuffle(delays)
        codes = together(self.world, self.notes, [COMMANDS[name] for name in pair], delays)
        found = self.outcome(codes)
        wrong = []
        for place, code in enumerate(codes):
            told = (self.notes / str(place)).read_text(errors="replace")
            errors = sum(line.startswith("error: ") for line in told.splitlines())
            if code not in (0, 1) or errors != code or "Traceback" in told:
                wrong.append(f"exit code {code} with {errors} errors: {told[-2000:]}")
        if found not in allowed:
            nearest = min((set(found.files) ^ set(one.files) for one in allowed), key=len)
            names = sorted({name for name, _ in nearest})
            wrong.append(f"as after no serial order: codes {codes}, differing {names[:8]}")
        if (self.world / MODEL).read_bytes() != self.original:
            self.must(COMMANDS["patch --revert"])
            if (self.world / MODEL).read_bytes() != self.original:
                wrong.append("the original is lost")
        return wrong


def main() -> int:
    """Race, and print what was found; 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200, help="races of each pair")
    parser.add_argument("--only", default="", help="commands, with commas; every pair of them")
    parser.add_argument("--seed", type=int, default=0, help="seed of the delays")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    # How long a fit took is told, and is no part of what is compared.
    comparing._timed = lambda work: (work(), 0.0)
    for command in commands.COMMANDS.values():
        command._function("work", "work"), command._function("show", "show")
    names = given.only.split(",") if given.only else list(COMMANDS)
    races, faults, began = 0, [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        arena = Races(Path(folder), given.seed)
        for pair in itertools.combinations_with_replacement(names, 2):
            allowed = arena.serial(pair)
            for _ in range(given.times):
                races += 1
                faults += [{"pair": pair, "wrong": text} for text in arena.race(pair, allowed)]
            print(f"{' | '.join(pair):40} {len(faults)} faults so far", file=sys.stderr, flush=True)
    figures: dict[str, Any] = {
        "commands": len(names),
        "races": races,
        "faults": faults,
        "seconds": round(time.monotonic() - began, 1),
    }
    text = json.dumps(figures, indent=2)
    if given.json is not None:
        given.json.write_text(text + "\n")
    print(text)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
