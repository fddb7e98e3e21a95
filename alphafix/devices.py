"""Where and how exactly the model runs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from alphafix.errors import InputError, option

Precision = Literal["fp32", "bf16", "fp16"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(wanted: str, *, local_rank: int = 0) -> torch.device:
    """Return the device that ``wanted`` names ("auto": a GPU if there is one).

    Raises:
        InputError: If there is no such device here.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    kind = (
        next(name for name, is_there in there.items() if is_there) if wanted == "auto" else wanted
    )
    if not there[kind]:
        raise InputError(
            f"there is no device {kind} here",
            got=", ".join(name for name, is_there in there.items() if is_there),
            expected=kind,
            todo=f"choose another {option('device')}",
        )
    return torch.device("cuda", local_rank) if kind == "cuda" else torch.device(kind)


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Return the precision that ``wanted`` names.

    "auto" is bf16 on GPUs that compute in it, fp16 on older ones, fp32 elsewhere.
    """
    if wanted == "bf16":
        return "bf16"
    if wanted == "fp16":
        return "fp16"
    if wanted == "fp32" or device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which the model is to run."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_AUTOCAST[precision])


@dataclass(frozen=True)
class Placement:
    """Where and how exactly a model runs.

    Attributes:
        device: The device.
        precision: "fp32", or what is multiplied in under autocast.
    """

    device: torch.device
    precision: Precision = "fp32"

    @classmethod
    def choose(cls, device: str, precision: str, *, local_rank: int = 0) -> Placement:
        """Resolve "auto" (see `choose_device` and `choose_precision` for what they raise)."""
        chosen = choose_device(device, local_rank=local_rank)
        return cls(chosen, choose_precision(precision, chosen))
