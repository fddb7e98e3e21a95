"""Commands that are killed, fail or lose the power at each of their changes on the disk.

Run as ``python -m tests.safety.crash FOLDER NAME...``; prints a line of JSON for each command.
Each trial is forked from this process, which has imported everything and done nothing else. What a
state of the disk leads to is tried once for each state, however many points lead there.

``--small`` does kills only, and these in one run: what is on the disk before a change is what a
kill there would leave. ``--few`` leaves out points that are like others: of those that the same
lines of the package reach (file after file of a report, say), it tries the first two and the last;
and of the states after a power cut, 200 by chance, always the same ones.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import importlib
import json
import os
import pickle
import pkgutil
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_model

import alphafix
from alphafix.checkpoints import find_head
from alphafix.checkpoints.patch.inplace import revert, undo_path
from alphafix.commands import COMMANDS
from alphafix.commands.command import Watch
from alphafix.errors import AlphafixError
from tests.checkpoints.models import Trunk, export_onnx, make_correction, write_stages
from tests.common import make_problem, write_run
from tests.extract.models import small_net
from tests.safety import races
from tests.safety.disk import WRITES, Fails, State, Watched, after_power_cuts, state_of

Prepare = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """A command to be stopped.

    Attributes:
        command: Its name.
        options: Its options; texts in which FOLDER stands for the folder.
        prepare: Makes what it works on.
        model: A file that it changes in place, or "".
    """

    command: str
    options: Mapping[str, Any]
    prepare: Prepare
    model: str = ""

    def run(self, folder: Path) -> None:
        """Do it."""
        command = COMMANDS[self.command]
        given = {
            name: value.replace("FOLDER", str(folder)) if isinstance(value, str) else value
            for name, value in self.options.items()
        }
        command.work(command.options.model_validate(given), Watch())


class Classifier(torch.nn.Module):
    """16 features and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.fc = torch.nn.Linear(16, 12)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.fc(self.trunk(images))
        return found


def _stages(folder: Path, model: str) -> None:
    head = find_head(folder / model, name="fc")
    write_stages(folder / "run", head, make_correction(head))


