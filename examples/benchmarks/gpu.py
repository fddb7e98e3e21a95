"""Everything that needs a GPU, measured and checked, each part by itself.

    python examples/benchmarks/gpu.py --json > gpu.json
    python examples/benchmarks/gpu.py --parts trainer extract
    python examples/benchmarks/gpu.py --device cpu --tiny

Installs nothing. Each part is a process of its own with a limit of time, so that one that fails or
hangs hides no other; a part that cannot run here says why. All together take at most eight minutes
on an H100. With --tiny the sizes are those of a test, which runs on a CPU; its figures say nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

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
from alphafix.alphanet.training import Hyper, TrainedTrial, train_batch
from alphafix.devices import Placement, Precision, autocast
from alphafix.images.decode import decode
from alphafix.images.encoded import torchcodec_decoder, torchvision_decoder
from alphafix.images.spec import open_data
from alphafix.images.splits import open_splits
from alphafix.values.classes import ClassTable

Figure = dict[str, Any]

# Seconds in which all parts together are to be done.
ALL = 480


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
    images: int = 4096
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
    files=4,
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
    workers=0,
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


def figure(
    what: str, value: float, unit: str, target: float | None = None, *, most: bool = False
) -> Figure:
    """One line of the result; ``most`` says that the target is an upper limit."""
    met = None if target is None else bool(value <= target if most else value >= target)
    return {"what": what, "value": round(value, 5), "unit": unit, "target": target, "met": met}


def tests(place: Place) -> list[Figure]:
    """The tests that need a GPU."""
    if not place.on_gpu:
        raise NotHereError("no GPU: pytest -m gpu would skip all of them")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-n", "0", f"--junit-xml={report}"]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        print(done.stdout[-4000:], file=sys.stderr)
        from xml.etree import ElementTree

        suite = next(ElementTree.parse(report).iter("testsuite"))
    count = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    bad = count["failures"] + count["errors"]
    passed = count["tests"] - bad - count["skipped"]
    return [
        figure("tests that passed", passed, "", 1),
        figure("tests that failed", bad, "", 0, most=True),
        figure("tests that were skipped", count["skipped"], "", 0, most=True),
    ]


def extract(place: Place) -> list[Figure]:
    """Extraction against the bare forward pass and timm's loader, in each precision."""
    found: list[Figure] = []
    sizes = place.sizes
    of_extract.BATCH = min(128, sizes.images)
    of_extract.SIZE = sizes.pixels
    of_extract.TURNS = 3 if place.on_gpu else 1
    if (workers := sizes.workers) is not None:
        of_extract.cores = lambda: workers
    precisions = ("fp32", "bf16", "fp16") if place.on_gpu else ("fp32",)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data = of_extract.write_decoded(folder, sizes.images)
        files = open_splits(open_data(_write_files(folder, sizes.files)), ["val"])
        decoded = open_splits(open_data(data), ["val"]).sources["val"]
        for model in sizes.models:
            weights = of_extract.save_model(folder, model)
            for precision in precisions:
                setting = Placement.choose(place.device.type, precision)
                extractor = of_extract.load(model, weights, data, setting)
                bare, ours = of_extract.best_speeds(
                    partial(of_extract.forward_only, extractor, sizes.images),
                    partial(of_extract.extracted, extractor, decoded, folder),
                )
                where = f"{model}, {precision}"
                target = 0.95 if precision == "bf16" else None
                found += [
                    figure(f"bare forward pass, channels last ({where})", bare.rate, "images/s"),
                    figure(
                        f"extract, decoded / bare ({where})", ours.rate / bare.rate, "x", target
                    ),
                    *_layout(place, extractor, bare.rate, where),
                ]
            found += _compiled(place, model, weights, data, folder)
            if sizes.workers != 0:  # timm's loader has processes of its own
                found += _files(model, weights, files.sources["val"], data, folder, setting)
    return found


