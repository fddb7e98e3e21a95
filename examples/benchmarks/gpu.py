"""Everything that needs a GPU, measured and checked, each part by itself.

    python examples/benchmarks/gpu.py --json > gpu.json
    python examples/benchmarks/gpu.py --parts trainer extract
    python examples/benchmarks/gpu.py --device cpu --tiny

Installs nothing. Each part is a process of its own with a share of eight minutes, to which is
added what the parts before have left over; one that fails or hangs hides no other, and what it had
measured by then is told. What cannot run here says why. At the end there is a table (beside --json
on the standard error); the exit code is 1 if a part failed, a test or a bound of equality among
them. With --tiny the sizes are those of a test, which runs on a CPU; its figures say nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from xml.etree import ElementTree

# Other scripts of this folder, whose problems and loops are measured here on another device.
sys.path.insert(0, str(Path(__file__).parent))

import extract as of_extract
import numpy as np
import oltr as of_oltr
import torch
import train as of_train
from torch import Tensor

from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.sampling import Pool
from alphafix.alphanet.scores import ScoreLayout
from alphafix.alphanet.specs import TrialSpec, all_specs, make_trial
from alphafix.alphanet.training import train_batch
from alphafix.alphanet.trial import Hyper, SweepData, TrainedTrial, Trial
from alphafix.devices import Placement, Precision, autocast
from alphafix.distributed import join
from alphafix.images.decode import decode
from alphafix.images.encoded import (
    BatchDecoder,
    choose_decoder,
    torchcodec_decoder,
    torchvision_decoder,
)
from alphafix.images.spec import open_data
from alphafix.images.splits import open_splits
from alphafix.values.classes import ClassTable

Figure = dict[str, Any]

# Seconds in which all parts together are to be done.
ALL = 480

# Seconds that a part whose time is up has to end its own processes.
GRACE = 5


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        models: timm's names.
        images: Images a turn of extraction.
        files: JPEG files that are decoded.
        problem: What AlphaNet is trained on.
        rhos: Values of rho.
        seeds: Seeds of each.
        epochs: Epochs of a trial.
        classes: Class means that are searched.
        width: Their width.
        batch: Images a step of train-oltr.
        pixels: Their size.
        oltr_classes: Their classes.
        turns: Steps of each kind.
        workers: Processes that load images; None is one a core.
    """

    models: tuple[str, ...] = ("resnet50", "vit_base_patch16_224")
    images: int = 2048
    files: int = 4096
    problem: of_train.Size = field(default_factory=of_train.Size)
    rhos: tuple[float, ...] = of_train.TABLE_A1
    seeds: int = 10
    epochs: int = 25
    classes: int = 74_500
    width: int = 512
    batch: int = 128
    pixels: int = 224
    oltr_classes: int = 1000
    turns: int = 20
    workers: int | None = None


TINY = Sizes(
    models=("resnet10t",),
    images=8,
    files=8,
    problem=of_train.Size(classes=16, width=12, few=4, few_samples=16, train=400, val=64),
    rhos=(0.5, 1.0),
    seeds=2,
    epochs=5,
    classes=200,
    width=8,
    batch=4,
    pixels=32,
    oltr_classes=5,
    turns=1,
    workers=1,
)