def _tensors() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"body.weight": (30, 30), "fc.weight": (12, 16), "fc.bias": (12,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def single(folder: Path) -> None:
    """A safetensors file."""
    save_file(_tensors(), folder / "model.safetensors")
    _stages(folder, "model.safetensors")


def patched(folder: Path) -> None:
    """The same, patched in place."""
    single(folder)
    patch_in_place.run(folder)


def sharded(folder: Path) -> None:
    """A head over two shards."""
    tensors = _tensors()
    index = {"weight_map": {name: f"{name[:7]}.safetensors" for name in tensors}}
    for name in tensors:
        save_file({name: tensors[name]}, folder / f"{name[:7]}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    _stages(folder, "model.safetensors.index.json")


def onnx(folder: Path) -> None:
    """An ONNX file whose weights are in another."""
    torch.manual_seed(0)
    model = Classifier().eval()
    export_onnx(model, torch.zeros(1, 3, 32, 32), folder / "model.onnx", external_data=True)
    head = find_head(folder / "model.onnx")
    write_stages(folder / "run", head, make_correction(head))


def archive(folder: Path) -> None:
    """A torch file."""
    torch.manual_seed(0)
    torch.save(Classifier().state_dict(), folder / "model.pth")
    _stages(folder, "model.pth")


def features(folder: Path) -> None:
    """A run with neighbours."""
    write_run(folder / "run", make_problem())
    NEIGHBORS.run(folder)


def features_alone(folder: Path) -> None:
    """A run without neighbours."""
    write_run(folder / "run", make_problem())


def whole(folder: Path) -> None:
    """A model and its images."""
    races.write_images(folder)
    save_model(races.network().state_dict(), folder / MODEL)


def exported(folder: Path) -> None:
    """A run without features of val, and these in a file."""
    problem = make_problem()
    write_run(folder / "run", problem, splits=("train",))
    np.savez(folder / "val.npz", features=problem.features["val"], labels=problem.labels["val"])


def other_training(folder: Path) -> None:
    """The same, and training features of other class counts in a file."""
    problem = make_problem()
    write_run(folder / "run", problem, splits=("val",))
    kept = slice(None, None, 2)
    rows, labels = problem.features["train"][kept], problem.labels["train"][kept]
    np.savez(folder / "train.npz", features=rows, labels=labels)


def images(folder: Path) -> None:
    """Six images."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("a", "b", "c"):
            (folder / "data" / split / name).mkdir(parents=True)
            pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "data" / split / name / "0.png")


def parts(folder: Path) -> None:
    """What the two jobs of an array have extracted."""
    images(folder)
    torch.manual_seed(0)
    save_model(small_net().state_dict(), folder / MODEL)
    for index in range(2):
        given = {**EXTRACT, "weights": f"FOLDER/{MODEL}", "shard_index": index, "shard_count": 2}
        Case("extract", given, images).run(folder)


RECIPE = """
run: run
stages:
  - train: {seeds: 1, epochs: 1, rho: 0.5}
  - patch: {file: model.safetensors PATCH}
  - evaluate: {bootstraps: 100}
"""


def _recipe(folder: Path, patch: str) -> None:
    features(folder)
    head = make_problem().head
    save_file({"fc.weight": head.weight, "fc.bias": head.bias_or_zeros}, folder / MODEL)
    (folder / "recipe.yaml").write_text(RECIPE.replace(" PATCH", patch))


def recipe(folder: Path) -> None:
    """A recipe that trains, patches a copy and measures it."""
    _recipe(folder, "")


def recipe_in_place(folder: Path) -> None:
    """A recipe that patches the model itself."""
    _recipe(folder, ", in_place: true")


def trained(folder: Path) -> None:
    """A run with a correction."""
    features(folder)
    TRAIN.run(folder)


def foreign(folder: Path) -> None:
    """Features and a head in files, and no run."""
    problem = make_problem()
    arrays: dict[str, Any] = {}
    for split in ("train", "val"):
        arrays[f"{split}_features"] = problem.features[split]
        arrays[f"{split}_labels"] = problem.labels[split]
    np.savez(folder / "all.npz", **arrays)
    np.savez(folder / "head.npz", weight=problem.head.weight, bias=problem.head.bias_or_zeros)


RUN = {"run": "FOLDER/run", "wait": 0.0}
MODEL = "model.safetensors"
NEIGHBORS = Case("neighbors", {**RUN, "k": 3}, lambda folder: None)
TRAIN = Case("train", {**RUN, "seeds": 2, "epochs": 2, "rho": (0.5,)}, features)
patch_in_place = Case("patch", {**RUN, "file": f"FOLDER/{MODEL}", "in_place": True}, single, MODEL)


EXTRACT = {
    "run": "FOLDER/run",
    "data": "FOLDER/data",
    "backbone": "python:tests.extract.models:small_net",
    "workers": 0,
    "batch_size": 1,
    "shard_samples": 1,
}
FIX = (
    "extract.workers=0",
    "extract.image_size=8",
    "extract.mean=0.5,0.5,0.5",
    "extract.std=0.5,0.5,0.5",
    "extract.few_below=2",
    "extract.many_above=2",
    "train.method=few-bias",
    "report.bootstraps=100",
    "evaluate.bootstraps=100",
)


def _patch(prepare: Prepare, file: str, **options: Any) -> Case:
    return Case("patch", {**RUN, "file": f"FOLDER/{file}", **options}, prepare)


CASES = {
    "patch": _patch(single, MODEL, card="FOLDER/README.md"),
    "patch into a folder": _patch(single, MODEL, output="FOLDER/new/deep/"),
    "patch --overwrite": _patch(single, MODEL, overwrite=True),
    "patch --delta": _patch(single, MODEL, delta=True),
    "patch --in-place": patch_in_place,
    "patch, sharded": _patch(sharded, f"{MODEL}.index.json"),
    "patch, ONNX": _patch(onnx, "model.onnx"),
    "patch, torch": _patch(archive, "model.pth"),
    "patch --revert": Case(
        "patch", {**RUN, "file": f"FOLDER/{MODEL}", "revert": True}, patched, MODEL
    ),
    "train": TRAIN,
    "train --method auto": Case(
        "train",
        {
            **RUN,
            "method": "auto",
            "methods": ("tau-norm", "lws"),
            "seeds": 1,
            "epochs": 1,
            "rho": (0.5,),
        },
        features,
    ),
    "features import": Case(
        "features import", {"run": "FOLDER/run", "file": "FOLDER/val.npz", "split": "val"}, exported
    ),
    "features import, train": Case(
        "features import",
        {"run": "FOLDER/run", "file": "FOLDER/train.npz", "split": "train"},
        other_training,
    ),
    "features export": Case(
        "features export",
        {"run": "FOLDER/run", "file": "FOLDER/val.npy", "split": "val"},
        features,
    ),
    "extract": Case(
        "extract",
        {
            "run": "FOLDER/run",
            "data": "FOLDER/data",
            "backbone": "python:tests.extract.models:small_net",
            "workers": 0,
        },
        images,
    ),
    "extract, a part": Case("extract", {**EXTRACT, "shard_index": 1, "shard_count": 2}, images),
    "features merge": Case("features merge", {**RUN}, parts),
    "import": Case(
        "import",
        {
            "run": "FOLDER/run",
            "kind": "features",
            "source": "FOLDER/all.npz",
            "head": "FOLDER/head.npz",
        },
        foreign,
    ),
    "run": Case("run", {"file": "FOLDER/recipe.yaml"}, recipe),
    "run, in place": Case("run", {"file": "FOLDER/recipe.yaml"}, recipe_in_place, MODEL),
    "neighbors --csv": Case("neighbors", {**RUN, "k": 2, "csv": "FOLDER/near.csv"}, features_alone),
    "evaluate --junit": Case(
        "evaluate",
        {**RUN, "bootstraps": 100, "junit": "FOLDER/j.xml", "markdown": "FOLDER/m.md"},
        trained,
    ),
    "make-lt": Case(
        "make-lt",
        {"data": "FOLDER/data", "output": "FOLDER/lists", "min_images": 1, "val": 0, "test": 0},
        images,
    ),
    "report": Case("report", {**RUN, "bootstraps": 100, "output": "FOLDER/page"}, trained),
    "compare": Case(
        "compare",
        {**RUN, "bootstraps": 100, "methods": ("tau-norm",), "rho": (0.5,), "seeds": 1, "k": (2,)},
        trained,
    ),
    "fix": Case(
        "fix",
        {
            "file": f"FOLDER/{MODEL}",
            "backbone": "python:tests.safety.races:network",
            "data": "FOLDER/data",
            "run": "FOLDER/run",
            "max_overall_drop": 99.0,
            "settings": FIX,
        },
        whole,
    ),
}


def _forked(work: Callable[[], None], told: Path) -> int:
    """Do ``work`` in a process of its own: 0 done, 1 refused, 3 another error, 137 killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        code = 0
        try:
            work()
        except (AlphafixError, OSError) as error:  # each is one message on the command line
            told.write_text(str(error))
            code = 1
        except BaseException:
            told.write_text(traceback.format_exc())
            code = 3
    finally:
        os._exit(code)


def _reverted(model: Path) -> None:
    revert([model])


def _restore(folder: Path, state: State) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in sorted(state.items()):
        if content is None:
            Path(name).mkdir(parents=True, exist_ok=True)
        else:
            Path(name).write_bytes(content)


class Trials:
    """All trials of a case.

    Args:
        case: The case.
        folder: Where to work.
        bare: Whether the file system has no files without names.
        tried: Hashes of the states from which the command has completed; more are added.
    """

    def __init__(
        self, case: Case, folder: Path, *, bare: bool = False, tried: set[str] | None = None
    ) -> None:
        self.case, self.bare = case, bare
        self.tried = set() if tried is None else tried
        self.folder, self.told = folder / "work", folder / "told"
        self.wrong: list[str] = []
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._try(lambda: case.prepare(self.folder))
        self.before = state_of(self.folder)
        trace = folder / "trace"
        self._try(lambda: self._traced(trace))
        self.after = state_of(self.folder)
        self.names: list[str] = []
        self.lines: list[str] = []
        for line in trace.read_text().splitlines():
            name, _, lines = line.partition(" ")
            self.names.append(name)
            self.lines.append(lines)

    def _try(self, work: Callable[[], None]) -> None:
        if _forked(work, self.told):
            raise RuntimeError(self.told.read_text())

    def _traced(self, trace: Path) -> None:
        names: list[str] = []
        lines: list[str] = []
        self._watched(lambda number, name: names.append(name), lines=lines)
        self.case.run(self.folder)
        with os.fdopen(os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
            file.write("\n".join(map(" ".join, zip(names, lines, strict=True))))

    def points(self, *, few: bool = False) -> list[int]:
        """All points, or those that are no more than another of what is done again and again."""
        alike: dict[tuple[str, str], list[int]] = {}
        for at, key in enumerate(zip(self.names, self.lines, strict=True)):
            alike.setdefault(key, []).append(at)
        if not few:
            return list(range(len(self.names)))
        return sorted({at for group in alike.values() for at in (*group[:2], group[-1])})

    def _watched(self, fails: Fails, *, lines: list[str] | None = None) -> Watched:
        if self.bare and hasattr(os, "O_TMPFILE"):
            os.O_TMPFILE = 0  # type: ignore[misc]
        watched = Watched(self.folder, fails, lines=lines)
        watched.start()
        return watched

    def power_cuts(self) -> list[State]:
        """The states that a power cut may leave (see `after_power_cuts`)."""
        _restore(self.folder, self.before)
        kept = self.told.with_name("states")

        def traced() -> None:
            watched = self._watched(lambda number, name: None)
            numbers = watched.initial()
            self.case.run(self.folder)
            root = str(watched.folder)
            kept.write_bytes(
                pickle.dumps(after_power_cuts(root, self.before, numbers, watched.steps))
            )

        self._try(traced)
        states: list[State] = pickle.loads(kept.read_bytes())
        return states

    def before_each(self) -> list[State]:
        """What is on the disk before each change of one run."""
        _restore(self.folder, self.before)
        kept = self.told.with_name("states")

        def traced() -> None:
            states: list[State] = []
            self._watched(lambda number, name: states.append(state_of(self.folder)))
            self.case.run(self.folder)
            kept.write_bytes(pickle.dumps(states))

        self._try(traced)
        states: list[State] = pickle.loads(kept.read_bytes())
        return states

    def stopped(self, fails: Fails) -> tuple[int, str]:
        """Do the command with failures; return its exit code and what it said."""
        _restore(self.folder, self.before)
        self.told.unlink(missing_ok=True)

        def work() -> None:
            self._watched(fails)
            self.case.run(self.folder)

        code = _forked(work, self.told)
        return code, self.told.read_text() if self.told.exists() else ""

    def check(self, what: str, *, tidy: bool = False) -> None:
        """Check what is on the disk, and that the same command completes."""
        state = state_of(self.folder)
        model = str(self.folder / self.case.model)
        for name, content in state.items():
            final = name in self.before or name in self.after
            known = [s[name] for s in (self.before, self.after) if name in s]
            if final and content not in known and name != model:
                self.say(what, f"{name} is half-written")
            if not final and tidy and name.endswith(".tmp"):
                self.say(what, f"{name} is left")
        self._check_original(what, model, state)
        found = hashlib.sha256(pickle.dumps(sorted(state.items()))).hexdigest()
        if state == self.after or found in self.tried:
            return
        self.told.unlink(missing_ok=True)
        code = _forked(lambda: self.case.run(self.folder), self.told)
        if code:
            self.say(what, f"the same command fails: {self.told.read_text()[-400:]}")
        now = state_of(self.folder)
        if not code and now != self.after:
            names = sorted(set(now) ^ set(self.after))
            changed = [n for n in set(now) & set(self.after) if now[n] != self.after[n]]
            self.say(what, f"the same command leaves other files: {names} {changed}")
        if not code and now == self.after:
            self.tried.add(found)

    def _check_original(self, what: str, model: str, state: State) -> None:
        if not self.case.model:
            return
        undo = undo_path(Path(model))
        original = self.before if str(undo) not in self.before else self.after
        if state.get(model) == original[model]:
            return
        if str(undo) not in state or _forked(lambda: _reverted(Path(model)), self.told):
            self.say(what, "the original cannot be restored")
        elif Path(model).read_bytes() != original[model]:
            self.say(what, "the restored original is another")
        _restore(self.folder, state)

    def say(self, what: str, problem: str) -> None:
        """Note what is wrong."""
        self.wrong.append(f"{what}: {problem}".replace(str(self.folder), ""))
        print(self.wrong[-1], file=sys.stderr, flush=True)


# With and without all later changes failing too.
ERRORS = ((errno.EIO, False), (errno.EIO, True), (errno.ENOSPC, True), (errno.EACCES, False))


# States after a power cut that `--few` tries.
FEW_CUTS = 200


def look(case: Case, folder: Path) -> dict[str, Any]:
    """Try what a kill would leave at any point of a case; return how many, and what is wrong."""
    found: dict[str, Any] = {"kills": 0, "states": 0, "wrong": []}
    tried: set[str] = set()
    for bare in (False, True):
        trials = Trials(case, folder, bare=bare, tried=tried)
        last: State = {}
        for at, state in enumerate(trials.before_each()):
            found["kills"] += 1
            if state != last:
                found["states"] += 1
                _restore(trials.folder, state)
                trials.check(f"kill at {'bare ' if bare else ''}{at} {trials.names[at]}")
                last = state
        found["wrong"] += trials.wrong
    return found


def examine(case: Case, folder: Path, *, few: bool = False) -> dict[str, Any]:
    """Try all points of a case; return how many of each kind, and what is wrong."""
    found: dict[str, Any] = {"points": 0, "kills": 0, "errors": 0, "power cuts": 0, "wrong": []}
    tried: set[str] = set()
    for bare in (False, True):
        trials = Trials(case, folder, bare=bare, tried=tried)
        found["points"] += len(trials.names)
        for at in trials.points(few=few):
            name = trials.names[at]
            where = f"{'bare ' if bare else ''}{at} {name}"
            code, _ = trials.stopped(lambda n, _, at=at: 0 if n == at else None)  # type: ignore[misc]
            if code != -signal.SIGKILL:
                trials.say(where, "it was not reached")
            trials.check(f"kill at {where}")
            found["kills"] += 1
            for number, lasting in ERRORS:
                code, told = trials.stopped(partial(_fails, at, number, lasting))
                what = f"{errno.errorcode[number]}{' lasting' if lasting else ''} at {where}"
                if code not in (0, 1):
                    trials.say(what, told[-600:])
                trials.check(what, tidy=not lasting and name != "unlink")
                found["errors"] += 1
        states = trials.power_cuts()
        found["states after power cuts"] = found.get("states after power cuts", 0) + len(states)
        if few and len(states) > FEW_CUTS:
            states = random.Random(0).sample(states, FEW_CUTS)
        for count, state in enumerate(states):
            _restore(trials.folder, state)
            trials.check(f"power cut {'bare ' if bare else ''}{count}")
            found["power cuts"] += 1
        found["wrong"] += trials.wrong
    return found


def _fails(at: int, number: int, lasting: bool, n: int, name: str) -> int | None:
    room = number == errno.ENOSPC and name not in WRITES
    return number if n == at or (lasting and n > at and not room) else None


def main() -> None:
    """Examine the cases that are named on the command line."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for module in pkgutil.walk_packages(alphafix.__path__, "alphafix."):
        if module.name != "alphafix.__main__":
            importlib.import_module(module.name)
    gc.freeze()  # or collecting garbage would copy all of it in every trial
    folder, *names = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    races.hasten(Path(folder))
    small, few = "--small" in names, "--few" in names
    for name in [name for name in names if name not in ("--small", "--few")] or CASES:
        began = time.monotonic()
        case, place = CASES[name], Path(folder)
        found = look(case, place) if small else examine(case, place, few=few)
        found["seconds"] = round(time.monotonic() - began)
        print(json.dumps({"name": name, **found}), flush=True)


if __name__ == "__main__":
    main()