def _write_files(folder: Path, count: int) -> str:
    """JPEG files in class folders; from the 257th on names of the same files, which are drawn."""
    made = of_extract.write_jpegs(folder, min(count, 256))
    paths = sorted(Path(made).rglob("*.jpg"))
    for number in range(len(paths), count):
        path = paths[number % len(paths)]
        os.link(path, path.with_name(f"{number}.jpg"))
    return made


def _layout(place: Place, extractor: Any, rate: float, where: str) -> list[Figure]:
    """What channels last gains over the usual layout."""
    size, batch = place.sizes.pixels, of_extract.BATCH
    images = torch.randn(batch, 3, size, size, device=place.device)
    module = extractor.caught
    contiguous = getattr(module, "module", None)
    if contiguous is None:
        contiguous = next(
            (m for m in vars(module).values() if isinstance(m, torch.nn.Module)), None
        )
    if contiguous is None:
        return []
    contiguous.to(memory_format=torch.contiguous_format)
    setting = extractor.setting

    def forward() -> None:
        with torch.inference_mode(), autocast(setting.device, setting.precision):
            contiguous(images)

    forward()
    plain = batch / place.seconds(forward)
    contiguous.to(memory_format=torch.channels_last)
    return [figure(f"channels last / the usual layout ({where})", rate / plain, "x")]


def _compiled(place: Place, model: str, weights: Path, data: str, folder: Path) -> list[Figure]:
    """What torch.compile gains, its own time left out."""
    if not place.on_gpu:
        return []
    setting = Placement.choose(place.device.type, "bf16")
    plain = of_extract.load(model, weights, data, setting)
    compiled = of_extract.load(model, weights, data, setting, compiled=True)
    count = place.sizes.images
    started = time.perf_counter()
    of_extract.forward_only(compiled, of_extract.BATCH)
    place.wait()
    started = time.perf_counter() - started
    one, other = of_extract.best_speeds(
        lambda: of_extract.forward_only(plain, count),
        lambda: of_extract.forward_only(compiled, count),
    )
    where = f"{model}, bf16"
    return [
        figure(f"compiled / not compiled ({where})", other.rate / one.rate, "x"),
        figure(f"compiling ({where})", started, "s"),
    ]


def _files(
    model: str, weights: Path, source: Any, data: str, folder: Path, setting: Placement
) -> list[Figure]:
    """Extraction of JPEG files against timm's loader and forward pass."""
    chosen = Placement.choose(setting.device.type, "auto")
    extractor = of_extract.load(model, weights, data, chosen)
    theirs, ours = of_extract.best_speeds(
        lambda: of_extract.timm_loop(model, weights, folder / "jpegs" / "val", chosen),
        lambda: of_extract.extracted(extractor, source, folder),
    )
    where = f"{model}, {chosen.precision}"
    return [
        figure(f"extract, JPEG files ({where})", ours.rate, "images/s"),
        figure(f"extract / timm, JPEG files ({where})", ours.rate / theirs.rate, "x", 1.5),
    ]


def trainer(place: Place) -> list[Figure]:
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
    found = [
        figure(
            f"{name} (C {sizes.problem.classes}, D {sizes.problem.width})",
            clock.total(),
            "s",
            10,
            most=True,
        )
    ]
    found += [figure(f"… {part}", seconds, "s") for part, seconds in clock.parts.items()]
    found += [figure("… most memory of the device", told["GiB"], "GiB")] if told else []
    flops = of_train.peak_flops(place.device)
    samples = [
        make_trial(s, problem.neighbors, Pool.of(problem.labels, problem.classes), hyper)
        for s in every
    ]
    steps = sum(trial.steps(hyper) for trial in samples)
    least = of_train.floor_seconds(problem, 1, steps, flops)
    found.append(
        figure("… steps / floor of the products", clock.parts["steps and validation"] / least, "x")
    )
    return [*found, *_busy(place, problem, every, hyper)]