@dataclass(frozen=True)
class Place:
    """Where it is measured.

    Attributes:
        device: The device.
        sizes: How much.
    """

    device: torch.device
    sizes: Sizes

    @property
    def on_gpu(self) -> bool:
        """Whether there is a GPU to wait for, with memory of its own."""
        return self.device.type == "cuda"

    @property
    def precision(self) -> Precision:
        """What train-oltr computes in there."""
        return "bf16" if self.on_gpu else "fp32"

    def wait(self) -> None:
        """Wait for the GPU, so that its time is counted where it is spent."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], times: int = 3) -> float:
        """The best of some turns."""
        best = np.inf
        for _ in range(times):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            best = min(best, time.perf_counter() - start)
        return float(best)

    @contextlib.contextmanager
    def memory(self, told: dict[str, float]) -> Iterator[None]:
        """Write the most GiB that the block took on the device into ``told``, on a GPU."""
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        yield
        if self.on_gpu:
            told["GiB"] = torch.cuda.max_memory_allocated() / 2**30


class NotHereError(Exception):
    """A part needs what is not here; the message says what."""


class StepsFailedError(Exception):
    """Some steps of a part failed; the message says which, and why."""


def figure(
    what: str, value: float, unit: str, target: float | None = None, *, most: bool = False
) -> Figure:
    """One line of the result; ``most`` says that the target is an upper limit."""
    met = None if target is None else bool(value <= target if most else value >= target)
    return {"what": what, "value": round(value, 5), "unit": unit, "target": target, "met": met}


def in_steps(steps: Iterable[tuple[str, Callable[[], Iterable[Figure]]]]) -> Iterator[Figure]:
    """The figures of all steps of a part, each of them whatever becomes of the others.

    Raises:
        StepsFailedError: In the end, if some failed.
        NotHereError: In the end, if none failed and some lack what is not here.
    """
    failed, lacking = [], []
    for name, step in steps:
        try:
            yield from step()
        except NotHereError as missing:
            lacking.append(f"{name}: {missing}")
        except Exception as error:  # the next step must still be measured
            traceback.print_exc()
            failed.append(f"{name}: {said(error)}")
    if failed:
        raise StepsFailedError("; ".join([*failed, *lacking]))
    if lacking:
        raise NotHereError("; ".join(lacking))


def said(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def tests(place: Place) -> Iterator[Figure]:
    """The tests that need a GPU."""
    if not place.on_gpu:
        raise NotHereError("no GPU: pytest -m gpu would skip all of them")
    if importlib.util.find_spec("pytest") is None:
        raise NotHereError("pytest is not installed (the extra test)")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-n", "0", f"--junit-xml={report}"]
        # Modules that need what is not installed must not keep the others from being tested.
        command += ["--continue-on-collection-errors"]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        print(done.stdout[-4000:], done.stderr[-2000:], file=sys.stderr)
        if not report.is_file():
            if lacks := re.search("No module named '([^']+)'", done.stdout + done.stderr):
                raise NotHereError(f"{lacks[1]} is not installed (the extra test)")
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise RuntimeError(f"pytest ended with code {done.returncode}: {''.join(last)}")
        suite = next(ElementTree.parse(report).iter("testsuite"))
    yield from of_tests(suite)


def of_tests(suite: ElementTree.Element) -> Iterator[Figure]:
    """Figures of a JUnit suite.

    Raises:
        StepsFailedError: If a test failed, naming it.
    """
    count = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    bad = count["failures"] + count["errors"]
    passed = count["tests"] - bad - count["skipped"]
    yield figure("tests that passed", passed, "", 1)
    yield figure("tests that failed", bad, "", 0, most=True)
    yield figure("tests that were skipped", count["skipped"], "", 0, most=True)
    if bad:
        names = [
            f"{case.get('classname')}.{case.get('name')}"
            for case in suite.iter("testcase")
            if case.find("failure") is not None or case.find("error") is not None
        ]
        raise StepsFailedError(f"tests failed: {', '.join(names)}")


def extract(place: Place) -> Iterator[Figure]:
    """Extraction against the bare forward pass and timm's loader, in each precision."""
    sizes = place.sizes
    of_extract.BATCH = min(128, sizes.images)
    of_extract.SIZE = sizes.pixels
    of_extract.TURNS = 3 if place.on_gpu else 1
    if (workers := sizes.workers) is not None:
        of_extract.cores = lambda: workers
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data = of_extract.write_decoded(folder, sizes.images)
        files = _write_files(folder, sizes.files)
        work = Extraction(place, folder, data, files)
        # What has a target comes first: the time may not suffice for all.
        yield from in_steps(
            (f"{model}, {name}", partial(step, model))
            for name, step in (
                ("bf16" if place.on_gpu else "fp32", work.decoded),
                ("JPEG files", work.jpegs),
                ("other precisions", work.others),
                ("compiled", work.compiled),
            )
            for model in sizes.models
        )


