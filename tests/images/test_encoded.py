"""JPEG files that are decoded on the model's device, and those that are not."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from alphafix.errors import InputError
from alphafix.images import encoded as encoded_images
from alphafix.images.batches import Batch, BatchDataset, BatchKey
from alphafix.images.decode import decode
from alphafix.images.encoded import (
    BatchDecoder,
    DeviceDecoder,
    batch_decoder,
    choose_decoder,
    device_decoder,
    is_plain_jpeg,
    torchcodec_decoder,
    torchvision_decoder,
)
from alphafix.images.fingerprints import Fingerprint
from alphafix.images.source import ImageSource, Sample
from alphafix.models.preprocess import ResizeCrop
from tests.devices import on_each_device


def smooth(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    data = io.BytesIO()
    image.save(data, kind)
    return data.getvalue()


class Files(ImageSource):
    """Encoded images."""

    def __init__(self, files: list[bytes]) -> None:
        self.encoded = files

    def size(self, group: int) -> int:
        return len(self.encoded)

    def sample(self, group: int, index: int) -> Sample:
        return Sample(str(index), index, self.encoded[index])

    def fingerprint(self) -> Fingerprint:
        return Fingerprint("")


GEOMETRY = ResizeCrop(40, (32, 32), "bicubic")


def load(files: list[bytes], device: str = "cpu") -> tuple[Batch, Batch]:
    """The batch as the workers make it, and as the device's decoder finishes it."""
    dataset = BatchDataset(Files(files), GEOMETRY, keep_encoded=is_plain_jpeg)
    batch = dataset[BatchKey(0, 0, len(files))]
    return batch, DeviceDecoder(torch.device(device), GEOMETRY.on_tensor, GEOMETRY)(batch)


@on_each_device
def test_device_decoder__gives_about_what_pillow_gives(device: str) -> None:
    images = [smooth(90, 60), smooth(50, 70), smooth(40, 40).convert("L"), smooth(64, 64)]
    files = [encoded(image) for image in images[:3]] + [encoded(images[3], "PNG")]
    batch, found = load(files, device)
    assert isinstance(batch.images, list)
    assert [image.ndim for image in batch.images] == [1, 1, 1, 3]  # the PNG is Pillow's
    assert isinstance(found.images, torch.Tensor)
    assert found.ids == ["0", "1", "2", "3"]
    for file, image in zip(files, found.images, strict=True):
        difference = (GEOMETRY(decode(file)).int() - image.cpu().int()).abs()
        assert difference.float().mean() < 1
        assert difference.max() <= 6


@on_each_device
@pytest.mark.parametrize("make", [torchcodec_decoder, torchvision_decoder])
def test_batch_decoder__of_either_package_gives_what_pillow_gives(
    make: Callable[[], BatchDecoder], device: str
) -> None:
    if make is torchcodec_decoder:
        pytest.importorskip("torchcodec")
    files = [encoded(smooth(90, 60)), encoded(smooth(40, 50).convert("L"))]
    given = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    for file, image in zip(files, make()(given, torch.device(device)), strict=True):
        assert image.device.type == device
        expected = torch.from_numpy(np.array(decode(file).convert("RGB"))).permute(2, 0, 1)
        assert (expected.int() - image.cpu().int()).abs().max() <= 6


@on_each_device
@pytest.mark.parametrize("damage", ["truncated", "cmyk", "scrambled"])
def test_device_decoder__leaves_damaged_and_odd_files_to_pillow(damage: str, device: str) -> None:
    good = encoded(smooth(60, 60))
    other = {
        "truncated": good[: len(good) // 2],
        "cmyk": encoded(smooth(60, 60).convert("CMYK")),
        # Whole by its first and last bytes, nonsense in between.
        "scrambled": good[:2] + b"\xff\xd9" * 40,
    }[damage]
    assert not is_plain_jpeg(other)
    _, found = load([good, other, good], device)
    fine = ["0", "1", "2"] if damage == "cmyk" else ["0", "2"]
    assert found.ids == fine
    assert found.labels.tolist() == [int(name) for name in fine]
    assert [name for name, _ in found.bad] == ([] if damage == "cmyk" else ["1"])


@on_each_device
def test_device_decoder__a_file_that_fails_there_costs_only_itself(device: str) -> None:
    good = encoded(smooth(60, 60))
    dataset = BatchDataset(Files([good, good]), GEOMETRY, keep_encoded=is_plain_jpeg)
    batch = dataset[BatchKey(0, 0, 2)]
    assert isinstance(batch.images, list)
    # What passed the workers' look at the header may still fail in the decoder.
    batch.images[1] = batch.images[1][:200].clone()
    found = DeviceDecoder(torch.device(device), GEOMETRY.on_tensor, GEOMETRY)(batch)
    assert found.ids == ["0"]
    assert [name for name, _ in found.bad] == ["1"]


@on_each_device
def test_batch__without_a_file_to_decode_is_one_tensor(device: str) -> None:
    """So that it needs one copy to the device, for which nothing there has to wait."""
    files = [encoded(smooth(64, 64), "PNG"), b"nothing", encoded(smooth(50, 50), "PNG")]
    batch, found = load(files, device)
    assert isinstance(batch.images, torch.Tensor)
    assert found is batch
    assert batch.ids == ["0", "2"]
    assert [name for name, _ in batch.bad] == ["1"]
    empty, _ = load([b"nothing"], device)
    assert empty.images is None


def broken_decoder() -> BatchDecoder:
    """As of a package that is there, and built without what the device needs."""

    def decode_none(files: list[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
        raise RuntimeError("not compiled with CUDA support")

    return decode_none


@pytest.fixture
def no_decoder_kept() -> Iterator[None]:
    """Which decoder works is found anew, here and after."""
    batch_decoder.cache_clear()
    yield
    batch_decoder.cache_clear()


@pytest.mark.usefixtures("no_decoder_kept")
def test_batch_decoder__is_one_that_decodes_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_images, "torchcodec_decoder", broken_decoder)
    files = [encoded(smooth(64, 64))] * 2
    _, found = load(files)
    assert batch_decoder(torch.device("cpu")) is not None  # torchvision's
    assert found.ids == ["0", "1"]


@pytest.mark.usefixtures("no_decoder_kept")
def test_batch_decoder__where_none_decodes_torch_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("torchcodec_decoder", "torchvision_decoder"):
        monkeypatch.setattr(encoded_images, name, broken_decoder)
    device = torch.device("cpu")
    assert batch_decoder(device) is None
    with pytest.raises(InputError, match="decode"):
        device_decoder("torch", device, GEOMETRY.on_tensor, GEOMETRY, exif_rotate=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_choose_decoder__auto_is_pillow_where_nothing_decodes_on_the_gpu() -> None:
    assert choose_decoder("auto", torch.device("cuda"), exif_rotate=False) == "pillow"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_choose_decoder__auto_is_torch_on_a_gpu() -> None:
    assert choose_decoder("auto", torch.device("cuda"), exif_rotate=False) == "torch"