def _busy(
    place: Place, problem: of_train.Problem, specs: list[TrialSpec], hyper: Hyper
) -> list[Figure]:
    """Kernels a step, and the share of the time in which the GPU computes.

    A share well below 1 says that launching kernels is what takes the time: what CUDA graphs or
    torch.compile can win at most.
    """
    if not place.on_gpu:
        return []
    from torch.profiler import ProfilerActivity, profile

    few = 20
    short = replace(hyper, max_steps=few, first_epoch=hyper.epochs)
    run = partial(of_train.run_ours, problem, specs, short, place.device, 256)
    run()
    seconds = run().parts["steps and validation"]
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        run()
    events = [e for e in profiled.events() if e.device_type.name == "CUDA"]
    busy = sum(event.device_time_total for event in events) / 1e6
    return [
        figure("kernels a step (with those of reduction)", len(events) / few, ""),
        figure("share of the steps' time in which the GPU works", busy / seconds, ""),
    ]


def equality(place: Place) -> list[Figure]:
    """How far results on the device are from those of the CPU."""
    hyper = Hyper(epochs=min(place.sizes.epochs, 10))
    size = min(
        place.sizes.problem,
        of_train.Size(200, 128, 27, 330, 8000, 2000),
        key=lambda one: one.classes,
    )
    problem = of_train.generate(size)
    here, there = (_trained(problem, hyper, d) for d in (torch.device("cpu"), place.device))
    pairs = list(zip(here, there, strict=True))
    alphas = max(float((a.alphas - b.alphas.cpu()).abs().max()) for a, b in pairs)
    same = np.mean([a.epoch == b.epoch for a, b in pairs])
    right = [
        float((a.correct.cpu() == b.correct.cpu()).float().mean())
        for a, b in pairs
        if a.correct is not None and b.correct is not None
    ]
    losses = max(
        abs(a.history[0].loss - b.history[0].loss) / max(a.history[0].loss, 1e-12) for a, b in pairs
    )
    with tempfile.TemporaryDirectory() as made:
        features, logits = _features_differ(Path(made), place)
    return [
        figure("first epoch's loss, relative difference", losses, "", 1e-4, most=True),
        figure("alphas, largest difference", alphas, "", None),
        figure("trials whose chosen epoch is the same", float(same), ""),
        figure("predictions on validation that are the same", min(right), "", 0.99),
        figure("features in fp32, largest relative difference", features, "", 1e-2, most=True),
        figure("predictions in fp32 that are the same", logits, "", 0.99),
    ]


def _trained(problem: of_train.Problem, hyper: Hyper, device: torch.device) -> list[TrainedTrial]:
    pool = Pool.of(problem.labels, problem.classes)
    specs = list(all_specs([0.5, 1.0], [5 if len(problem.classes.base) > 5 else 3], range(2)))
    trials = [make_trial(spec, problem.neighbors, pool, hyper) for spec in specs]
    index = np.unique(np.concatenate([trial.samples.ravel() for trial in trials]))
    trials = [replace(t, samples=np.searchsorted(index, t.samples)) for t in trials]
    layout = ScoreLayout.of(len(problem.classes), problem.classes.few, problem.neighbors)
    data = of_train.data_of(problem, layout, device, index)
    return train_batch(trials, data, hyper, advance=lambda count: None)


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


def search(place: Place) -> list[Figure]:
    """FAISS on the GPU against FAISS on the CPU: the neighbours of few-split classes."""
    import faiss

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
    found = [figure(f"faiss on the CPU ({where}, {os.cpu_count()} cores)", seconds, "s")]
    counts = np.r_[np.full(few, 5), np.full(sizes.classes - few, 50)]
    classes = ClassTable(tuple(map(str, range(sizes.classes))), counts)
    wide = points.astype(np.float64)
    start = time.perf_counter()
    nearest_neighbours(wide, classes, k=5)
    found.append(figure("alphafix neighbors, all of it", time.perf_counter() - start, "s"))
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        if place.on_gpu:
            raise NotHereError(f"this FAISS has no GPU (pip install faiss-gpu-cu12); {found}")
        return found
    on_gpu = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    there = on_gpu.search(queries, k)[1]
    gpu_seconds = place.seconds(lambda: on_gpu.search(queries, k))
    same = np.mean([len(set(a) & set(b)) / k for a, b in zip(here, there, strict=True)])
    return [
        *found,
        figure("faiss on the GPU", gpu_seconds, "s"),
        figure("CPU / GPU", seconds / gpu_seconds, "x"),
        figure("neighbours that are the same", float(same), "", 0.999),
    ]


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


