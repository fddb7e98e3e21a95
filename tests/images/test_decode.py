"""Images of every kind that folders of photographs hold."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alphafix.images.decode import decode, is_cut, open_image
from alphafix.images.source import BadImageError


def noise(*shape: int, high: int = 256, dtype: type = np.uint8) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, high, shape).astype(dtype))


def encoded(image: Image.Image, kind: str, **more: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **more)
    return data.getvalue()


def test_decode__truncated_jpeg() -> None:
    data = encoded(noise(64, 64, 3), "JPEG")
    with pytest.raises(BadImageError, match="truncated"):
        decode(data[: len(data) // 2])


def test_decode__zero_bytes() -> None:
    with pytest.raises(BadImageError, match="empty"):
        decode(b"")


def test_decode__text_file_named_jpg(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    with pytest.raises(BadImageError, match=r"no image format.*<html>"):
        decode(tmp_path / "a.jpg")


def test_decode__cmyk_jpeg() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    found = decode(encoded(image, "JPEG", quality=100))
    red, green, blue = np.asarray(found).reshape(-1, 3).mean(axis=0)
    assert found.mode == "RGB"
    assert red > 240
    assert green < 20
    assert blue < 20


def images_of_every_mode() -> dict[str, tuple[Image.Image, str]]:
    """Images and formats that keep their modes."""
    levels = np.linspace(0, 65535, 64).reshape(8, 8)
    palette = noise(8, 8).quantize(7)
    return {
        "I;16 png": (Image.fromarray(levels.astype(np.uint16)), "png"),
        "I;16 tiff": (Image.fromarray(levels.astype(np.uint16)), "tiff"),
        "I pgm": (Image.fromarray(levels.astype(np.uint16)), "ppm"),
        "I tiff": (Image.fromarray(levels.astype(np.int32) - 9), "tiff"),
        "F tiff": (Image.fromarray(levels.astype(np.float32) / 300), "tiff"),
        "F 0..1 tiff": (Image.fromarray(levels.astype(np.float32) / 65535), "tiff"),
        "I of 8 bits": (Image.fromarray((levels / 257).astype(np.int32)), "tiff"),
        "L png": (noise(8, 8), "png"),
        "LA png": (noise(8, 8).convert("LA"), "png"),
        "1 png": (noise(8, 8).convert("1"), "png"),
        "P gif": (palette, "gif"),
        "P png": (palette, "png"),
        "RGBA webp": (noise(8, 8, 4), "webp"),
        "CMYK jpeg": (noise(8, 8, 4).convert("CMYK"), "jpeg"),
    }


@pytest.mark.parametrize("name", images_of_every_mode())
def test_decode__any_mode_is_what_torchvision_makes_of_it(name: str, tmp_path: Path) -> None:
    from torchvision.datasets.folder import pil_loader

    image, ending = images_of_every_mode()[name]
    path = tmp_path / "class" / f"a.{ending}"
    path.parent.mkdir()
    image.save(path, ending)
    found = np.asarray(decode(path))
    assert np.array_equal(found, np.asarray(pil_loader(path)))
    lost = name in ("I;16 png", "I;16 tiff", "I pgm", "I tiff", "F tiff", "F 0..1 tiff")
    assert is_cut(open_image(path)) is lost


def test_decode__palette_with_transparency() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    found = decode(encoded(image, "PNG", transparency=b"\x00\x80"))
    assert found.mode == "RGB"
    assert np.asarray(found).reshape(-1, 3).tolist() == [[10, 200, 30]] * 16


def test_decode__exif_rotation_only_when_asked() -> None:
    image = noise(4, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(image, "PNG", exif=exif)
    assert decode(data).size == (8, 4)
    turned = decode(data, exif_rotate=True)
    assert turned.size == (4, 8)
    assert np.array_equal(np.asarray(turned), np.rot90(np.asarray(image), -1))


def test_decode__animated_gif_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (5, 5), color) for color in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data).getpixel((2, 2)) == (255, 0, 0)


def test_decode__decompression_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (20_000, 10_000)), "PNG")
    with pytest.raises(BadImageError, match="decompression bomb"):
        decode(data)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_decode__unreadable_permissions(open_folder: Path) -> None:
    path = open_folder / "a.png"
    noise(4, 4, 3).save(path)
    path.chmod(0)
    root = os.geteuid() == 0
    if root:  # root may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(BadImageError, match="Permission denied"):
            decode(path)
    finally:
        if root:
            os.seteuid(0)


def test_decode__broken_symlink(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(BadImageError, match="broken link"):
        decode(tmp_path / "a.jpg")


def test_decode__grey_image_from_an_array() -> None:
    found = decode(Image.fromarray(np.full((3, 3), 7, dtype=np.uint8)))
    assert found.getpixel((1, 1)) == (7, 7, 7)
