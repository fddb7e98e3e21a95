"""What enters AlphaNet, neighbours' rows side by side, and the first layer's products with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from alphafix.alphanet.padding import padded_classes, padding, room
from alphafix.alphanet.products import sum_over_classes


class Inputs(Protocol):
    """Rows of F' classes (see `padded_classes`), K of width D each: I = K * D numbers a class."""

    @property
    def width(self) -> int:
        """I."""

    def only(self, networks: slice) -> Inputs:
        """Those of some of the networks."""

    def values(self, weights: Tensor, offsets: Tensor, out: Tensor) -> None:
        """Write what the first layers of T networks make of them to ``out``, T x width x F'.

        Args:
            weights: Float32 of shape T x width x I.
            offsets: Float32 of shape T x width.
            out: Memory for it.
        """

    def gradient(self, slopes: Tensor, out: Tensor) -> None:
        """Write the gradient by the weights to ``out``, T x width x I.

        Args:
            slopes: Gradient by the values, float32 of shape T x width x F'.
            out: Memory for it.
        """


@dataclass(frozen=True)
class OwnInputs:
    """Each network has rows of its own.

    Attributes:
        rows: Float32 of shape T x F' x I.
        count: P, the pieces of each first product (see `pieces`), or 1 for one product of all.
    """

    rows: Tensor
    count: int

    @property
    def width(self) -> int:
        """I."""
        return self.rows.shape[-1]

    def only(self, networks: slice) -> OwnInputs:
        """Those of some of the networks."""
        return OwnInputs(self.rows[networks], self.count)

    def values(self, weights: Tensor, offsets: Tensor, out: Tensor) -> None:
        """See `Inputs`."""
        if self.count == 1:
            torch.baddbmm(offsets[..., None], weights, self.rows.transpose(1, 2), out=out)
            return
        # Pieces of all networks at once would have to be copied.
        for weight, rows, values in zip(weights, self.rows, out, strict=True):
            products = torch.bmm(_cut(weight, self.count), _cut(rows, self.count).transpose(1, 2))
            torch.sum(products, 0, out=values)
        out.add_(offsets[..., None])

    def gradient(self, slopes: Tensor, out: Tensor) -> None:
        """See `Inputs`."""
        sum_over_classes(slopes, self.rows, out)


@dataclass(frozen=True)
class CommonInputs:
    """All networks have the same rows, so that there is one product for all.

    Attributes:
        rows: Float32 of shape F' x I.
        turned: The same in the other order and in P pieces (see `pieces`), P x (I / P) x F', in
            memory too: products with the weights read it twice as fast then.
    """

    rows: Tensor
    turned: Tensor

    @classmethod
    def of(cls, rows: Tensor, count: int) -> CommonInputs:
        """Turn the rows, float32 of shape F' x I, in ``count`` pieces."""
        return cls(rows, rows.view(len(rows), count, -1).permute(1, 2, 0).contiguous())

    @property
    def width(self) -> int:
        """I."""
        return self.rows.shape[-1]

    def only(self, networks: slice) -> CommonInputs:
        """They are all networks'."""
        return self

    def values(self, weights: Tensor, offsets: Tensor, out: Tensor) -> None:
        """See `Inputs`."""
        _sum_up(_in_pieces(weights, self.turned), offsets, out)

    def gradient(self, slopes: Tensor, out: Tensor) -> None:
        """See `Inputs`."""
        sum_over_classes(slopes.reshape(-1, slopes.shape[-1]), self.rows, out.flatten(0, 1))