def oltr(place: Place) -> list[Figure]:
    """Steps of train-oltr's two stages in bf16 (fp32 on a CPU): speed and memory."""
    given, rates, found = _given(place), {}, []
    precision: Precision = "bf16" if place.on_gpu else "fp32"
    for kind, name in (("plain", "stage 1 (plain)"), ("oltr", "stage 2 (OLTR)")):
        told: dict[str, float] = {}
        with place.memory(told):
            training = of_oltr.Training(kind, given)

            def step(training: Any = training) -> None:
                with autocast(place.device, precision):
                    training.step()

            for _ in range(min(3, given.turns)):
                step()
            seconds = place.seconds(partial(turns, step, given.turns))
        rates[kind] = given.batch * given.turns / seconds
        found.append(figure(f"{name}, {precision}", rates[kind], "images/s"))
        found += [figure("… most memory of the device", told["GiB"], "GiB")] if told else []
    found.append(figure("stage 2 / plain", rates["oltr"] / rates["plain"], "x", 0.9))
    return found


def nccl(place: Place) -> list[Figure]:
    """The steps of stage 1 in two processes over NCCL, against one."""
    if not place.on_gpu or torch.cuda.device_count() < 2:
        raise NotHereError(f"two GPUs are needed, and {torch.cuda.device_count()} is here")
    rates = []
    for count in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={count}", __file__, "--worker"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rates.append(float(done.stdout.split()[-1]))
    return [
        figure("one process", rates[0], "images/s"),
        figure("two processes over NCCL", rates[1], "images/s"),
        figure("two / one", rates[1] / rates[0], "x", 1.8),
    ]


def worker() -> None:
    """One of the processes of `nccl`; the first prints the images a second of all."""
    from alphafix.distributed import join

    with join("nccl") as ranks:
        torch.cuda.set_device(ranks.local_rank)
        place = Place(torch.device("cuda", ranks.local_rank), Sizes())
        given = _given(place)
        given.device = f"cuda:{ranks.local_rank}"
        training = of_oltr.Training("plain", given)
        if ranks.world > 1:
            training.model = torch.nn.parallel.DistributedDataParallel(  # type: ignore[assignment]
                training.model, device_ids=[ranks.local_rank]
            )
        steps = partial(turns, training.step, given.turns)
        steps()
        seconds = place.seconds(steps)
        if ranks.first:
            print(given.batch * given.turns * ranks.world / seconds)


def jpeg(place: Place) -> list[Figure]:
    """JPEG files decoded by Pillow, torchvision and TorchCodec (on a GPU both are nvJPEG)."""
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(Path(_write_files(Path(folder), place.sizes.files)).rglob("*.jpg"))
        data = [path.read_bytes() for path in paths]
    encoded = [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in data]
    expected = [np.asarray(decode(one), dtype=np.float32) for one in data[:16]]
    seconds = place.seconds(lambda: [decode(one) for one in data], 1)
    found = [figure("Pillow, one core", len(data) / seconds, "images/s")]
    problems = []
    for name, maker in (("torchvision", torchvision_decoder), ("TorchCodec", torchcodec_decoder)):
        try:
            decoder = maker()

            def all_of_them(decoder: Any = decoder) -> None:
                for start in range(0, len(encoded), 64):
                    decoder(encoded[start : start + 64], place.device)

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torchvision says that it is deprecated
                first: list[Tensor] = decoder(encoded[:16], place.device)
                rate = len(data) / place.seconds(all_of_them)
        except (ImportError, OSError, RuntimeError) as error:
            problems.append(f"{name}: {str(error).splitlines()[0]}")
            continue
        differs = max(
            float(np.abs(image.permute(1, 2, 0).float().cpu().numpy() - pixels).mean())
            for image, pixels in zip(first, expected, strict=True)
        )
        found += [
            figure(f"{name} on {place.device.type}", rate, "images/s"),
            figure("… mean difference from Pillow, of 255", differs, "", 1, most=True),
        ]
    for problem in problems:
        print(f"jpeg: {problem}", file=sys.stderr)
    if len(problems) == 2:
        raise NotHereError("; ".join(problems))
    return found


