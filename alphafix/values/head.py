"""The head: the last linear layer of a classifier, and where in which file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import FiniteFloat

from alphafix.errors import FileFormatError, InputError, counted
from alphafix.files import read_tensors, write_tensors
from alphafix.reading.boundary import reading
from alphafix.reading.schema import require_arrays, typed
from alphafix.remote import home_path
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.display import Displayed

# Logits that `Head.predict` holds at a time: 4 million float32 are 16 MB.
PREDICTED_LOGITS = 4 << 20


@dataclass(frozen=True)
class HeadSource:
    """Where a head was found, so that its rows can be written back there.

    A head in effect is made of its E weight tensors W_e (C x D_e, one for all kinds but
    "experts"), biases b_e and row scales s as

        weight = concatenation over e of  s * factor / E * W_e   (W_e's rows of norm 1 first,
                                                                  if ``normalised``)
        bias   = s * mean over e of b_e

    which is what alphanet.md says of LWS, cosine and RIDE heads.

    Attributes:
        file: Name of the checkpoint (without its folder).
        sha256: Hash of that file's bytes (of all its shards' hashes, for a sharded model).
        kind: "linear" (rows as stored), "lws" (rows and biases times learned scales),
            "cosine" (rows normalised when the model runs) or "experts" (several heads, whose
            features are concatenated).
        weights: Names of the weight tensors; one, or one an expert.
        biases: Names of the bias tensors; none, one, or one an expert.
        scales: Name of the tensor of row scales (C elements, or one for all rows), or None.
        transposed: Whether the weights are stored as D x C.
        normalised: Whether the model divides each row by its norm when it runs.
        factor: What the model multiplies the rows by (30 in RIDE, 16 in OLTR).
        bias_factor: What it multiplies the biases by (the beta of ONNX's Gemm).
    """

    file: str
    sha256: str
    kind: str = "linear"
    weights: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()
    scales: str | None = None
    transposed: bool = False
    normalised: bool = False
    factor: float = 1.0
    bias_factor: float = 1.0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HeadSource:
        """Read what `dataclasses.asdict` gave, after a way through JSON.

        Raises:
            ValueError: If an entry is missing or of another type.
        """
        return typed(cls, data, "source")


@dataclass(frozen=True)
class Head(Displayed):
    """A linear head in effect: logits = scale * (features @ weight.T + bias).

    Attributes:
        weight: float32 of shape C x D.
        bias: float32 of shape C, or None.
        scale: Factor on all logits; it changes probabilities and losses, not the ranking.
        source: Where it came from, or None for a head that was given as arrays.
    """

    weight: FloatArray
    bias: FloatArray | None = None
    scale: float = 1.0
    source: HeadSource | None = None

    def __post_init__(self) -> None:
        if self.weight.ndim != 2:
            raise InputError(
                "a head's weight has the wrong number of axes",
                got=f"shape {self.weight.shape}",
                expected="classes x feature width",
                todo="give the weight of the last linear layer",
            )
        object.__setattr__(self, "weight", np.asarray(self.weight, dtype=np.float32))
        if self.bias is not None:
            object.__setattr__(self, "bias", np.asarray(self.bias, dtype=np.float32))
            if self.bias.shape != (len(self.weight),):
                raise InputError(
                    "a head's weight and bias do not fit together",
                    got=f"weight {self.weight.shape}, bias {self.bias.shape}",
                    expected=f"bias ({len(self.weight)},)",
                    todo="check that both belong to the same layer",
                )
        for name, array in (("weight", self.weight), ("bias", self.bias)):
            if array is not None and not np.isfinite(array).all():
                rows = np.unique(np.nonzero(~np.isfinite(array))[0])
                raise InputError(
                    f"the head's {name} has values that are not finite",
                    got=f"{counted(len(rows), 'row')} with NaN or inf, first: class {rows[0]}",
                    expected="finite numbers",
                    todo="use a checkpoint from before the training diverged",
                )

    @classmethod
    def of(cls, weight: Any, bias: Any = None, scale: float = 1.0) -> Head:
        """A head of arrays or torch tensors, on any device: ``Head.of(fc.weight, fc.bias)``.

        Raises:
            InputError: If the shapes do not fit together or a value is not finite.
        """
        from alphafix.values.arrays import as_array

        return cls(as_array(weight), None if bias is None else as_array(bias), scale)

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.weight.shape[0])

    @property
    def width(self) -> int:
        """D."""
        return int(self.weight.shape[1])

    @property
    def bias_or_zeros(self) -> FloatArray:
        """The biases, or zeros for a head without, float32 of shape C."""
        if self.bias is None:
            return np.zeros(self.num_classes, dtype=np.float32)
        return self.bias

    def logits(self, features: FloatArray) -> FloatArray:
        """Return N x C logits of N x D features."""
        scores: FloatArray = features @ self.weight.T + self.bias_or_zeros
        return scores if self.scale == 1.0 else scores * np.float32(self.scale)

    def predict(self, features: FloatArray) -> IntArray:
        """Class of the largest logit (the first of equals) of N x D features, int64 of shape N."""
        rows = max(32, min(4096, PREDICTED_LOGITS // self.num_classes))
        parts = [
            self.logits(features[start : start + rows]).argmax(axis=1)
            for start in range(0, len(features), rows)
        ]
        return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)

    def require_match(self, *, width: int, num_classes: int) -> None:
        """Check the head against features of ``width`` columns and ``num_classes`` labels.

        Raises:
            InputError: If C or D differs; both shapes and the likely cause are named.
        """
        if width != self.width:
            raise InputError(
                "the head and the features differ in width",
                got=f"head {self.num_classes} x {self.width}, features N x {width}",
                expected="one feature a head column",
                todo="the features are likely from another backbone or another layer; "
                "extract them with the model that the head belongs to",
            )
        if num_classes != self.num_classes:
            raise InputError(
                "the head and the data differ in the number of classes",
                got=f"head {self.num_classes} x {self.width}, data with {num_classes} classes",
                expected="one head row a class",
                todo="the data is likely of another class list, or the head of another data set; "
                "use the class folders or list that the model was trained with",
            )

    def with_rows(
        self,
        classes: IntArray,
        rows: FloatArray,
        biases: FloatArray | None,
    ) -> Head:
        """Return a copy in which the rows (and biases) of ``classes`` are replaced."""
        weight = self.weight.copy()
        weight[classes] = rows
        bias = self.bias
        if biases is not None:
            bias = self.bias_or_zeros.copy()
            bias[classes] = biases
        return Head(weight=weight, bias=bias, scale=self.scale, source=self.source)

    def save(
        self,
        path: Path,
        *,
        provenance: dict[str, Any] | None = None,
        overwrite: bool = False,
        like: Path | None = None,
    ) -> None:
        """Write the head as safetensors with the tensors ``weight`` and ``bias``.

        No more people can read it than ``like``, the model's file.
        """
        path = home_path(path)
        tensors = {"weight": self.weight}
        if self.bias is not None:
            tensors["bias"] = self.bias
        metadata = {
            "value": "head",
            "scale": self.scale,
            "source": None if self.source is None else asdict(self.source),
            "provenance": provenance,
        }
        write_tensors(path, tensors, metadata, overwrite=overwrite, like=like)

    @classmethod
    def load(cls, path: Path) -> Head:
        """Read a head that `save` wrote, or any safetensors file with `weight` and `bias`.

        Raises:
            FileFormatError: If the file is damaged or has no tensor ``weight``.
        """
        path = home_path(path)
        tensors, metadata = read_tensors(path)
        if "weight" not in tensors:
            raise FileFormatError(
                f"{path} holds no head",
                got=f"tensors {', '.join(sorted(tensors)) or 'none'}",
                expected='"weight" (C x D) and, if the layer has one, "bias" (C)',
                todo="save the last layer under these names",
            )
        require_arrays(path, tensors, {"weight": "f C D", "bias": "f C"}, optional=("bias",))
        with reading(path, "a head"):
            source = metadata.get("source")
            return cls(
                weight=tensors["weight"],
                bias=tensors.get("bias"),
                scale=typed(FiniteFloat, metadata.get("scale", 1.0), "scale"),
                source=None if source is None else HeadSource.from_dict(source),
            )
