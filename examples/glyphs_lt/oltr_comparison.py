"""OLTR and its competitors on Glyphs-LT: Table 3 and the ablations of Figure 5, as measured.

    python examples/glyphs_lt/oltr_comparison.py --work glyphs-oltr

unpacks the glyphs, lets `make-lt` draw the lists (with the counts of Glyphs-LT, and glyphs of
scripts that training never sees as open classes), trains with `train-oltr` one plain model a
seed, and from it, as their common first stage, every other row of the tables. What an
interrupted run left in the work folder is used. Tables go to stdout, all figures to ``--out``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from oltr_tables import markdown

from alphafix.commands.make_lt.options import MakeLtOptions
from alphafix.commands.make_lt.work import make_lists
from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.demo.glyphs import Glyphs, load_glyphs, unpack_images
from alphafix.files import read_json, write_json, write_text
from alphafix.values.arrays import FloatArray, FloatArray64, IntArray

if TYPE_CHECKING:
    from alphafix.oltr.training.evaluation import Evaluator


RECIPE = Path(__file__).with_name("oltr-recipe.yaml")
RESULTS = Path(__file__).with_name("results") / "oltr.json"

METHODS, ABLATIONS = "methods", "ablations"

# How many of the highest classes OpenMax revises, besides the authors' 10.
OPENMAX_RANKS = (1, 2, 5)

# Share of the validation images that the second threshold accepts.
ACCEPTED = 0.95


@dataclass(frozen=True)
class Row:
    """A row of the tables.

    Attributes:
        name: What it is called there.
        options: Options of `train-oltr`.
        tables: Which tables it is in.
        distances: Whether to measure the distance to the nearest class mean as well.
        own_first: Whether its first stage is not that of the plain model.
    """

    name: str
    options: dict[str, Any]
    tables: tuple[str, ...] = (METHODS,)
    distances: bool = False
    own_first: bool = False

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return self.name.replace(" ", "-").replace(",", "")


PLAIN = Row("plain", {"method": "plain"}, distances=True)
OLTR = Row("OLTR", {"method": "oltr"}, (METHODS, ABLATIONS), distances=True)
OTHERS = (
    Row("class-aware", {"method": "class-aware"}, distances=True),
    Row("lifted", {"method": "lifted"}),
    Row("focal", {"method": "focal"}),
    Row("range", {"method": "range", "openmax": True}, distances=True),
    Row("FSLwF", {"method": "fslwf"}),
    OLTR,
    Row("without memory feature", {"memory": False}, (ABLATIONS,)),
    Row("without concept selector", {"selector": False}, (ABLATIONS,)),
    Row("without reachability", {"reachability": False}, (ABLATIONS,)),
    Row("without attention", {"attention": False}, (ABLATIONS,)),
    Row("attention on the plain map", {"attention_map": "plain"}, (ABLATIONS,)),
)


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        row: What is trained.
        seed: Its seed.
        work: The work folder.
        more: Options besides the row's.
    """

    row: Row
    seed: int
    work: Path
    more: dict[str, Any] = field(default_factory=dict)

    def options(self) -> TrainOltrOptions:
        """All options of `train-oltr`."""
        alone = self.row == PLAIN or self.row.own_first
        first = {} if alone else {"first_stage": self.output(PLAIN)}
        return TrainOltrOptions.model_validate(
            {
                "data": str(self.work / "lists"),
                "root": self.work / "glyphs",
                "recipe": str(RECIPE),
                "output": self.output(self.row),
                "seed": self.seed,
                "workers": 0,
                "device": "cpu",
                **first,
                **self.row.options,
                **self.more,
            }
        )

    def output(self, row: Row) -> Path:
        """Output folder of a row of the same seed."""
        return self.work / f"seed-{self.seed}" / row.folder


def make_data(glyphs: Glyphs, work: Path) -> None:
    """Unpack the glyphs into class folders, and draw the lists, unless they are there."""
    if (work / "lists" / "manifest.json").is_file():
        return
    folder = work / "glyphs"
    if not folder.exists():
        unpack_images(glyphs, folder)
    counts = np.bincount(glyphs.train.labels, minlength=glyphs.num_classes)
    lines = [f"{name} {count}\n" for name, count in zip(glyphs.class_folders, counts, strict=True)]
    write_text(work / "counts.txt", "".join(lines), overwrite=True)
    options = {
        "data": folder,
        "output": work / "lists",
        "counts": str(work / "counts.txt"),
        "val": int(np.bincount(glyphs.val.labels).min()),
        "test": int(np.bincount(glyphs.test.labels).min()),
        "open_data": folder / "open",
    }
    make_lists(MakeLtOptions.model_validate(options))