@dataclass(frozen=True)
class Extraction:
    """What is extracted from.

    Attributes:
        place: Where it is measured.
        folder: Where models and features are written.
        data: Decoded images.
        files: The same as JPEG files, in class folders.
    """

    place: Place
    folder: Path
    data: str
    files: str

    def load(self, model: str, precision: str, *, compiled: bool = False) -> Any:
        """A model with random weights."""
        weights = of_extract.save_model(self.folder, model)
        setting = Placement.choose(self.place.device.type, precision)
        return of_extract.load(model, weights, self.data, setting, compiled=compiled)

    def decoded(self, model: str, precision: str = "auto") -> Iterator[Figure]:
        """From decoded images, against the bare forward pass."""
        extractor = self.load(model, precision)
        source = open_splits(open_data(self.data), ["val"]).sources["val"]
        count, steady = self.place.sizes.images, []

        def ours() -> int:
            begun: list[float] = []
            done = of_extract.extracted(extractor, source, self.folder, begun)
            steady.append(done / (time.perf_counter() - begun[0]))
            return done

        bare, whole = of_extract.best_speeds(
            partial(of_extract.forward_only, extractor, count), ours
        )
        precision = extractor.setting.precision
        where = f"{model}, {precision}"
        yield figure(f"bare forward pass, channels last ({where})", bare.rate, "images/s")
        yield figure(
            f"extract, decoded / bare, from the first batch on ({where})",
            max(steady) / bare.rate,
            "x",
            0.95 if precision == "bf16" else None,
        )
        yield figure(
            f"… with the start of its loading processes ({count:,} images)",
            whole.rate / bare.rate,
            "x",
        )
        yield from _layout(self.place, extractor, bare.rate, where)

    def jpegs(self, model: str) -> Iterator[Figure]:
        """From JPEG files, against timm's loader and forward pass."""
        extractor = self.load(model, "auto")
        weights = of_extract.save_model(self.folder, model)
        source = open_splits(open_data(self.files), ["val"]).sources["val"]
        setting = extractor.setting
        theirs, ours = of_extract.best_speeds(
            lambda: of_extract.timm_loop(model, weights, Path(self.files) / "val", setting),
            lambda: of_extract.extracted(extractor, source, self.folder),
        )
        decoder = choose_decoder("auto", setting.device, exif_rotate=False)
        where = f"{model}, {setting.precision}"
        yield figure(f"extract, JPEG files ({where}, {decoder})", ours.rate, "images/s")
        yield figure(f"timm's loader and forward pass ({where})", theirs.rate, "images/s")
        yield figure(f"extract / timm, JPEG files ({where})", ours.rate / theirs.rate, "x", 1.5)

    def others(self, model: str) -> Iterator[Figure]:
        """From decoded images in the precisions that are not the usual one."""
        for precision in ("fp16", "fp32") if self.place.on_gpu else ("bf16",):
            yield from self.decoded(model, precision)

    def compiled(self, model: str) -> Iterator[Figure]:
        """What torch.compile gains, its own time left out."""
        if not self.place.on_gpu:
            return
        plain, compiled = self.load(model, "auto"), self.load(model, "auto", compiled=True)
        count = self.place.sizes.images
        started = time.perf_counter()
        of_extract.forward_only(compiled, of_extract.BATCH)
        self.place.wait()
        started = time.perf_counter() - started
        one, other = of_extract.best_speeds(
            lambda: of_extract.forward_only(plain, count),
            lambda: of_extract.forward_only(compiled, count),
        )
        where = f"{model}, {plain.setting.precision}"
        yield figure(f"compiled / not compiled ({where})", other.rate / one.rate, "x")
        yield figure(f"compiling ({where})", started, "s")


