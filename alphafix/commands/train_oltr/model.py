"""What `alphafix train-oltr` leaves: the model, its config, and its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphafix.checkpoints.weights import load_strictly, read_state
from alphafix.commands.train_oltr.data import ImageSplits
from alphafix.commands.train_oltr.embedding import write_embedding
from alphafix.commands.train_oltr.evaluation import Evaluator, evaluate_splits
from alphafix.commands.train_oltr.head import fit_head
from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.distributed import Ranks
from alphafix.files import read_json, sha256_file, write_json, write_tensors
from alphafix.oltr.data import Images
from alphafix.oltr.embedding import EMBEDDING
from alphafix.oltr.export import CONFIG, MODEL, Config, ExportedModel, export, read_config
from alphafix.oltr.methods import MethodSpec, Setting
from alphafix.oltr.metrics import Running
from alphafix.oltr.pipeline import Trained
from alphafix.oltr.recipes import Recipe
from alphafix.progress import Progress

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class Job:
    """All that a training is made of.

    Attributes:
        options: What the user asked for.
        recipe: The recipe, with what the options say otherwise.
        method: The method.
        images: Where the images are.
        load: Gives the images of a split, the same ones each time.
        setting: What models are built for.
        running: Device, precision and this process's place.
        ranks: The processes.
    """

    options: TrainOltrOptions
    recipe: Recipe
    method: MethodSpec
    images: ImageSplits
    load: Callable[[str], Images]
    setting: Setting
    running: Running
    ranks: Ranks


def write_model(job: Job, trained: Trained, plan: dict[str, Any]) -> None:
    """Write model.safetensors, then the config that makes the folder a model."""
    linear = fit_head(
        job.method,
        trained.model,
        job.load,
        job.images.classes,
        job.running,
        seed=job.options.seed,
    )
    model = export(trained.model, linear)
    config = Config(
        method=job.method.name,
        setting=job.setting,
        transform=job.images.transform,
        names=job.images.classes.names,
        bias=model.head.bias is not None,
    )
    tensors = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    output = job.options.output
    write_tensors(output / MODEL, tensors, {"value": "train-oltr model"}, overwrite=True)
    write_json(
        output / CONFIG,
        {
            **config.to_dict(),
            "classes": job.images.classes.to_dict(),
            "best_epochs": list(trained.best),
            "provenance": {k: v for k, v in plan.items() if k != "names"},
        },
        overwrite=True,
    )


def evaluate(job: Job, progress: Progress) -> None:
    """Evaluate the model as it was written, unless exactly that was done already."""
    options = job.options
    path = options.output / EVALUATION
    model_sha256 = sha256_file(options.output / MODEL)
    openmax_rank = options.openmax_rank if options.openmax else None
    asked = {
        "model": model_sha256,
        "images": job.images.fingerprints(),
        "open_threshold": options.open_threshold,
        "openmax_rank": openmax_rank,
        "odin": options.odin,
    }
    if path.is_file() and read_json(path).get("asked") == asked:
        return
    evaluator = Evaluator(
        _written(options.output), job.load, job.images.classes, job.running, progress
    )
    found = evaluate_splits(
        job.method.name,
        evaluator,
        tuple(job.images.sources),
        threshold=options.open_threshold,
        openmax_rank=openmax_rank,
        odin=options.odin,
    )
    write_embedding(
        options.output / EMBEDDING,
        evaluator,
        tuple(job.images.sources),
        seed=options.seed,
        model_sha256=model_sha256,
    )
    # Last of all, as it says that everything asked for was done.
    write_json(path, {**found, "asked": asked}, overwrite=True)


def _written(output: Path) -> ExportedModel:
    model = read_config(output).build()
    file = output / MODEL
    load_strictly(model, read_state(file), file=file, spec=f"oltr:{output}")
    return model.eval()
