"""AlphaNet itself: T small networks side by side, their parameters stacked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

# Slope of the LeakyReLU between layers: PyTorch's default, which the authors use.
NEGATIVE_SLOPE = 0.01

# The authors divide by the 1-norm with no guard; a vector of zeros must stay one.
LEAST_NORM = 1e-12

# Kernels treat the last elements of an array, and products of odd sizes, in other ways than
# the rest, so that rounding, and with it a trial, would depend on what else is in the batch.
# All widths are therefore padded to this many floats (64 bytes, the widest vector registers).
# Padding has no gradient, and AdamW leaves what is zero and has no gradient as it is.
ALIGNED = 16


@dataclass(frozen=True)
class Networks:
    """The parameters of T networks of equal shape, and T sets of few-split biases.

    Attributes:
        weights: One tensor a layer, float32 of shape T x out x in, where all widths but that
            of the input are padded (see `ALIGNED`).
        offsets: One tensor a layer, float32 of shape T x out, padded likewise.
        biases: Few-split biases b', float32 of shape T x F', padded with -inf, so that
            padding is a class that never wins.
        k: K, the number of outputs that are not padding.
    """

    weights: tuple[Tensor, ...]
    offsets: tuple[Tensor, ...]
    biases: Tensor
    k: int

    def __len__(self) -> int:
        return len(self.biases)

    def tensors(self) -> list[Tensor]:
        """All parameters; the first axis of each is the trial."""
        return [*self.weights, *self.offsets, self.biases]

    def first(self, count: int) -> Networks:
        """The first ``count`` trials, sharing memory with all."""
        return self.map(lambda tensor: tensor[:count])

    def map(self, change: Callable[[Tensor], Tensor]) -> Networks:
        """Return networks whose tensors are ``change(tensor)``."""
        return Networks(
            weights=tuple(change(tensor) for tensor in self.weights),
            offsets=tuple(change(tensor) for tensor in self.offsets),
            biases=change(self.biases),
            k=self.k,
        )


def initial_networks(
    seeds: Sequence[int], biases: Tensor, *, inputs: int, hidden: Sequence[int], k: int
) -> Networks:
    """Draw T networks with PyTorch's default initialisation, each from its own seed.

    Args:
        seeds: T seeds; a network depends on its own alone.
        biases: The base model's few-split biases, where training starts, float32, F, or
            those of each network, T x F.
        inputs: Width of the input: K*D, or (K+1)*D with the class's own row.
        hidden: Widths of the hidden layers (AlphaNet, section 4.1: three of 32).
        k: K, the number of outputs.
    """
    sizes = [inputs, *hidden, k]
    drawn = [_one_network(seed, sizes) for seed in seeds]
    weights = [torch.stack(layer) for layer in zip(*(weights for weights, _ in drawn), strict=True)]
    offsets = [torch.stack(layer) for layer in zip(*(offsets for _, offsets in drawn), strict=True)]
    device = biases.device
    start = functional.pad(biases, (0, padding(biases.shape[-1])), value=-torch.inf)
    return Networks(
        weights=tuple(layer.to(device) for layer in weights),
        offsets=tuple(layer.to(device) for layer in offsets),
        biases=start.expand(len(seeds), -1).clone(),
        k=k,
    )


def _one_network(seed: int, sizes: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    # On the CPU whatever the device, so that a seed means the same network everywhere.
    generator = torch.Generator().manual_seed(seed)
    weights: list[Tensor] = []
    offsets: list[Tensor] = []
    for inputs, outputs in pairwise(sizes):
        bound = 1 / math.sqrt(inputs)  # nn.Linear.reset_parameters
        weight = torch.empty(outputs, inputs).uniform_(-bound, bound, generator=generator)
        offset = torch.empty(outputs).uniform_(-bound, bound, generator=generator)
        more_inputs = padding(inputs) if weights else 0
        weights.append(functional.pad(weight, (0, more_inputs, 0, padding(outputs))))
        offsets.append(functional.pad(offset, (0, padding(outputs))))
    return weights, offsets


def padding(size: int) -> int:
    """What is missing to a multiple of `ALIGNED`."""
    return -size % ALIGNED


def padded_classes(array: Tensor) -> Tensor:
    """An array of shape ... x F x n as ... x F' x n: zeros up to a multiple of `ALIGNED`."""
    return functional.pad(array, (0, 0, 0, padding(array.shape[-2])))


def alphas(networks: Networks, rows: Tensor) -> Tensor:
    """Coefficients of unit 1-norm (AlphaNet, Eq. 1).

    Args:
        networks: T networks.
        rows: Their input as `padded_classes` gives it, concatenated classifier rows, float32 of
            shape F' x I where all trials have the same neighbours, else T x F' x I.

    Returns:
        float32 of shape T x F' x K; those of padding mean nothing.
    """
    # Units x classes throughout, T x out x F', so that the gradient of a weight comes out of
    # its product in the weight's own memory layout.
    first, *others = networks.weights
    trials, width, inputs = first.shape
    if rows.ndim == 2:
        # One product for all trials: (T * width) x I by I x F'.
        values = (first.reshape(trials * width, inputs) @ rows.T).view(trials, width, -1)
    else:
        values = torch.bmm(first, rows.transpose(1, 2))
    values = values + networks.offsets[0][..., None]
    for weight, offset in zip(others, networks.offsets[1:], strict=True):
        values = functional.leaky_relu(values, NEGATIVE_SLOPE)
        values = torch.baddbmm(offset[..., None], weight, values)
    values = values[:, : networks.k]
    norm = values.abs().sum(1, keepdim=True).clamp_min(LEAST_NORM)
    return (values / norm).transpose(1, 2)
