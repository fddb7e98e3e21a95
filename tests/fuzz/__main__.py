"""`python -m tests.fuzz --reader npz --inputs 100000`: see CONTRIBUTING.md.

Each reader works in a process of its own, started again where an input ended it. Inputs are found
by coverage if atheris is there (`pip install 'alphafix[fuzz]'`), and by chance otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

# An input that no signal of Python's can stop ends its process after so many seconds of processor
# time (a busy machine gives it little), or if it waits for ever.
PATIENCE = 60
LONGEST = 1200
# Inputs between two notes of how many there were.
STEP = 50


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--reader", action="append", help="a reader (several times); all by default"
    )
    parser.add_argument("--inputs", type=int, default=1000, help="inputs a reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--by-chance", action="store_true", help="leave atheris alone")
    parser.add_argument("--findings", type=Path, help="folder that keeps the inputs that fell")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        _child(options)
        return 0
    names = options.reader or _names()
    results = [_fuzz(name, options) for name in names]
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        for result in results:
            found = "; ".join(f"{what} x{n}" for what, n in result["findings"].items())
            took = f"{result['inputs']:>9,} inputs {result['seconds']:>6.0f} s"
            print(f"{result['reader']:20} {took}  {result['how']}  {found or 'no finding'}")
    return 1 if any(result["findings"] for result in results) else 0


def _names() -> list[str]:
    from tests.fuzz.readers import READERS

    return list(READERS)


def _fuzz(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Let children work until all inputs are done."""
    by_chance = options.by_chance or importlib.util.find_spec("atheris") is None
    findings: Counter[str] = Counter()
    done, began = 0, time.monotonic()
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as made:
        folder = Path(made)
        while done < options.inputs:
            command = [sys.executable, "-m", "tests.fuzz", "--child", made, "--reader", name]
            command += ["--inputs", str(options.inputs - done), "--seed", str(options.seed + done)]
            (folder / "done").write_text("0")
            child = subprocess.Popen(
                command + ["--by-chance"] * by_chance,
                stdout=subprocess.DEVNULL,
                stderr=(folder / "stderr").open("w"),
            )
            _watch(child, folder / "done")
            count = int((folder / "done").read_text() or 0)
            done += max(count, 1)
            if child.returncode != 0 and count < options.inputs:
                findings[f"the process ended with {child.returncode}"] += 1
                done += STEP  # those since the last note
                _keep(options.findings, name, "ended", folder / "in", folder / "stderr")
                if findings.total() > 100:
                    break
            for file in folder.glob("finding-*.json"):
                found = json.loads(file.read_text())
                findings[found["what"]] += found["count"]
                _keep(options.findings, name, found["what"].replace(" ", "-"), file)
                file.unlink()
    return {
        "reader": name,
        "inputs": done,
        "seconds": round(time.monotonic() - began, 1),
        "how": "by chance" if by_chance else "by coverage",
        "findings": dict(findings),
    }


def _watch(child: subprocess.Popen[bytes], done: Path) -> None:
    """Wait for a child while it moves on."""
    moved, since, used = 0, time.monotonic(), 0.0
    while True:
        try:
            child.wait(5)
            return
        except subprocess.TimeoutExpired:
            now, cpu = done.stat().st_mtime_ns, _used(child.pid)
            if now != moved:
                moved, since, used = now, time.monotonic(), cpu
            elif cpu - used > PATIENCE or time.monotonic() - since > LONGEST:
                child.kill()
                child.wait()
                return


def _used(pid: int) -> float:
    """Seconds of processor time that a process has had."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _keep(folder: Path | None, reader: str, what: str, *files: Path) -> None:
    if folder is None:
        return
    target = folder / f"{reader}-{what}".replace("/", "_").replace(":", "-")
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        with contextlib.suppress(OSError):
            if file.is_dir():
                subprocess.run(["cp", "-r", str(file), str(target)], check=False)
            else:
                (target / file.name).write_bytes(file.read_bytes())


def _child(options: argparse.Namespace) -> None:
    (name,) = options.reader
    if options.by_chance:
        from tests.fuzz.readers import READERS
    else:
        import atheris

        with atheris.instrument_imports(include=["alphafix", "yaml", "tarfile", "zipfile"]):
            from tests.fuzz.readers import READERS
    from tests.fuzz.engine import limit_memory, mutated, mutations, try_one

    reader, folder = READERS[name], options.child
    path = folder / "in" / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        seeds = reader.seeds(Path(made))
    reader.around(path.parent)
    for seed in seeds:  # what is honest must be read, and libraries are loaded before the limit
        reader.read(_written(path, reader.wrap(seed)))
    limit_memory()
    counts: Counter[str] = Counter()
    done = 0

    def one(data: bytes) -> None:
        nonlocal done
        done += 1
        found = try_one(reader, path, data)
        if found is not None:
            counts[found.what] += 1
            said = {**vars(found), "input": found.input.hex(), "count": counts[found.what]}
            number = list(counts).index(found.what)
            (folder / f"finding-{os.getpid()}-{number}.json").write_text(json.dumps(said))
        if done % STEP == 0 or done >= options.inputs:
            (folder / "done").write_text(str(done))

    if options.by_chance:
        for data in mutations(seeds, options.seed):
            one(data)
            if done >= options.inputs:
                return

    def custom(data: bytes, most: int, seed: int) -> bytes:
        import random

        rng = random.Random(seed)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return mutated([data or seeds[0], *seeds], rng)[:most]

    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    most = 4 * max(map(len, seeds)) + 4096
    flags = [f"-runs={options.inputs}", f"-seed={options.seed + 1}", f"-max_len={most}"]
    flags += ["-timeout=120", "-rss_limit_mb=0", f"-artifact_prefix={folder}/", "-verbosity=0"]
    atheris.Setup(["fuzz", *flags, str(corpus)], one, custom_mutator=custom)
    atheris.Fuzz()


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


if __name__ == "__main__":
    sys.exit(main())