def _write_files(folder: Path, count: int) -> str:
    """JPEG files in class folders; from the 257th on names of the same files, which are drawn."""
    made = of_extract.write_jpegs(folder, min(count, 256))
    paths = sorted(Path(made).rglob("*.jpg"))
    for number in range(len(paths), count):
        path = paths[number % len(paths)]
        os.link(path, path.with_name(f"{number}.jpg"))
    return made


def _layout(place: Place, extractor: Any, rate: float, where: str) -> Iterator[Figure]:
    """What channels last gains over the usual layout."""
    size, batch = place.sizes.pixels, of_extract.BATCH
    images = torch.randn(batch, 3, size, size, device=place.device)
    model, setting = extractor.caught.model, extractor.setting
    model.to(memory_format=torch.contiguous_format)

    def forward() -> None:
        with torch.inference_mode(), autocast(setting.device, setting.precision):
            model(images)

    forward()
    plain = batch / place.seconds(forward)
    model.to(memory_format=torch.channels_last)
    yield figure(f"channels last / the usual layout ({where})", rate / plain, "x")


def trainer(place: Place) -> Iterator[Figure]:
    """Table A1 of AlphaNet: its time by part, its memory, and how busy the GPU is."""
    sizes = place.sizes
    hyper = Hyper(epochs=sizes.epochs)
    problem = of_train.generate(sizes.problem)
    few = TrialSpec(sizes.rhos[0], 5, 0)
    of_train.run_ours(problem, [few], replace(hyper, epochs=1, first_epoch=1), place.device, 1)
    every = list(all_specs(sizes.rhos, [5], range(sizes.seeds)))
    told: dict[str, float] = {}
    with place.memory(told):
        clock = of_train.run_ours(problem, every, hyper, place.device, 256)
    name = f"{len(sizes.rhos)} rho x {sizes.seeds} seeds"
    size = f"C {sizes.problem.classes}, D {sizes.problem.width}"
    yield figure(f"{name} ({size})", clock.total(), "s", 10, most=True)
    for part, seconds in clock.parts.items():
        yield figure(f"… {part}", seconds, "s")
    if told:
        yield figure("… most memory of the device", told["GiB"], "GiB")
    trials, data = _prepared(problem, hyper, every, place.device)
    steps = sum(trial.steps(hyper) for trial in trials)
    flops = of_train.peak_flops(place.device)
    yield figure(
        "… steps / floor of the products",
        clock.parts["steps and validation"] / of_train.floor_seconds(problem, 1, steps, flops),
        "x",
    )
    if place.on_gpu:
        yield from _busy(place, trials, data, hyper)


def _prepared(
    problem: of_train.Problem, hyper: Hyper, specs: list[TrialSpec], device: torch.device
) -> tuple[list[Trial], SweepData]:
    """Trials, and what they are trained on, on the device."""
    pool = Pool.of(problem.labels, problem.classes)
    trials = [make_trial(spec, problem.neighbors, pool, hyper) for spec in specs]
    index = np.unique(np.concatenate([np.unique(trial.samples) for trial in trials]))
    trials = [replace(t, samples=np.searchsorted(index, t.samples)) for t in trials]
    layout = ScoreLayout.of(len(problem.classes), problem.classes.few, problem.neighbors)
    return trials, of_train.data_of(problem, layout, device, index)


def _busy(place: Place, trials: list[Trial], data: SweepData, hyper: Hyper) -> Iterator[Figure]:
    """Kernels a step, and the share of the time in which the GPU computes.

    A share well below 1 says that launching kernels is what takes the time: what CUDA graphs or
    torch.compile can win at most.
    """
    from torch.profiler import ProfilerActivity, profile

    few = 20
    short = replace(hyper, max_steps=few)
    run = partial(train_batch, trials, data, short, advance=lambda count: None)
    seconds = place.seconds(run)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        run()
        place.wait()
    events = [e for e in profiled.events() or () if e.device_type.name == "CUDA"]
    busy = sum(event.device_time_total for event in events) / 1e6
    yield figure(f"kernels a step, of {few}", len(events) / few, "")
    yield figure("share of these steps' time in which the GPU works", busy / seconds, "")