PARTS: Mapping[str, tuple[Callable[[Place], list[Figure]], int]] = {
    "tests": (tests, 120),
    "equality": (equality, 60),
    "trainer": (trainer, 60),
    "extract": (extract, 180),
    "jpeg": (jpeg, 60),
    "search": (search, 60),
    "oltr": (oltr, 60),
    "nccl": (nccl, 60),
}
"""Each part, and the seconds that it may take."""


def measured(name: str, place: Place) -> dict[str, Any]:
    """What came of one part, in this process."""
    start = time.perf_counter()
    try:
        result: dict[str, Any] = {"figures": PARTS[name][0](place)}
    except NotHereError as missing:
        result = {"skipped": str(missing)}
    except Exception as error:  # another part must still be measured
        import traceback

        traceback.print_exc()
        result = {"failed": f"{type(error).__name__}: {error}"}
    return {"part": name, "seconds": round(time.perf_counter() - start, 2), **result}


def in_processes(names: Iterable[str], given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What came of each part, each in a process of its own."""
    deadline = time.monotonic() + ALL
    for name in names:
        limit = min(PARTS[name][1], deadline - time.monotonic())
        if limit <= 1:
            yield {"part": name, "seconds": 0, "skipped": f"the {ALL} seconds are over"}
            continue
        command = [sys.executable, __file__, "--alone", name, "--device", given.device]
        command += ["--tiny"] if given.tiny else []
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired:
            yield {"part": name, "seconds": limit, "failed": f"not done in {limit:.0f} s"}
            continue
        try:
            yield json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            yield {"part": name, "seconds": 0, "failed": f"it ended with code {done.returncode}"}


def where(device: torch.device) -> dict[str, str]:
    """On what it was measured, and when."""
    found = {"date": date.today().isoformat(), "torch": torch.__version__}
    found["device"] = platform.processor() or platform.machine()
    if device.type == "cuda":
        found |= {"device": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
    return found


def show(found: dict[str, Any]) -> None:
    """Print a table."""
    print("  ".join(f"{name} {value}" for name, value in found["where"].items()))
    for part in found["parts"]:
        told = part.get("failed") or part.get("skipped") or ""
        state = "FAILED: " if "failed" in part else "not here: " if told else ""
        print(f"\n{part['part']} ({part['seconds']} s) {state}{told}")
        for entry in part.get("figures", ()):
            verdict = {True: "met", False: "MISSED", None: ""}[entry["met"]]
            target = "" if entry["target"] is None else f"{entry['target']:g}"
            value = f"{entry['value']:>10.4g} {entry['unit']:<9}"
            print(f"  {entry['what']:<62}{value}{target:<7}{verdict}")


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
    if given.worker:
        worker()
        return 0
    place = Place(torch.device(given.device), TINY if given.tiny else Sizes())
    if given.alone:
        print(json.dumps(measured(given.alone, place)))
        return 0
    parts = []
    for part in in_processes(given.parts, given):
        print(f"{part['part']}: {part['seconds']} s", file=sys.stderr)
        parts.append(part)
    found = {"where": where(place.device), "parts": parts}
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
    return int(any("failed" in part for part in parts))


if __name__ == "__main__":
    raise SystemExit(main())
