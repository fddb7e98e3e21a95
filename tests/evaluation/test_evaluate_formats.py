"""Every format that `patch` writes goes into `evaluate --model` as it is.

What it predicts is compared with the library that the format is of, on the same images.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.evaluate.work import measure
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.patch.options import PatchOptions
from alphafix.errors import InputError
from alphafix.features.store import FeatureStore
from alphafix.run.directory import CLASSES, CORRECTION, HEAD, Provenance, Run
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from tests.extract import zoo
from tests.extract.models import NUM_CLASSES, SIZE, Small, SmallNet, small_net
from tests.stages import extract, patch

Logits = Callable[[list[Image.Image]], FloatArray]


def write_images(folder: Path) -> list[Path]:
    """Two frequent classes and a rare one; the test images, in order."""
    rng = np.random.default_rng(0)
    for split, counts in (("train", (3, 30, 30)), ("test", (5, 5, 5))):
        for name, count in zip(("ant", "bee", "cow"), counts, strict=True):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return sorted((folder / "test").rglob("*.png"))


def corrected(run: Run) -> None:
    """A correction that gives about half of the test images to the rare class."""
    head, classes = Head.load(run.path(HEAD)), ClassTable.load(run.path(CLASSES))
    features = FeatureStore.open(run.features("test")).array()
    center = features.mean(axis=0)
    tilt = np.linalg.svd(features - center, full_matrices=False)[2][:1].astype(np.float32)
    tilt *= 20 * np.abs(head.weight).max()
    Correction(
        classes.few,
        head.weight[1:2] + tilt,
        head.bias_or_zeros[1:2] - tilt @ center,
        provenance=Provenance(
            "train", {}, run.hashes(CLASSES, HEAD, run.manifest("train"))
        ).to_dict(),
    ).save(run.path(CORRECTION))


@dataclass(frozen=True)
class Case:
    """A model as it is extracted, the file that is patched, and who reads the patched file.

    Attributes:
        options: What `extract` needs to know.
        file: What is patched: the model's own file, or an export of it.
        read: From the patched file to the logits of images, by the library alone.
        output: Where the patched file is to be, or None for beside the original.
    """

    options: dict[str, Any]
    file: Path
    read: Callable[[Path], Logits]
    output: Path | None = None


def _answer(model: Any, transform: Callable[[Image.Image], torch.Tensor]) -> Logits:
    def logits(images: list[Image.Image]) -> FloatArray:
        with torch.inference_mode():
            found = model.eval()(torch.stack([transform(image) for image in images]))
        return np.asarray(getattr(found, "logits", found))

    return logits


def timm_case(folder: Path) -> Case:
    import timm
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    animal = zoo.timm_model(folder)

    def read(file: Path) -> Logits:
        model = timm.create_model("test_convnext", num_classes=NUM_CLASSES)
        model.load_state_dict(load_file(file))
        resolve: Any = resolve_data_config
        return _answer(model, create_transform(**resolve({"img_size": 32}, model=model)))

    return Case(animal.options, animal.options["weights"], read)


def torch_case(folder: Path) -> Case:
    torch.manual_seed(0)
    path = folder / "python.pth"
    torch.save({"model_state_dict": small_net().state_dict(), "epoch": 3}, path)

    def read(file: Path) -> Logits:
        model = small_net()
        model.load_state_dict(torch.load(file, weights_only=True)["model_state_dict"])
        return _answer(model, Small())

    return Case({"backbone": "python:tests.extract.models:small_net", "weights": path}, path, read)


def torchvision_case(folder: Path) -> Case:
    """A file that torch wrote before it wrote zip archives, from a model under DDP."""
    from torchvision import models

    animal = zoo.torchvision_model(folder)
    path = animal.options["weights"]
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)

    def read(file: Path) -> Logits:
        model = models.get_model("shufflenet_v2_x0_5", num_classes=NUM_CLASSES)
        state = torch.load(file, weights_only=True)["state_dict"]
        model.load_state_dict({name.removeprefix("module."): t for name, t in state.items()})
        return _answer(model, zoo.torchvision_transform())

    return Case(animal.options, path, read)


def local_dir_case(folder: Path) -> Case:
    """A folder as timm's `save_for_hf` writes it; the copy takes the file's place in another."""
    import timm
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform
    from timm.models._hub import save_for_hf

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=NUM_CLASSES, global_pool="max")
    save_for_hf(
        model, str(folder / "hub"), model_args={"global_pool": "max"}, safe_serialization=True
    )

    def read(file: Path) -> Logits:
        again = folder / "again"
        shutil.copytree(folder / "hub", again)
        shutil.copyfile(file, again / "model.safetensors")
        loaded: Any = timm.create_model(f"local-dir:{again}", pretrained=True)
        resolve: Any = resolve_data_config
        return _answer(loaded, create_transform(**resolve({}, model=loaded)))

    options = {"backbone": f"timm:local-dir:{folder / 'hub'}"}
    return Case(options, folder / "hub" / "model.safetensors", read)


def _transformers_answer(folder: Path) -> Logits:
    import transformers

    load: Any = transformers.AutoModelForImageClassification.from_pretrained
    processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]

    def transform(image: Image.Image) -> torch.Tensor:
        return torch.as_tensor(processor(images=image, return_tensors="pt")["pixel_values"])[0]

    return _answer(load(folder), transform)


def transformers_case(folder: Path) -> Case:
    animal = zoo.transformers_model(folder)

    def read(file: Path) -> Logits:
        again = folder / "again"
        shutil.copytree(folder / "hf", again)
        shutil.copyfile(file, again / "model.safetensors")
        return _transformers_answer(again)

    return Case(animal.options, folder / "hf" / "model.safetensors", read)


def transformers_bin_case(folder: Path) -> Case:
    """A folder of the time before safetensors: pytorch_model.bin."""
    animal, path = zoo.transformers_model(folder), folder / "hf"
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()

    def read(file: Path) -> Logits:
        shutil.copyfile(file, path / "pytorch_model.bin")
        return _transformers_answer(path)

    return Case(animal.options, path / "pytorch_model.bin", read)


def sharded_case(folder: Path) -> Case:
    import transformers

    animal, path = zoo.transformers_model(folder), folder / "hf"
    model = transformers.AutoModelForImageClassification.from_pretrained(path)
    (path / "model.safetensors").unlink()
    model.save_pretrained(path, max_shard_size="8KB")
    assert (path / "model.safetensors.index.json").is_file()
    return Case(
        animal.options,
        path,
        lambda file: _transformers_answer(file.parent),
        output=folder / "copy",
    )


def torchscript_case(folder: Path) -> Case:
    animal = zoo.torchscript_model(folder)
    load: Any = torch.jit.load
    return Case(animal.options, folder / "model.ts", lambda file: _answer(load(file), Small()))


def _onnx_answer(file: Path, transform: Callable[[Image.Image], torch.Tensor]) -> Logits:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def logits(images: list[Image.Image]) -> FloatArray:
        batch = np.stack([transform(image).numpy() for image in images])
        return np.asarray(session.run(None, {name: batch})[0])

    return logits


def onnx_case(folder: Path) -> Case:
    animal = zoo.onnx_model(folder)
    return Case(animal.options, folder / "model.onnx", lambda file: _onnx_answer(file, Small()))


def external_case(folder: Path) -> Case:
    """An ONNX file whose weights are in another file beside it."""
    animal, path = zoo.onnx_model(folder), folder / "big.onnx"
    import onnx

    onnx.save_model(
        onnx.load(folder / "model.onnx"),
        path,
        save_as_external_data=True,
        location="big.onnx.data",
        size_threshold=64,  # onnxruntime wants axes in the graph
    )
    options = {**animal.options, "backbone": f"onnx:{path}"}
    return Case(options, path, lambda file: _onnx_answer(file, Small()), output=folder / "copy")


def _script(model: torch.nn.Module, path: Path) -> Path:
    trace: Any = torch.jit.trace
    torch.jit.save(trace(model.eval(), torch.zeros(2, 3, SIZE, SIZE)), path)
    return path


def exported_case(folder: Path) -> Case:
    """Extracted from the weights, deployed as ONNX."""
    case, path = torch_case(folder), folder / "deployed.onnx"
    model = small_net()
    model.load_state_dict(torch.load(case.file, weights_only=True)["model_state_dict"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (torch.zeros(2, 3, SIZE, SIZE),),
            path,
            dynamo=False,
            dynamic_axes={"x": {0: "n"}},
            input_names=["x"],
        )
    return Case(case.options, path, lambda file: _onnx_answer(file, Small()))


def scripted_case(folder: Path) -> Case:
    """Extracted from the weights, deployed as TorchScript."""
    case = torch_case(folder)
    model = SmallNet()
    model.load_state_dict(torch.load(case.file, weights_only=True)["model_state_dict"])
    path, load = _script(model, folder / "deployed.ts"), torch.jit.load
    return Case(case.options, path, lambda file: _answer(load(file), Small()))  # type: ignore[no-untyped-call]


def frozen_case(folder: Path) -> Case:
    """TorchScript whose weights are constants."""
    torch.manual_seed(0)
    path, load = folder / "frozen.ts", torch.jit.load
    trace: Any = torch.jit.trace
    traced = trace(SmallNet().eval(), torch.zeros(2, 3, SIZE, SIZE))
    torch.jit.save(torch.jit.freeze(traced), path)
    options = {"backbone": f"torchscript:{path}", **zoo._FLAGS}
    return Case(options, path, lambda file: _answer(load(file), Small()))  # type: ignore[no-untyped-call]


CASES = {
    "torchscript, frozen": frozen_case,
    "safetensors": timm_case,
    "torch": torch_case,
    "transformers": transformers_case,
    "torch, before zip archives": torchvision_case,
    "timm, a folder": local_dir_case,
    "transformers, sharded": sharded_case,
    "transformers, bin": transformers_bin_case,
    "torchscript": torchscript_case,
    "onnx": onnx_case,
    "onnx, external data": external_case,
    "onnx of weights": exported_case,
    "torchscript of weights": scripted_case,
}

SLOW = ("onnx", "transformers")


def predicted(run: Path, model: Path, **options: Any) -> IntArray:
    """What `evaluate --model` says, in the order of the images' paths."""
    given = EvaluateOptions(run=run, model=model, bootstraps=100, **options)
    found = measure(given)
    order = np.argsort(found.store.ids)
    assert (found.both.before.predicted != found.both.after.predicted).any()
    return found.both.after.predicted[order]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in CASES],
)
def test_evaluate__takes_what_patch_has_written(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_images(tmp_path / "data")
    (tmp_path / "model").mkdir()
    made = CASES[case](tmp_path / "model")
    run = Run(tmp_path / "run")
    data = str(tmp_path / "data")
    extract(ExtractOptions(run=run.folder, data=data, workers=0, **made.options))
    corrected(run)
    target = patch(PatchOptions(run=run.folder, file=made.file, output=made.output)).target
    monkeypatch.chdir(tmp_path)  # nothing but the file says where the model is

    # Code of the user's own is run on the user's word alone; every other model needs none.
    backbone = str(made.options["backbone"])
    trusted = {"trust_run": True} if backbone.startswith("python:") else {}
    found = predicted(run.folder, target, **trusted)

    expected = made.read(target)([Image.open(file).convert("RGB") for file in files])
    np.testing.assert_array_equal(found, expected.argmax(axis=1))


def test_evaluate__takes_what_is_exported_again_from_a_patched_file(tmp_path: Path) -> None:
    """A .pt2 file cannot be patched: its weights are, and it is exported anew."""
    files = write_images(tmp_path / "data")
    (tmp_path / "model").mkdir()
    made, run = torch_case(tmp_path / "model"), Run(tmp_path / "run")
    extract(ExtractOptions(run=run.folder, data=str(tmp_path / "data"), workers=0, **made.options))
    corrected(run)
    batch = torch.export.Dim("batch", min=1, max=1024)

    def export(weights: Path, path: Path) -> Path:
        model = SmallNet()
        model.load_state_dict(torch.load(weights, weights_only=True)["model_state_dict"])
        inputs = (torch.zeros(2, 3, SIZE, SIZE),)
        program = torch.export.export(model.eval(), inputs, dynamic_shapes=({0: batch},))
        torch.export.save(program, path)
        return path

    before = export(made.file, tmp_path / "before.pt2")
    with pytest.raises(InputError, match="patch the weights, and export the model again"):
        patch(PatchOptions(run=run.folder, file=before))
    target = patch(PatchOptions(run=run.folder, file=made.file)).target
    found = predicted(run.folder, export(target, tmp_path / "after.pt2"), trust_run=True)
    answers = made.read(target)([Image.open(file).convert("RGB") for file in files])
    np.testing.assert_array_equal(found, answers.argmax(axis=1))


def test_evaluate__graph_of_another_kind_than_the_features(tmp_path: Path) -> None:
    """The file that is named is what runs, whatever the features were made with."""
    write_images(tmp_path / "data")
    (tmp_path / "model").mkdir()
    made, run = onnx_case(tmp_path / "model"), Run(tmp_path / "run")
    extract(ExtractOptions(run=run.folder, data=str(tmp_path / "data"), workers=0, **made.options))
    corrected(run)
    (tmp_path / "model.txt").write_text("no model")
    with pytest.raises(InputError, match="no model file"):
        predicted(run.folder, tmp_path / "model.txt")