def equality(place: Place) -> Iterator[Figure]:
    """How far results on the device are from those of the CPU.

    Raises:
        StepsFailedError: In the end, if they are further apart than is stated.
    """
    beyond = []
    for entry in in_steps(
        (
            ("trainer", partial(_trained_alike, place)),
            ("extraction", partial(_extracted_alike, place)),
        )
    ):
        yield entry
        if entry["met"] is False:
            beyond.append(entry["what"])
    if beyond:
        raise StepsFailedError(f"not within the bound: {'; '.join(beyond)}")


def _trained_alike(place: Place) -> Iterator[Figure]:
    hyper = Hyper(epochs=min(place.sizes.epochs, 10))
    size = min(
        place.sizes.problem,
        of_train.Size(200, 128, 27, 330, 8000, 2000),
        key=lambda one: one.classes,
    )
    problem = of_train.generate(size)
    here, there = (_trained(problem, hyper, d) for d in (torch.device("cpu"), place.device))
    pairs = list(zip(here, there, strict=True))
    losses = max(
        abs(a.history[0].loss - b.history[0].loss) / max(a.history[0].loss, 1e-12) for a, b in pairs
    )
    alphas = max(float((a.alphas - b.alphas.cpu()).abs().max()) for a, b in pairs)
    same = np.mean([a.epoch == b.epoch for a, b in pairs])
    right = [
        float((a.correct.cpu() == b.correct.cpu()).float().mean())
        for a, b in pairs
        if a.correct is not None and b.correct is not None
    ]
    yield figure("first epoch's loss, relative difference", losses, "", 1e-4, most=True)
    yield figure("alphas, largest difference", alphas, "")
    yield figure("trials whose chosen epoch is the same", float(same), "")
    yield figure("predictions on validation that are the same", min(right), "", 0.99)


def _trained(problem: of_train.Problem, hyper: Hyper, device: torch.device) -> list[TrainedTrial]:
    specs = list(all_specs([0.5, 1.0], [5 if len(problem.classes.base) > 5 else 3], range(2)))
    trials, data = _prepared(problem, hyper, specs, device)
    return train_batch(trials, data, hyper, advance=lambda count: None)


def _extracted_alike(place: Place) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as made:
        features, logits = _features_differ(Path(made), place)
    yield figure("features in fp32, largest relative difference", features, "", 1e-2, most=True)
    yield figure("predictions in fp32 that are the same", logits, "", 0.99)


def _features_differ(folder: Path, place: Place) -> tuple[float, float]:
    """Relative difference of features, and share of equal predictions, of the first model."""
    of_extract.SIZE, of_extract.BATCH = place.sizes.pixels, min(32, place.sizes.images)
    name = place.sizes.models[0]
    torch.manual_seed(0)
    weights = of_extract.save_model(folder, name)
    data = of_extract.write_decoded(folder, of_extract.BATCH)
    images = torch.rand(of_extract.BATCH, 3, place.sizes.pixels, place.sizes.pixels)
    rows = []
    for device in ("cpu", place.device.type):
        extractor = of_extract.load(name, weights, data, Placement.choose(device, "fp32"))
        found = extractor(images).float().cpu()
        rows.append((found, extractor.logits(images).float().cpu().argmax(1)))
    (one, here), (other, there) = rows
    differs = float((one - other).abs().max() / one.abs().max())
    return differs, float((here == there).float().mean())


