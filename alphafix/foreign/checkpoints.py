"""Checkpoints of classifier-balancing and RIDE as plain models with a linear head."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alphafix.checkpoints.formats.opening import find_file, format_of
from alphafix.checkpoints.formats.sections import without_wrapper
from alphafix.checkpoints.formats.torch_format import TorchFormat, map_tensors
from alphafix.errors import FileFormatError, InputError, call, some
from alphafix.values.head import HeadSource

if TYPE_CHECKING:
    from torch import Tensor

# What RIDE multiplies the cosines of its normalised heads by (its argument `s`).
RIDE_SCALE = 30.0

FINAL = "final_model_checkpoint.pth"


@dataclass(frozen=True)
class Converted:
    """A model under the names of its plain form.

    Attributes:
        tensors: Its tensors by name.
        head: Which of them are its head, and how (without the file's name and hash).
    """

    tensors: dict[str, Tensor]
    head: HeadSource


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a torch file by dotted name; of any other object in it nothing is made.

    Raises:
        InputError: If the file is not there.
        FileFormatError: If it is no torch file, or damaged.
    """
    path = find_file(path / FINAL if (path / FINAL).is_file() else path)
    found = format_of(path).name
    if found != TorchFormat.name:
        raise FileFormatError(
            f"{path} is no checkpoint of torch.save",
            got=found,
            expected="a .pth file, as the project's training script writes it",
        )
    return map_tensors(TorchFormat(with_code=True).open(path).tensors)


def networks(tensors: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a checkpoint of classifier-balancing or OLTR into its two networks.

    Their training scripts save ``state_dict_best`` (or ``state_dict``) with ``feat_model`` and
    ``classifier``, each under the prefix ``module.`` of a DataParallel wrapper.

    Raises:
        InputError: If the file has no such parts.
    """
    parts = []
    for part in ("feat_model", "classifier"):
        pattern = re.compile(rf"(?:(?:state_dict_best|state_dict)\.)?{part}\.(.+)")
        found = {m[1]: t for name, t in tensors.items() if (m := pattern.fullmatch(name))}
        if not found:
            raise InputError(
                f"{path} has no network {part}",
                got=f"tensors {some(tensors)}",
                expected="state_dict_best with feat_model and classifier",
                todo="give the final_model_checkpoint.pth of its training script",
            )
        bare = without_wrapper(list(found))
        parts.append({bare[name]: tensor for name, tensor in found.items()})
    return parts[0], parts[1]


def classifier_balancing(path: Path) -> Converted:
    """Convert a checkpoint of classifier-balancing (cRT, LWS, or jointly trained).

    The result has torchvision's names (``conv1.weight`` to ``fc.bias``). Learned scales s of
    LWS, with which the model multiplies its logits, are folded into rows and biases.

    Raises:
        InputError: If its classifier is no linear layer.
    """
    body, classifier = networks(read_tensors(path), path)
    known = {"fc.weight", "fc.bias", "scales"}
    if "fc.weight" not in classifier or set(classifier) - known:
        raise InputError(
            f"the classifier of {path} is no linear layer",
            got=some(classifier),
            expected="fc.weight, fc.bias and, for LWS, scales",
            todo=f"OLTR's checkpoints are another kind: {call('import oltr')}",
        )
    head = {name: tensor for name, tensor in classifier.items() if name != "scales"}
    if "scales" in classifier:
        scales = classifier["scales"].reshape(-1)
        head = {
            name: (tensor.T * scales).T.contiguous() if tensor.ndim == 2 else tensor * scales
            for name, tensor in head.items()
        }
    biases = ("fc.bias",) if "fc.bias" in head else ()
    source = HeadSource(file="", sha256="", weights=("fc.weight",), biases=biases)
    return Converted({**body, **head}, source)


def ride(path: Path) -> Converted:
    """Convert a checkpoint of RIDE with several experts.

    Its heads are ``backbone.linears.E.weight``. Without biases they are its normalised ones:
    stored as D_e x C, columns divided by their norms, logits times 30; with biases they are
    plain linear layers. The model's logits are the mean over the experts.

    Raises:
        InputError: If there are no such heads.
    """
    tensors = read_tensors(path)
    inside = {name.removeprefix("state_dict."): tensor for name, tensor in tensors.items()}
    bare = without_wrapper(list(inside))
    model = {bare[name]: tensor for name, tensor in inside.items()}
    pattern = re.compile(r"(?:.*\.)?linears\.(\d+)\.weight")
    heads = {int(m[1]): name for name in model if (m := pattern.fullmatch(name))}
    if len(heads) < 2:
        raise InputError(
            f"{path} has no experts",
            got=f"tensors {some(model)}",
            expected="backbone.linears.0.weight, backbone.linears.1.weight, ...",
            todo=f"a model with one head needs no conversion: {call('extract', weights=None)}",
        )
    weights = tuple(heads[expert] for expert in sorted(heads))
    names = tuple(name.replace(".weight", ".bias") for name in weights)
    biases = tuple(name for name in names if name in model)
    normalised = not biases
    source = HeadSource(
        file="",
        sha256="",
        kind="experts",
        weights=weights,
        biases=biases,
        transposed=normalised,
        normalised=normalised,
        factor=RIDE_SCALE if normalised else 1.0,
    )
    return Converted(model, source)
