"""A fingerprint of a model without its head: what its features depend on."""

from __future__ import annotations

import hashlib
import itertools

import torch

from alphafix.models.model import Caught


def backbone_sha256(caught: Caught) -> str | None:
    """Hash of all tensors of a model but those of its head.

    Models with the same one give the same features if their code does the same with them, which a
    fingerprint cannot tell: hold them against each other on some images as well.

    Args:
        caught: The model with its head.

    Returns:
        The hash; None where the head is no tensor of the model (ONNX, frozen graphs), so that it
        cannot be left out.
    """
    head = {tensor.data_ptr() for tensor in (caught.weight, caught.bias) if tensor is not None}
    left_out = set()
    found = hashlib.sha256()
    named = itertools.chain(
        caught.model.named_parameters(remove_duplicate=False),
        caught.model.named_buffers(remove_duplicate=False),
    )
    for name, tensor in sorted(named):
        if tensor.data_ptr() in head:
            left_out.add(tensor.data_ptr())
            continue
        plain = tensor.detach().cpu().contiguous()
        found.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest() if head and left_out == head else None