def search(place: Place) -> Iterator[Figure]:
    """FAISS on the GPU against FAISS on the CPU: the neighbours of few-split classes."""
    try:
        import faiss
    except ImportError as error:
        raise NotHereError(f"FAISS cannot be imported ({error}); alphafix[cpu] or [gpu]") from error
    sizes = place.sizes
    rng = np.random.default_rng(0)
    points = rng.standard_normal((sizes.classes, sizes.width), dtype=np.float32)
    few = max(1, sizes.classes // 10)
    index = faiss.IndexFlatL2(sizes.width)
    index.add(points[few:])
    queries, k = points[:few], 13
    start = time.perf_counter()
    _, here = index.search(queries, k)
    seconds = time.perf_counter() - start
    where = f"{few:,} of {sizes.classes:,}, D {sizes.width}"
    yield figure(f"faiss on the CPU ({where}, {os.cpu_count()} cores)", seconds, "s")
    counts = np.r_[np.full(few, 5), np.full(sizes.classes - few, 50)]
    classes = ClassTable(tuple(map(str, range(sizes.classes))), counts)
    wide = points.astype(np.float64)
    start = time.perf_counter()
    nearest_neighbours(wide, classes, k=5)
    yield figure("alphafix neighbors, all of it", time.perf_counter() - start, "s")
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        if place.on_gpu:
            raise NotHereError("this FAISS has no GPU (pip install faiss-gpu-cu12)")
        return
    on_gpu = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    there = on_gpu.search(queries, k)[1]
    gpu_seconds = place.seconds(lambda: on_gpu.search(queries, k))
    same = np.mean([len(set(a) & set(b)) / k for a, b in zip(here, there, strict=True)])
    yield figure("faiss on the GPU", gpu_seconds, "s")
    yield figure("CPU / GPU", seconds / gpu_seconds, "x")
    yield figure("neighbours that are the same", float(same), "", 0.999)


def _given(place: Place) -> argparse.Namespace:
    sizes = place.sizes
    return argparse.Namespace(
        device=place.device.type,
        batch=sizes.batch,
        size=sizes.pixels,
        classes=sizes.oltr_classes,
        turns=sizes.turns,
    )


def turns(step: Callable[[], object], count: int) -> None:
    """Several steps."""
    for _ in range(count):
        step()


def oltr(place: Place) -> Iterator[Figure]:
    """Steps of train-oltr's two stages in bf16 (fp32 on a CPU): speed and memory."""
    given, rates = _given(place), {}
    for kind, name in (("plain", "stage 1 (plain)"), ("oltr", "stage 2 (OLTR)")):
        told: dict[str, float] = {}
        with place.memory(told):
            training = of_oltr.Training(kind, given)
            step = partial(training.step, place.precision)
            turns(step, min(3, given.turns))
            seconds = place.seconds(partial(turns, step, given.turns))
        rates[kind] = given.batch * given.turns / seconds
        yield figure(f"{name}, {place.precision}", rates[kind], "images/s")
        if told:
            yield figure("… most memory of the device", told["GiB"], "GiB")
    yield figure("stage 2 / plain", rates["oltr"] / rates["plain"], "x", 0.9)


def nccl(place: Place) -> Iterator[Figure]:
    """The steps of stage 1 in two processes over NCCL, against one; in tiny sizes over gloo."""
    if place.on_gpu and (there := torch.cuda.device_count()) < 2:
        raise NotHereError(f"two GPUs are needed, and {there} is here")
    if not place.on_gpu and place.sizes != TINY:
        raise NotHereError("two GPUs are needed, and none is here")
    rates = []
    for count in (1, 2) if place.on_gpu else (2,):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={count}", __file__, "--worker"]
        command += ["--device", place.device.type, *(["--tiny"] if place.sizes == TINY else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            raise RuntimeError(f"{count} processes ended with code {done.returncode}")
        rates.append(float(done.stdout.split()[-1]))
        name = "one process" if count == 1 else f"two over {BACKENDS[place.device.type]}"
        yield figure(name, rates[-1], "images/s")
    if place.on_gpu:
        yield figure("two / one", rates[1] / rates[0], "x", 1.8)


BACKENDS = {"cuda": "nccl", "cpu": "gloo"}


def worker(place: Place) -> None:
    """One of the processes of `nccl`; the first prints the images a second of all."""
    with join(BACKENDS[place.device.type]) as ranks:
        given, devices = _given(place), None
        if place.on_gpu:
            devices = [ranks.local_rank]
            place = replace(place, device=torch.device("cuda", ranks.local_rank))
            torch.cuda.set_device(place.device)
            given.device = str(place.device)
        training = of_oltr.Training("plain", given)
        if ranks.world > 1:
            training.model = torch.nn.parallel.DistributedDataParallel(
                training.model, device_ids=devices
            )
        steps = partial(turns, partial(training.step, place.precision), given.turns)
        steps()
        seconds = place.seconds(steps)
        if ranks.first:
            print(given.batch * given.turns * ranks.world / seconds)


def jpeg(place: Place) -> Iterator[Figure]:
    """JPEG files decoded by Pillow, torchvision and TorchCodec (on a GPU both are nvJPEG)."""
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(Path(_write_files(Path(folder), place.sizes.files)).rglob("*.jpg"))
        data = [path.read_bytes() for path in paths]
    expected = [np.asarray(decode(one), dtype=np.float32) for one in data[:16]]
    some = data[:512]  # one core takes long
    seconds = place.seconds(lambda: [decode(one) for one in some], 1)
    yield figure("Pillow, one core", len(some) / seconds, "images/s")
    encoded = [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in data]
    makers = {"torchvision": torchvision_decoder, "TorchCodec": torchcodec_decoder}
    yield from in_steps(
        (name, partial(_decoded, place, name, maker, encoded, expected))
        for name, maker in makers.items()
    )


def _decoded(
    place: Place,
    name: str,
    maker: Callable[[], BatchDecoder],
    encoded: list[Tensor],
    expected: list[Any],
) -> Iterator[Figure]:
    """Files decoded by one of the packages, in batches of 64."""
    try:
        decoder = maker()
    except (ImportError, OSError, RuntimeError) as error:
        raise NotHereError(said(error)) from error

    def all_of_them() -> None:
        for start in range(0, len(encoded), 64):
            decoder(encoded[start : start + 64], place.device)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision says that it is deprecated
        first = decoder(encoded[:16], place.device)
        rate = len(encoded) / place.seconds(all_of_them)
    differs = max(
        float(np.abs(image.permute(1, 2, 0).float().cpu().numpy() - pixels).mean())
        for image, pixels in zip(first, expected, strict=True)
    )
    yield figure(f"{name} on {place.device.type}", rate, "images/s")
    yield figure("… mean difference from Pillow, of 255", differs, "", 1, most=True)


PARTS: Mapping[str, tuple[Callable[[Place], Iterator[Figure]], int]] = {
    "tests": (tests, 90),
    "equality": (equality, 40),
    "trainer": (trainer, 60),
    "jpeg": (jpeg, 30),
    "search": (search, 30),
    "oltr": (oltr, 40),
    "nccl": (nccl, 40),
    "extract": (extract, 150),
}
"""Each part, and its share of the time."""


def measured(
    name: str, place: Place, tell: Callable[[Figure], None] = lambda entry: None
) -> dict[str, Any]:
    """What came of one part, in this process; ``tell`` is told each figure at once."""
    start, figures = time.perf_counter(), []
    state: dict[str, str] = {}
    try:
        for entry in PARTS[name][0](place):
            figures.append(entry)
            tell(entry)
    except NotHereError as missing:
        state = {"skipped": str(missing)}
    except StepsFailedError as error:
        state = {"failed": str(error)}
    except Exception as error:  # another part must still be measured
        traceback.print_exc()
        state = {"failed": said(error)}
    seconds = round(time.perf_counter() - start, 2)
    return {"part": name, "seconds": seconds, **state, "figures": figures}


def in_processes(names: Sequence[str], given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What came of each part, each in a process of its own."""
    deadline = time.monotonic() + ALL
    for place, name in enumerate(names):
        shares = [PARTS[other][1] for other in names[place:]]
        limit = (deadline - time.monotonic()) * shares[0] / sum(shares)
        yield in_process(name, given, max(1.0, limit - GRACE))


def in_process(name: str, given: argparse.Namespace, limit: float) -> dict[str, Any]:
    """What came of one part within ``limit`` seconds."""
    command = [sys.executable, __file__, "--alone", name, "--device", given.device]
    command += ["--tiny"] if given.tiny else []
    start = time.monotonic()
    # What it writes goes to a file, which no process of its own can keep open, and its files into
    # a folder that goes with it.
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile("w+") as told,
    ):
        process = subprocess.Popen(
            command,
            stdout=told,
            env={**os.environ, "TMPDIR": folder},
            start_new_session=True,
        )
        ended = None
        try:
            ended = process.wait(limit)
        except subprocess.TimeoutExpired:
            pass
        finally:
            end(process)
        told.seek(0)
        lines = told.read().splitlines()
    seconds = round(time.monotonic() - start, 2)
    return result_of(name, lines, seconds, f"not done in {limit:.0f} s" if ended is None else ended)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started; torchrun gets some seconds to end its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def result_of(name: str, lines: Sequence[str], seconds: float, ended: int | str) -> dict[str, Any]:
    """What a process told of its part: figures one by one, and then the whole.

    Args:
        name: The part.
        lines: What it wrote: JSON, a line each.
        seconds: What it took.
        ended: Its exit code, or why it was ended.
    """
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):  # half a line, or that of a library
            if isinstance(value := json.loads(line), dict):
                found.append(value)
    whole = next((value for value in reversed(found) if value.get("part") == name), None)
    if whole is not None and not isinstance(ended, str):
        return whole
    why = ended if isinstance(ended, str) else f"it ended with code {ended}"
    figures = [value for value in found if "what" in value]
    return {"part": name, "seconds": seconds, "failed": why, "figures": figures}


def where(device: torch.device) -> dict[str, str]:
    """On what it was measured, and when."""
    found = {"date": date.today().isoformat(), "python": platform.python_version()}
    found["torch"] = torch.__version__
    found["device"] = platform.processor() or platform.machine()
    if device.type == "cuda":
        found |= {"device": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
    return found


def show(found: dict[str, Any], to: TextIO) -> None:
    """Print a table."""
    print("  ".join(f"{name} {value}" for name, value in found["where"].items()), file=to)
    for part in found["parts"]:
        told = part.get("failed") or part.get("skipped") or ""
        state = "FAILED: " if "failed" in part else "not here: " if told else ""
        print(f"\n{part['part']} ({part['seconds']} s) {state}{told}", file=to)
        for entry in part["figures"]:
            verdict = {True: "met", False: "MISSED", None: ""}[entry["met"]]
            target = "" if entry["target"] is None else f"{entry['target']:g}"
            value = f"{entry['value']:>10.4g} {entry['unit']:<9}"
            print(f"  {entry['what']:<72}{value}{target:<7}{verdict}", file=to)


def main() -> int:
    """Measure all parts; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=usual)
    parser.add_argument("--tiny", action="store_true", help="sizes of a test")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--alone", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    place = Place(torch.device(given.device), TINY if given.tiny else Sizes())
    if given.worker:
        worker(place)
        return 0
    if given.alone:

        def tell(entry: dict[str, Any]) -> None:
            print(json.dumps(entry), flush=True)

        tell(measured(given.alone, place, tell))
        return 0
    parts = []
    for part in in_processes(given.parts, given):
        print(f"{part['part']}: {part['seconds']} s", file=sys.stderr)
        parts.append(part)
    found = {"where": where(place.device), "parts": parts}
    if given.json:
        print(json.dumps(found, indent=2))
    show(found, sys.stderr if given.json else sys.stdout)
    return int(any("failed" in part for part in parts))


if __name__ == "__main__":
    raise SystemExit(main())
