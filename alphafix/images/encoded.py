"""JPEG decoding on the model's device: whole batches by TorchCodec, on a GPU by nvJPEG.

TorchCodec has what torchvision has deprecated since 0.29; where it is not installed, torchvision
does it as before. Workers then only read files. What these decoders may not do as training
loaders do (other formats, CMYK, damaged files) the workers decode with Pillow, as ever.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from alphafix.errors import InputError, option
from alphafix.images.batches import Batch
from alphafix.images.decode import decode
from alphafix.images.source import BadImageError

Transform = Callable[[Image.Image], Tensor]


def is_plain_jpeg(data: bytes) -> bool:
    """Whether a file is a whole JPEG in RGB or grey, of a size that Pillow accepts."""
    if not data.startswith(b"\xff\xd8") or not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return False
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")
            return image.format == "JPEG" and image.mode in ("RGB", "L")
    except Exception:  # Pillow's errors are of many types; `decode` says what is wrong
        return False


@dataclass(frozen=True)
class DeviceDecoder:
    """Decodes the JPEG files of a batch on a device.

    Attributes:
        device: Where.
        geometry: Maps a decoded 3 x height x width uint8 tensor to the model's size.
        transform: What Pillow's images go through instead.
    """

    device: torch.device
    geometry: Callable[[Tensor], Tensor]
    transform: Transform

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with its images decoded, those that cannot be among the bad."""
        if not isinstance(batch.images, list):
            return batch
        pixels = self._decode([image for image in batch.images if image.ndim == 1])
        images: list[Tensor] = []
        kept: list[int] = []
        bad = list(batch.bad)
        for index, image in enumerate(batch.images):
            found = next(pixels) if image.ndim == 1 else image
            if isinstance(found, BadImageError):
                bad.append((batch.ids[index], str(found)))
                continue
            images.append(found.to(self.device, non_blocking=True))
            kept.append(index)
        return batch._replace(
            images=torch.stack(images) if images else None,
            labels=batch.labels[kept],
            ids=[batch.ids[index] for index in kept],
            bad=bad,
        )

    def _decode(self, encoded: list[Tensor]) -> Iterator[Tensor | BadImageError]:
        decoder = batch_decoder(self.device) if encoded else None
        if decoder is not None:
            with contextlib.suppress(RuntimeError):  # one file; which one it does not say
                return iter([self.geometry(image) for image in decoder(encoded, self.device)])
        return iter([self._decode_alone(data) for data in encoded])

    def _decode_alone(self, data: Tensor) -> Tensor | BadImageError:
        try:
            return self.transform(decode(data.numpy().tobytes()))
        except BadImageError as error:
            return error


BatchDecoder = Callable[[list[Tensor], torch.device], list[Tensor]]
"""JPEG files, uint8 of one axis on the CPU -> 3 x height x width uint8 tensors on a device."""


@functools.cache
def batch_decoder(device: torch.device) -> BatchDecoder | None:
    """TorchCodec's decoder, or torchvision's; the first that decodes an image on the device.

    A package may be there and its libraries not, or be built for another version of torch or
    without CUDA, which only decoding shows. Then every batch would be left to one core.
    """
    probe = io.BytesIO()
    Image.new("RGB", (16, 16)).save(probe, "JPEG")
    files = [torch.frombuffer(bytearray(probe.getvalue()), dtype=torch.uint8)]
    for maker in (torchcodec_decoder, torchvision_decoder):
        with contextlib.suppress(ImportError, OSError, RuntimeError):
            decoder = maker()
            decoder(files, device)
            return decoder
    return None


def torchcodec_decoder() -> BatchDecoder:
    """That of TorchCodec (0.16 or later).

    Raises:
        ImportError: If it is not installed.
        OSError: If its libraries cannot be loaded.
        RuntimeError: The same.
    """
    from torchcodec.decoders import decode_jpeg

    def decode(files: list[Tensor], device: torch.device) -> list[Tensor]:
        found: list[Tensor] = decode_jpeg(files, mode="RGB", device=device)
        return found

    return decode


def torchvision_decoder() -> BatchDecoder:
    """That of torchvision."""
    from torchvision.io import ImageReadMode, decode_jpeg

    def decode(files: list[Tensor], device: torch.device) -> list[Tensor]:
        found: list[Tensor] = decode_jpeg(files, mode=ImageReadMode.RGB, device=device)
        return found

    return decode


def choose_decoder(wanted: str, device: torch.device, *, exif_rotate: bool) -> str:
    """Resolve "auto": "torch" on a GPU on which JPEG files can be decoded, Pillow elsewhere."""
    if wanted != "auto":
        return wanted
    can = device.type == "cuda" and not exif_rotate and batch_decoder(device) is not None
    return "torch" if can else "pillow"


def device_decoder(
    wanted: str,
    device: torch.device,
    geometry: Callable[[Tensor], Tensor] | None,
    transform: Transform,
    *,
    exif_rotate: bool,
) -> DeviceDecoder | None:
    """The decoder of a model; None where Pillow decodes in the loading processes.

    Args:
        wanted: "auto", "pillow" or "torch".
        device: The model's device.
        geometry: See `DeviceDecoder`; None where the model's transform has no such form.
        transform: The model's transform of an image.
        exif_rotate: Whether images are turned as their EXIF data says, which Pillow alone does.

    Raises:
        InputError: If "torch" is asked for and cannot do it.
    """
    if choose_decoder(wanted, device, exif_rotate=exif_rotate) == "pillow":
        return None
    if batch_decoder(device) is None:
        raise InputError(
            f"{option('decode', 'torch')} needs a package that decodes JPEG files on {device}",
            got="neither TorchCodec nor torchvision does it here",
            expected="one of them, built for this torch and device",
            todo=f"pip install 'alphafix[gpu]', or leave {option('decode')} out",
        )
    if geometry is not None and not exif_rotate:
        return DeviceDecoder(device, geometry, transform)
    if wanted == "auto":
        return None
    raise InputError(
        f"{option('decode', 'torch')} cannot do this model's transform",
        got=option("exif_rotate", True) if exif_rotate else "a transform of its own",
        expected="scaling of the shorter side and a crop of the centre",
        todo=f"leave {option('decode')} out",
    )
