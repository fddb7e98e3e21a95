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
from alphafix.alphanet.products import sum_over_classes

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

    def tensors(self) -> list[Tensor]:
        """All parameters, the biases last."""
        return [*self.weights, *self.offsets, self.biases]

    def packed(self) -> tuple[Networks, list[Tensor]]:
        """The same with all parameters in three tensors, which take few steps to update.

        Returns:
            The networks, whose tensors are views, and what holds them: the first weights, all other
            weights and offsets, and the biases.
        """
        first, *others = self.weights
        small = [*others, *self.offsets]
        flat = torch.cat([tensor.flatten() for tensor in small])
        parts = torch.split(flat, [one.numel() for one in small])
        views = [part.view_as(one) for part, one in zip(parts, small, strict=True)]
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


class Passes:
    """The way through T networks and back, with all memory and views that it takes.

    Units x classes throughout, so that the gradient of a weight comes out of its product in the
    weight's own memory layout. New memory, and a view of old, takes a step as long as its small
    operations do. Gradients are worked out by hand: PyTorch's own way back does the same products,
    and as much again in small steps between them.

    Args:
        networks: T networks.
        inputs: What enters them.
        gradients: Where those of their weights and offsets are written.
    """

    def __init__(self, networks: Networks, inputs: Inputs, gradients: Networks) -> None:
        trials, columns = networks.biases.shape

        def room(width: int) -> Tensor:
            return networks.biases.new_zeros(trials, width, columns)

        self._inputs = inputs
        self._first = networks.weights[0], networks.offsets[0]
        self._first_gradients = gradients.weights[0], gradients.offsets[0]
        widths = [weight.shape[1] for weight in networks.weights]
        values, slopes = [room(width) for width in widths], [room(width) for width in widths]
        self._layers = [
            _Layer(
                weight=networks.weights[i],
                turned=networks.weights[i].transpose(1, 2),
                offset=networks.offsets[i][..., None],
                gradient=gradients.weights[i],
                offset_gradient=gradients.offsets[i],
                below=values[i - 1],
                below_turned=values[i - 1].transpose(1, 2),
                above=values[i],
                slopes_below=slopes[i - 1],
                slopes=slopes[i],
            )
            for i in range(1, len(widths))
        ]
        self._bottom, self._bottom_slopes = values[0], slopes[0]
        self._last, self._last_slopes = (one[-1][:, : networks.k] for one in (values, slopes))
        self._norms, self._along = room(1), room(1)
        self._alphas, self._work = room(networks.k), room(networks.k)

    def forward(self) -> Tensor:
        """Coefficients of all few-split classes, of unit 1-norm (AlphaNet, Eq. 1).

        Returns:
            Float32 of shape T x K x F'; those of padding mean nothing. The next time, they are
            written over.
        """
        self._inputs.values(*self._first, self._bottom)
        for layer in self._layers:
            functional.leaky_relu(layer.below, NEGATIVE_SLOPE, inplace=True)
            torch.baddbmm(layer.offset, layer.weight, layer.below, out=layer.above)
        torch.abs(self._last, out=self._work)
        torch.sum(self._work, 1, keepdim=True, out=self._norms).clamp_min_(LEAST_NORM)
        return torch.div(self._last, self._norms, out=self._alphas)

    def backward(self, pulls: Tensor) -> None:
        """Write the gradients of all weights and offsets; `forward` came before.

        Args:
            pulls: Gradient by the coefficients, float32 of shape T x K x F'; 0 for padding.
        """
        torch.mul(pulls, self._alphas, out=self._work)
        along = torch.sum(self._work, 1, keepdim=True, out=self._along)
        along.mul_(self._norms > LEAST_NORM)
        torch.sign(self._alphas, out=self._work).mul_(along)
        torch.sub(pulls, self._work, out=self._last_slopes).div_(self._norms)
        for layer in reversed(self._layers):
            sum_over_classes(layer.slopes, layer.below_turned, layer.gradient)
            torch.sum(layer.slopes, 2, out=layer.offset_gradient)
            torch.bmm(layer.turned, layer.slopes, out=layer.slopes_below)
            torch.ops.aten.leaky_relu_backward.grad_input(
                layer.slopes_below, layer.below, NEGATIVE_SLOPE, True, grad_input=layer.slopes_below
            )
        weights, offsets = self._first_gradients
        torch.sum(self._bottom_slopes, 2, out=offsets)
        self._inputs.gradient(self._bottom_slopes, weights)


@dataclass(frozen=True)
class _Layer:
    """A layer but the first: its parameters, their gradients, and what it stands between.

    Attributes:
        weight: T x out x in.
        turned: The same, T x in x out.
        offset: T x out x 1.
        gradient: By the weight.
        offset_gradient: By the offset, T x out.
        below: What enters, T x in x F'.
        below_turned: The same, T x F' x in.
        above: What leaves, T x out x F'.
        slopes_below: Gradient by what the layer below gives, before its LeakyReLU.
        slopes: Gradient by what leaves.
    """

    weight: Tensor
    turned: Tensor
    offset: Tensor
    gradient: Tensor
    offset_gradient: Tensor
    below: Tensor
    below_turned: Tensor
    above: Tensor
    slopes_below: Tensor
    slopes: Tensor