def train(job: Job) -> dict[str, Any]:
    """Train and evaluate one row, in one thread; return its figures as JSON data.

    They are kept with the model, for a run that goes on after an interruption.
    """
    kept = job.output(job.row) / "figures.json"
    if not kept.is_file():
        write_json(kept, _train(job))
    found: dict[str, Any] = read_json(kept)
    return found


def _train(job: Job) -> dict[str, Any]:
    import torch

    from alphafix.commands.command import Watch
    from alphafix.commands.train_oltr.work import work as train_oltr

    torch.set_num_threads(1)
    # A training that was interrupted has taken more time than is seen here.
    whole = not job.output(job.row).exists()
    started = time.process_time()
    result = train_oltr(job.options(), Watch())
    more = evaluate_more(job)
    return {
        "row": job.row.name,
        "tables": list(job.row.tables),
        "seed": job.seed,
        "cpu_seconds": round(time.process_time() - started, 1) if whole else None,
        "best_epochs": list(result.best),
        **result.evaluation,
        **more,
    }


def evaluate_more(job: Job) -> dict[str, Any]:
    """What `train-oltr` does not evaluate.

    The threshold 0.1 rejects hardly anything with 300 classes, so that F says little about
    unknown glyphs there; the one that 95% of the validation images pass needs no unknown ones
    either.
    """
    from alphafix.openset.odin import softmax_scores
    from alphafix.openset.table import recognition_row, softmax_answers

    evaluator = evaluator_of(job.options())
    (known, labels), (unknown, _) = evaluator.logits("test"), evaluator.logits("open")
    scores = softmax_scores(evaluator.logits("val")[0])
    threshold = float(1 - np.quantile(scores, ACCEPTED))
    answers = (softmax_answers(known, threshold), softmax_answers(unknown, threshold))
    row = recognition_row(job.row.name, evaluator.classes, labels, *answers)
    found: dict[str, Any] = {"accepting_95": {"threshold": threshold, **row.to_dict()}}
    if job.row.distances:
        found["distances"] = by_distance(job.row.name, evaluator)
    if job.row.options.get("openmax"):
        found["openmax_ranks"] = by_openmax(job.row.name, evaluator, labels, (known, unknown))
    return found


def by_distance(name: str, evaluator: Evaluator) -> dict[str, Any]:
    """Unknown glyphs by the distance of direct features to the nearest class mean.

    That is the reachability of OLTR (Eq. 3), which any model has.
    """
    import torch

    from alphafix.oltr.models.memory import nearest_distance
    from alphafix.oltr.training.pipeline import direct_means
    from alphafix.openset.table import detection_row

    model = evaluator.model.body
    train = evaluator.images.load("train")
    means = direct_means(model, train, len(evaluator.classes), evaluator.running)

    def distances(split: str) -> FloatArray64:
        images = evaluator.images.load(split)
        index = np.arange(len(images), dtype=np.int64)
        batches = images.plain(index, 500, evaluator.running.device)
        with torch.inference_mode():
            found = [nearest_distance(model(pixels).direct, means) for pixels, _ in batches]
        return torch.cat(found).double().numpy()

    return vars(detection_row(name, distances("test"), distances("open")))