@dataclass(frozen=True)
class DistinctInputs:
    """All networks have the same rows, and many classes the same neighbour at the same place.

    In spaces of many dimensions a few rows are neighbours of very many others. What a network's
    weights make of such a row at a place is worked out once, and summed for each class. U is how
    many rows there are at a place, at the most.

    Attributes:
        rows: Those at each place, zeros behind, float32 of shape K x U x D.
        turned: The same in the other order and in P pieces (see `pieces`), P x (I / P) x U.
        sums: Ones where a class has a row at a place, float32 of shape F' x (K * U).
        turned_sums: The same in the other order, for each piece, P x U x F'.
    """

    rows: Tensor
    turned: Tensor
    sums: Tensor
    turned_sums: Tensor

    @classmethod
    def of(cls, weight: Tensor, ids: Tensor) -> DistinctInputs:
        """Find the rows ``weight[ids]`` that are the same.

        Args:
            weight: Float32 of shape C x D.
            ids: Which of them, int64 of shape F x K.
        """
        few, k = ids.shape
        found = [torch.unique(place, return_inverse=True) for place in ids.T]
        most = max(len(distinct) for distinct, _ in found)
        most += padding(most)
        width = weight.shape[1]
        rows = weight.new_zeros(k, most, width)
        sums = weight.new_zeros(few + room(few), k, most)
        for place, (distinct, where) in enumerate(found):
            rows[place, : len(distinct)] = weight[distinct]
            sums[torch.arange(few, device=ids.device), place, where] = 1
        each = pieces(k, width) // k
        turned = rows.view(k, most, each, -1).permute(0, 2, 3, 1).flatten(0, 1).contiguous()
        turned_sums = sums.permute(1, 2, 0).repeat_interleave(each, 0)
        return cls(rows, turned, sums.flatten(1), turned_sums)

    @property
    def width(self) -> int:
        """I."""
        return self.rows.shape[0] * self.rows.shape[2]

    def only(self, networks: slice) -> DistinctInputs:
        """They are all networks'."""
        return self

    def values(self, weights: Tensor, offsets: Tensor, out: Tensor) -> None:
        """See `Inputs`."""
        products = torch.bmm(_in_pieces(weights, self.turned), self.turned_sums)
        _sum_up(products, offsets, out)

    def gradient(self, slopes: Tensor, out: Tensor) -> None:
        """See `Inputs`."""
        places, most, width = self.rows.shape
        flat = slopes.reshape(-1, slopes.shape[-1])
        scores = flat.new_empty(len(flat), places * most)
        sum_over_classes(flat, self.sums, scores)
        by_place = out.view(-1, places, width).transpose(0, 1)
        torch.bmm(scores.view(-1, places, most).transpose(0, 1), self.rows, out=by_place)


def pieces(k: int, width: int) -> int:
    """P, how many pieces the first product is made of: two a place, or one where D is odd.

    Each is one processor's work, so that sums are rounded alike by one processor and by several (as
    long as there are as many pieces), and a trial alike alone and in a part of a batch.
    """
    return k if width % 2 else 2 * k


def _cut(rows: Tensor, count: int) -> Tensor:
    """Rows n x I as P x n x (I / P)."""
    return rows.view(len(rows), count, -1).transpose(0, 1)


def _in_pieces(weights: Tensor, turned: Tensor) -> Tensor:
    """Products of weights, T x width x I, with P pieces, P x (I / P) x n: P x (T * width) x n."""
    count, wide, _ = turned.shape
    return torch.bmm(weights.view(-1, count, wide).transpose(0, 1), turned)


def _sum_up(products: Tensor, offsets: Tensor, out: Tensor) -> None:
    """Write the sum of P x (T * width) x n over P, and offsets, T x width, to T x width x n."""
    torch.sum(products, 0, out=out.flatten(0, 1))
    out.add_(offsets[..., None])


def inputs_of(weights: Sequence[Tensor], ids: Tensor, *, own: bool = False) -> Inputs:
    """Inputs of T networks, with the fewest operations.

    Args:
        weights: One tensor for all networks, or one for each of T, float32 of shape C x D.
        ids: Rows of a class, int64 of shape T x F x K, or 1 x F x K if they are all networks'.
        own: Whether a network would have others in another batch: one alone is then treated as it
            is among several.
    """
    if own or len(weights) > 1 or len(ids) > 1:
        networks = max(len(weights), len(ids))
        heads = weights if len(weights) > 1 else [weights[0]] * networks
        each = ids.expand(networks, -1, -1)
        rows = [weight[near].flatten(1) for weight, near in zip(heads, each, strict=True)]
        cpu = ids.device.type == "cpu"
        count = pieces(ids.shape[2], heads[0].shape[1]) if cpu else 1
        return OwnInputs(padded_classes(torch.stack(rows)), count)
    (weight,), (near,) = weights, ids
    classes, width = len(near) + room(len(near)), weight.shape[1]
    most = max(len(place.unique()) for place in near.T)
    # Multiplications of a weight row: with distinct rows, and to sum them; or with all rows.
    if (most + padding(most)) * (width + classes) < classes * width:
        return DistinctInputs.of(weight, near)
    common = padded_classes(weight[near].flatten(1))
    return CommonInputs.of(common, pieces(near.shape[1], width))
