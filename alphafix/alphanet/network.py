"""AlphaNet itself: T small networks side by side, their parameters stacked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from alphafix.alphanet.inputs import Inputs
from alphafix.alphanet.padding import padding, room

# Slope of the LeakyReLU between layers: PyTorch's default, which the authors use.
NEGATIVE_SLOPE = 0.01

# The authors divide by the 1-norm with no guard; a vector of zeros must stay one.
LEAST_NORM = 1e-12


@dataclass(frozen=True)
class Networks:
    """The parameters of T networks of equal shape, and T sets of few-split biases.

    Attributes:
        weights: One tensor a layer, float32 of shape T x out x in, where all widths but that
            of the input are padded (see `padding.ALIGNED`).
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

    def first(self, count: int) -> Networks:
        """The first ``count`` trials, sharing memory with all."""
        return self.map(lambda tensor: tensor[:count])

    def packed(self) -> tuple[Networks, list[Tensor]]:
        """The same with all parameters in three tensors, which take few steps to update.

        Returns:
            The networks, whose tensors are views, and what holds them, one row a trial: the first
            weights, all other weights and offsets, and the biases.
        """
        first, *others = self.weights
        small = [*others, *self.offsets]
        flat = torch.cat([tensor.flatten(1) for tensor in small], dim=1)
        views, start = [], 0
        for tensor in small:
            stop = start + tensor[0].numel()
            views.append(flat[:, start:stop].view(tensor.shape))
            start = stop
        weights = (first, *views[: len(others)])
        networks = Networks(weights, tuple(views[len(others) :]), self.biases, self.k)
        return networks, [first, flat, self.biases]

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
    start = functional.pad(biases, (0, room(biases.shape[-1])), value=-torch.inf)
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


@dataclass(frozen=True)
class Pass:
    """What the networks make of their input, and what the way back needs of that.

    Units x classes throughout, so that the gradient of a weight comes out of its product in the
    weight's own memory layout.

    Attributes:
        alphas: Coefficients of unit 1-norm (AlphaNet, Eq. 1), float32 of shape T x K x F'; those of
            padding mean nothing.
        norms: 1-norms that they were divided by, T x 1 x F'.
        hidden: What leaves each hidden layer, T x width x F'.
    """

    alphas: Tensor
    norms: Tensor
    hidden: tuple[Tensor, ...]


def forward(networks: Networks, inputs: Inputs) -> Pass:
    """Coefficients of all few-split classes."""
    values = inputs.values(networks.weights[0], networks.offsets[0])
    hidden = []
    for weight, offset in zip(networks.weights[1:], networks.offsets[1:], strict=True):
        hidden.append(functional.leaky_relu(values, NEGATIVE_SLOPE, inplace=True))
        values = torch.baddbmm(offset[..., None], weight, values)
    values = values[:, : networks.k]
    norms = values.abs().sum(1, keepdim=True).clamp_min_(LEAST_NORM)
    return Pass(values / norms, norms, tuple(hidden))


def backward(networks: Networks, inputs: Inputs, found: Pass, pulls: Tensor, out: Networks) -> None:
    """Gradients of all weights and offsets.

    Worked out by hand: PyTorch's own way back does the same products, and as much again in small
    steps between them.

    Args:
        networks: T networks.
        inputs: Their input.
        found: What `forward` gave.
        pulls: Gradient by the coefficients, float32 of shape T x K x F'; 0 for padding.
        out: Where they are written: memory that is new in each step takes the processor as long as
            half of the first layer's product. Its biases are left as they are.
    """
    trials, _, columns = pulls.shape
    slopes = pulls.new_zeros(trials, networks.weights[-1].shape[1], columns)
    along = (pulls * found.alphas).sum(1, keepdim=True) * (found.norms > LEAST_NORM)
    torch.sub(pulls, found.alphas.sign().mul_(along), out=slopes[:, : networks.k])
    slopes[:, : networks.k] /= found.norms
    for layer in range(len(found.hidden), 0, -1):
        hidden = found.hidden[layer - 1]
        torch.bmm(slopes, hidden.transpose(1, 2), out=out.weights[layer])
        torch.sum(slopes, 2, out=out.offsets[layer])
        below = torch.bmm(networks.weights[layer].transpose(1, 2), slopes)
        slopes = torch.ops.aten.leaky_relu_backward(below, hidden, NEGATIVE_SLOPE, True)
    torch.sum(slopes, 2, out=out.offsets[0])
    inputs.gradient(slopes, out.weights[0])


def alphas(networks: Networks, inputs: Inputs) -> Tensor:
    """Coefficients class by class, float32 of shape T x F' x K (see `Pass`)."""
    return forward(networks, inputs).alphas.transpose(1, 2)