def lengths(job: Job) -> dict[str, Any]:
    """Medians over known and unknown glyphs of what OLTR tells them apart by.

    The reachability's distance γ, the length of the meta-embedding, which it scales, and that
    length after the squashing, which is what the classifier sees.
    """
    import torch

    from alphafix.oltr.models.heads import OLTRHead
    from alphafix.oltr.models.memory import nearest_distance

    evaluator = evaluator_of(job.options())
    model = evaluator.model.body
    if not isinstance(model.head, OLTRHead):
        raise SystemExit(f"{job.row.name} is no OLTR model")
    found: dict[str, Any] = {"seed": job.seed}
    for name, split in (("known", "test"), ("unknown", "open")):
        images = evaluator.images.load(split)
        index = np.arange(len(images), dtype=np.int64)
        parts = []
        with torch.inference_mode():
            for pixels, _ in images.plain(index, 500, evaluator.running.device):
                output = model(pixels)
                gamma = nearest_distance(output.direct, model.head.centroids)
                sizes = [output.meta.norm(dim=1), output.features.norm(dim=1)]
                parts.append(torch.stack([gamma, *sizes]))
        medians = torch.cat(parts, dim=1).median(dim=1).values.tolist()
        found[name] = dict(zip(("gamma", "meta", "squashed"), medians, strict=True))
    return found


def by_openmax(
    name: str, evaluator: Evaluator, labels: IntArray, logits: tuple[FloatArray, FloatArray]
) -> list[dict[str, Any]]:
    """OpenMax with other numbers of revised classes than the authors' 10.

    Args:
        name: Name of the row.
        evaluator: The model.
        labels: Classes of the known images.
        logits: Logits of the known and of the unknown images.
    """
    from alphafix.openset.openmax import OpenMax
    from alphafix.openset.table import detection_row, openmax_answers, recognition_row

    fitted = OpenMax.fit(*evaluator.logits("train"))
    found = []
    for rank in OPENMAX_RANKS:
        revising = replace(fitted, rank=rank)
        answers = [openmax_answers(revising.probabilities(one)) for one in logits]
        scores = [revising.unknown_scores(one) for one in logits]
        row = recognition_row(name, evaluator.classes, labels, answers[0], answers[1])
        detection = detection_row(name, scores[0], scores[1])
        found.append({"rank": rank, **vars(detection), **row.to_dict()})
    return found


def evaluator_of(options: TrainOltrOptions) -> Evaluator:
    """The exported model of a training, on its images."""
    from alphafix.commands.train_oltr.work import training_of
    from alphafix.oltr.training.evaluation import Evaluator
    from alphafix.oltr.training.folder import load_model

    training = training_of(options.model_copy(update={"workers": 0}))
    return Evaluator(load_model(options.output)[0], training.images, training.running)


def train_all(
    work: Path, seeds: range, processes: int, more: dict[str, Any], others: Sequence[Row]
) -> Iterator[dict[str, Any]]:
    """Train everything; the rows of a seed when its first stage is there."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        pending: set[Future[dict[str, Any]]] = {
            pool.submit(train, Job(PLAIN, seed, work, more)) for seed in seeds
        }
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                run = future.result()
                yield run
                if run["row"] == PLAIN.name:
                    jobs = [Job(row, run["seed"], work, more) for row in others]
                    pending |= {pool.submit(train, job) for job in jobs}


def measure(
    work: Path,
    seeds: range,
    processes: int,
    more: dict[str, Any],
    others: Sequence[Row] | None = None,
) -> dict[str, Any]:
    """Train and evaluate all rows for all seeds; return everything as JSON data.

    Args:
        work: Folder for the models, and for the images unless ``more`` names others.
        seeds: One training of each row each.
        processes: Trainings at a time.
        more: Options of `train-oltr` for all rows.
        others: The rows beside the plain one; `OTHERS` by default.
    """
    import torch

    runs = []
    others = OTHERS if others is None else others
    for run in train_all(work, seeds, processes, more, others):
        runs.append(run)
        overall = run["closed"]["test"]["overall"]
        print(f"{run['row']}, seed {run['seed']}: {overall:.1f}% closed", file=sys.stderr)
    order = {row.name: i for i, row in enumerate((PLAIN, *others))}
    runs.sort(key=lambda run: (order[run["row"]], run["seed"]))
    return {
        "recipe": RECIPE.read_text(encoding="utf-8"),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "processes": processes,
        "lengths": [lengths(Job(OLTR, seed, work, more)) for seed in seeds if OLTR in others],
        "runs": runs,
    }


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for images and models")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file for all figures")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="trainings at a time")
    given = parser.parse_args()
    make_data(load_glyphs(), given.work)
    results = measure(given.work, range(given.seeds), given.processes, {})
    write_json(given.out, results, overwrite=True)
    print(markdown(results))


if __name__ == "__main__":
    main()
