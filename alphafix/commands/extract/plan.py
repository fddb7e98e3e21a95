"""What an extraction is going to do, as its results record it, and whether it may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alphafix.checkpoints import open_checkpoint
from alphafix.checkpoints.formats.opening import find_file
from alphafix.checkpoints.head.finding import checkpoint_sha256
from alphafix.commands.extract.options import ExtractOptions
from alphafix.devices import Placement
from alphafix.errors import TargetExistsError
from alphafix.features.ledger import Ledger
from alphafix.features.store import MANIFEST
from alphafix.files import read_json, sha256_file
from alphafix.images.splits import SplitSources
from alphafix.models.loading import own_file, without_folder
from alphafix.run.directory import Provenance, Run

# What must be the same for all splits of a run: features of different models do not mix.
OF_THE_MODEL = (
    "backbone",
    "model_sha256",
    "weights_sha256",
    "head",
    "image_size",
    "crop_pct",
    "interpolation",
    "mean",
    "std",
    "exif_rotate",
    "precision",
    "decode",
)

Plan = dict[str, Any]


def make_plans(
    options: ExtractOptions, images: SplitSources, setting: Placement
) -> dict[str, Plan]:
    """How each split is made, as its manifest will say."""
    recorded = options.recorded()
    common = {
        "precision": setting.precision,
        "decode": choose_decoder(options, setting),
        "backbone": without_folder(options.backbone),
        "model_sha256": _hash(own_file(options.backbone)),
        "weights_sha256": _hash(options.weights),
    }
    return {
        split: Provenance(
            stage="extract",
            options={**recorded, **common, "split": split, "data_sha256": source.fingerprint()},
            inputs={},
        ).to_dict()
        for split, source in images.sources.items()
    }


def choose_decoder(options: ExtractOptions, setting: Placement) -> str:
    """Resolve ``--decode auto``: torchvision on a GPU, Pillow elsewhere."""
    if options.decode != "auto":
        return options.decode
    return "torch" if setting.device.type == "cuda" and not options.exif_rotate else "pillow"


def _hash(file: Path | None) -> str | None:
    """Hash of a model's file; of all its parts for the index of a sharded model."""
    if file is None:
        return None
    if file.suffix == ".json":
        return checkpoint_sha256(open_checkpoint(file))
    return sha256_file(find_file(file))


def check_plans(
    run: Run, plans: dict[str, Plan], ledgers: dict[str, Ledger], options: ExtractOptions
) -> None:
    """Refuse to mix features that were made in different ways.

    Raises:
        TargetExistsError: If a split is there and was made otherwise (and --overwrite is not
            given), or another split of the run was made with another model.
    """
    for split, plan in plans.items():
        ledgers[split].check(plan, overwrite=options.overwrite)
    plan = next(iter(plans.values()))
    for path in sorted((run.folder / "features").glob(f"*/{MANIFEST}")):
        other = (read_json(path).get("provenance") or {}).get("options") or {}
        changed = [k for k in OF_THE_MODEL if other.get(k) != plan["options"].get(k)]
        if path.parent.name not in plans and changed:
            raise TargetExistsError(
                f"{path.parent} was made with another model or transform",
                got="; ".join(
                    f"{k} {other.get(k)!r}, now {plan['options'].get(k)!r}" for k in changed
                ),
                expected="one model for all splits of a run",
                todo="extract all splits in one command with --overwrite, or choose another --run",
            )
