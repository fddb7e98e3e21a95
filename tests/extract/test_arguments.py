"""What weights do not tell: arguments of the model, and the user's own answers for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models._hub import load_model_config_from_path, save_for_hf
from torch import nn
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.extract.options import ExtractOptions
from alphafix.errors import FileFormatError, InputError, TargetExistsError
from alphafix.features.store import FeatureStore
from alphafix.metrics.mcnemar import mcnemar
from alphafix.models.arguments import arguments, written
from alphafix.models.libraries import timm_preprocess, torchvision_classifier
from alphafix.models.loading import load_classifier
from alphafix.models.model import Wanted
from alphafix.models.preprocess import Overrides
from alphafix.models.variants import Tried, _beyond_doubt
from alphafix.values.arrays import FloatArray
from tests.extract import models
from tests.extract.models import NUM_CLASSES, Small
from tests.extract.photos import CLASSES, Photos, write_folders
from tests.stages import extract


def test_arguments__are_read_as_python_or_json_writes_them() -> None:
    given = ("global_pool=max", "img_size=384", "a=true", "b=None", "c=[1, 2]", 'd="x"', "e=1e-6")
    found = arguments(given)
    assert found == {
        "global_pool": "max",
        "img_size": 384,
        "a": True,
        "b": None,
        "c": [1, 2],
        "d": "x",
        "e": 1e-6,
    }
    assert arguments(written(found)) == found
    for wrong in (("a",), ("=1",), ("a=1", "a=2")):
        with pytest.raises(InputError, match="model_arg= is not understood"):
            arguments(wrong)


def made(path: Path, name: str, classes: int = NUM_CLASSES, **args: Any) -> nn.Module:
    """A timm model in evaluation mode, with its weights saved."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=classes, **args)
    save_file(model.state_dict(), path)
    return model.eval()


def logits(model: nn.Module, **changes: int) -> tuple[torch.Tensor, FloatArray]:
    images = torch.randn(2, changes.get("channels", 3), *(changes.get("side", 64),) * 2)
    with torch.inference_mode():
        return images, model(images).numpy()


TIMM: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "pooling": ("test_resnet", {"global_pool": "max"}, {}),
    "size": ("test_vit", {"img_size": 64}, {}),
    "channels": ("test_resnet", {"in_chans": 1}, {"channels": 1}),
    "norm": ("test_vit", {"global_pool": "avg", "img_size": 64}, {}),
}


@pytest.mark.parametrize("case", TIMM)
def test_timm__arguments_make_the_users_own_model(case: str, tmp_path: Path) -> None:
    name, args, changes = TIMM[case]
    path = tmp_path / "model.safetensors"
    images, expected = logits(made(path, name, **args), **changes)
    channels = changes.get("channels", 3)
    overrides = Overrides(mean=(0.5,) * channels, std=(0.5,) * channels)

    found = load_classifier(f"timm:{name}", path, overrides, args=args)

    with torch.inference_mode():
        np.testing.assert_allclose(found.module(images).numpy(), expected, atol=1e-5)
    assert found.preprocess.record["input_size"][0] == channels
    if "img_size" in args:
        assert found.preprocess.record["input_size"][1] == args["img_size"]
    if case != "pooling":  # of which nothing is to be seen in the weights
        with pytest.raises(InputError, match=f"model_arg='{next(reversed(args))}"):
            load_classifier(f"timm:{name}", path, overrides)


def test_timm__says_which_pooling_it_takes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.safetensors"
    made(path, "test_resnet")
    with caplog.at_level("INFO", "alphafix"):
        load_classifier("timm:test_resnet", path, Overrides())
    assert "pools with 'avg'" in caplog.text


def test_timm__a_config_beside_the_weights_is_read(tmp_path: Path) -> None:
    """As timm's save_for_hf leaves it."""
    path = tmp_path / "model.safetensors"
    images, expected = logits(made(path, "test_resnet", global_pool="max"))
    config = {
        "architecture": "test_resnet",
        "model_args": {"global_pool": "max"},
        "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "input_size": [3, 48, 48]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = load_classifier("timm:test_resnet", path, Overrides())
    with torch.inference_mode():
        np.testing.assert_allclose(found.module(images).numpy(), expected, atol=1e-5)
    assert found.preprocess.record["mean"] == [0.1, 0.2, 0.3]
    assert found.preprocess.record["input_size"] == [3, 48, 48]


def test_timm__argument_that_it_does_not_take(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    made(path, "test_resnet")
    with pytest.raises(InputError, match=r"(?s)cannot be made with these.*no_such"):
        load_classifier("timm:test_resnet", path, Overrides(), args={"no_such": 1})


def test_torchvision__asks_where_weights_fit_two_models(tmp_path: Path) -> None:
    from torchvision import models as zoo

    torch.manual_seed(0)
    net = zoo.googlenet(
        num_classes=NUM_CLASSES, aux_logits=False, init_weights=False, transform_input=True
    ).eval()
    path = tmp_path / "model.safetensors"
    save_file(net.state_dict(), path)
    args: dict[str, Any] = {"aux_logits": False}
    with pytest.raises(InputError, match=r"(?s)compute differently.*model_arg='transform_input"):
        torchvision_classifier(Wanted("torchvision", "googlenet", path, args=args))
    images, expected = logits(net)
    for said in (True, False):
        wanted = Wanted("torchvision", "googlenet", path, args={**args, "transform_input": said})
        with torch.inference_mode():
            found = torchvision_classifier(wanted).module(images).numpy()
        assert np.allclose(found, expected, rtol=1e-5, atol=0) is said


Make = Callable[..., ExtractOptions]


@pytest.fixture
def make(tmp_path: Path, data_spec: Callable[[str], str]) -> Make:
    """Options for a model that pools by its maximum, which its weights do not tell."""
    torch.manual_seed(1)
    save_file(models.pooled("max").state_dict(), tmp_path / "model.safetensors")

    def options(**changes: Any) -> ExtractOptions:
        given: dict[str, Any] = {
            "run": tmp_path / "run",
            "backbone": "python:tests.extract.models:pooled",
            "weights": tmp_path / "model.safetensors",
            "data": data_spec("folders"),
            "workers": 0,
        }
        return ExtractOptions(**{**given, **changes})

    return options


def answers(photos: Photos) -> tuple[list[str], FloatArray, list[int]]:
    """Paths, logits and labels of the validation images, by the user's own code."""
    torch.manual_seed(1)
    net = models.pooled("max").eval()
    with torch.inference_mode():
        found = net(torch.stack([Small()(image) for image, _ in photos["val"]])).numpy()
    labels = [label for _, label in photos["val"]]
    paths = [f"data/val/{CLASSES[label]}/{n:02d}.png" for n, label in enumerate(labels)]
    return paths, found, labels


def _npz(file: Path, paths: list[str], logits: FloatArray, labels: list[int]) -> Path:
    np.savez(file.with_suffix(".npz"), ids=np.array(paths[::-1]), logits=logits[::-1])
    return file.with_suffix(".npz")


def _csv(file: Path, paths: list[str], logits: FloatArray, labels: list[int]) -> Path:
    rows = zip(paths, logits, strict=True)
    lines = [f"{path},{','.join(map(str, row))}" for path, row in rows]
    file = file.with_suffix(".csv")
    file.write_text("\n".join(["path," + ",".join(CLASSES), *lines]))
    return file


def _classes(file: Path, paths: list[str], logits: FloatArray, labels: list[int]) -> Path:
    best = [CLASSES[c] for c in logits.argmax(axis=1)]
    file = file.with_suffix(".json")
    file.write_text(json.dumps({"ids": paths, "predicted": best}))
    return file


def _in_order(file: Path, paths: list[str], logits: FloatArray, labels: list[int]) -> Path:
    file = file.with_suffix(".json")
    file.write_text(json.dumps({"split": "val", "logits": logits[:4].tolist()}))
    return file


def _accuracy(file: Path, paths: list[str], logits: FloatArray, labels: list[int]) -> Path:
    file = file.with_suffix(".json")
    right = float((logits.argmax(axis=1) == labels).mean())
    file.write_text(json.dumps({"accuracy": {"val": 100 * right}}))
    return file


@pytest.mark.parametrize("write", [_npz, _csv, _classes, _in_order, _accuracy])
def test_check__tells_another_model(
    write: Callable[..., Path], make: Make, tmp_path: Path, photos: Photos
) -> None:
    file = write(tmp_path / "answers", *answers(photos))
    if write not in (_accuracy, _classes):  # in which both models are the same, on six images
        with pytest.raises(InputError, match="does not give what your code gave") as raised:
            extract(make(check=file))
        assert "model_arg=" in str(raised.value)
        assert not (tmp_path / "run").exists()
    given = make(check=file, model_arg=("how=max",))
    extract(given)
    extract(given)  # up to date, and checked again
    info = FeatureStore.open(given.run / "features/val").info
    assert info["model_args"] == {"how": "max"}
    assert info["check"]
    with pytest.raises(TargetExistsError, match="model_arg"):
        extract(make(check=file, model_arg=("how=mean",)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"split": "val", "accuracy": 250}', r"accuracy .*% of 6 images, yours 250%"),
        ('{"split": "val", "predicted": ["x", "y"]}', "0 of 2 predicted classes are the same"),
    ],
)
def test_check__other_answers(text: str, message: str, make: Make, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message):
        extract(make(check=tmp_path / "a.json", model_arg=("how=max",)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "does not say what the model gives"),
        ('{"ids": ["a"]}', "names ids"),
        ('{"ids": ["a.png"], "predicted": [1]}', "not in the split"),
        ('{"ids": ["a.png"], "predicted": [1, 2]}', "1 id for 2 images"),
        ('{"split": "test", "predicted": [1]}', "not extracted"),
        ("{", "does not say"),
    ],
)
def test_check__file_that_says_nothing(text: str, message: str, make: Make, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises((InputError, FileFormatError), match=message):
        extract(make(check=tmp_path / "a.json"))
    assert not (tmp_path / "run").exists()


def test_command__takes_arguments_and_answers(make: Make, tmp_path: Path, photos: Photos) -> None:
    given = make()
    file = _npz(tmp_path / "answers", *answers(photos))
    words = ["extract", "--run", given.run, "--backbone", given.backbone, "--workers", "0"]
    words += ["--weights", given.weights, "--data", given.data, "--check", file]
    failed = CliRunner().invoke(app, list(map(str, words)))
    assert failed.exit_code == 1
    assert "--model-arg" in failed.stderr
    done = CliRunner().invoke(app, [*map(str, words), "--model-arg", "how=max"])
    assert done.exit_code == 0
    assert "checked against answers.npz" in done.stderr.replace("\n", " ")


def test_python__flags_say_how_images_are_prepared(
    tmp_path: Path, data_spec: Callable[[str], str], photos: Photos
) -> None:
    """Where the model does not; where it does, they are refused."""
    torch.manual_seed(1)
    net, path = models.no_transform().eval(), tmp_path / "model.safetensors"
    save_file(net.state_dict(), path)
    options = ExtractOptions(
        run=tmp_path / "run",
        backbone="python:tests.extract.models:no_transform",
        weights=path,
        data=data_spec("folders"),
        workers=0,
        image_size=models.SIZE,
        crop_pct=1.0,
        mean=",".join(map(str, models.MEAN)),
        std=",".join(map(str, models.STD)),
    )
    head = extract(options).head
    with torch.inference_mode():
        expected = net(torch.stack([Small()(image) for image, _ in photos["val"]])).numpy()
    found = head.logits(FeatureStore.open(options.run / "features/val").array())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def teach(path: Path, photos: Photos, name: str, **args: Any) -> None:
    """A timm model whose head is right on the training photos, as it pools; its weights saved."""
    net: Any = made(path, name, **args)
    images = torch.stack(
        [torch.from_numpy(np.array(i)).permute(2, 0, 1) for i, _ in photos["train"]]
    )
    labels = torch.tensor([label for _, label in photos["train"]])
    with torch.inference_mode():
        features = net.forward_head(net.forward_features(images / 255), pre_logits=True).double()
        target = torch.nn.functional.one_hot(labels, len(net.get_classifier().weight)).double()
        rows = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        found = torch.linalg.lstsq(rows, target, driver="gelsd").solution.float()
        net.get_classifier().weight.copy_(found[:-1].T)
        net.get_classifier().bias.copy_(found[-1])
    save_file(net.state_dict(), path)


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., ExtractOptions]:
    """Options of an extraction with a model that is right on its training images."""

    def options(name: str, classes: int = NUM_CLASSES, **args: Any) -> ExtractOptions:
        rng = np.random.default_rng(0)
        photos: Photos = {
            "train": [
                (
                    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)),
                    n % classes,
                )
                for n in range(48)
            ]
        }
        write_folders(tmp_path / "data", photos, [f"class {n:02d}" for n in range(classes)])
        teach(tmp_path / "model.safetensors", photos, name, classes=classes, **args)
        return ExtractOptions(
            run=tmp_path / "run",
            backbone=f"timm:{name}",
            weights=tmp_path / "model.safetensors",
            data=str(tmp_path / "data"),
            mean="0,0,0",
            std="1,1,1",
            image_size=64,
            crop_pct=1.0,
            workers=0,
            model_arg=tuple(f"{n}={v}" for n, v in args.items() if n == "img_size"),
        )

    return options


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("test_resnet", {"global_pool": "max"}, ("global_pool=max",)),
        (
            "test_vit",
            {"global_pool": "avg", "fc_norm": False, "img_size": 64},
            ("img_size=64", "global_pool=avg", "fc_norm=False"),
        ),
    ],
)
def test_timm__a_model_that_is_far_better_otherwise_is_a_warning_with_figures(
    name: str,
    args: dict[str, Any],
    said: tuple[str, ...],
    trained: Callable[..., ExtractOptions],
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = trained(name, **args)
    with caplog.at_level("INFO", "alphafix"):
        extract(options)
    assert "far better with another argument" in caplog.text
    assert re.search(r"global_pool=(avg|max)( fc_norm=False)? 100.0%", caplog.text)
    assert f"global_pool={args['global_pool']}" in caplog.text
    again = {"model_arg": said, "overwrite": True}
    found = extract(options.model_copy(update=again))
    assert found.base["train"].accuracy == 1


def test_timm__beyond_doubt_another_model_is_refused_until_it_is_said(
    trained: Callable[..., ExtractOptions],
) -> None:
    options = trained("test_resnet", classes=48, global_pool="max")
    with pytest.raises(InputError, match="with other arguments than the library's") as raised:
        extract(options)
    assert "global_pool=max 100.0%" in str(raised.value)
    assert not options.run.exists()
    for pool, right in (("max", True), ("avg", False)):  # which is the user's word
        said = {"run": options.run.with_name(pool), "model_arg": (f"global_pool={pool}",)}
        assert (extract(options.model_copy(update=said)).base["train"].accuracy == 1) is right


def test_timm__classes_count_and_not_their_images() -> None:
    """Images of a class are alike: a head that is not good yet is right on all of them by luck."""

    def tried(right: list[bool], images: int) -> Tried:
        labels = np.repeat(np.arange(len(right)), images)
        return Tried({}, np.repeat(np.array(right), images), labels)

    few = tried([False] * 12, 20), tried([True] * 12, 20)
    many = tried([False] * 40, 1), tried([True] * 40, 1)
    assert mcnemar(few[0].right, few[1].right).p < 1e-70
    assert not _beyond_doubt(*few)
    assert _beyond_doubt(*many)
    poor = tried([False] * 60, 1), tried([True] * 40 + [False] * 20, 1)
    assert not _beyond_doubt(*poor)  # it is not good as that either
    half = tried([True] * 30 + [False] * 30, 1), tried([False] * 10 + [True] * 50, 1)
    assert not _beyond_doubt(*half)


def test_timm__said_or_plain_it_is_taken_as_it_is(
    trained: Callable[..., ExtractOptions], caplog: pytest.LogCaptureFixture
) -> None:
    options = trained("test_resnet")
    with caplog.at_level("INFO", "alphafix"):
        assert extract(options).base["train"].accuracy == 1
    assert "right with global_pool=avg 100.0%, global_pool=max" in caplog.text
    wrong = {"run": options.run.with_name("other"), "model_arg": ("global_pool=max",)}
    assert extract(options.model_copy(update=wrong)).base["train"].accuracy < 0.9


@pytest.mark.slow
def test_torchvision__each_choice_is_shown_with_its_figure(tmp_path: Path, photos: Photos) -> None:
    from torchvision import models as zoo

    torch.manual_seed(0)
    net = zoo.googlenet(num_classes=NUM_CLASSES, aux_logits=False, init_weights=False)
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    options = ExtractOptions(
        run=tmp_path / "run",
        backbone="torchvision:googlenet",
        weights=tmp_path / "model.safetensors",
        data=write_folders(tmp_path / "data", photos),
        model_arg=("aux_logits=False",),
        image_size=64,
        workers=0,
    )
    figures = {}
    for said in (True, False):
        more = {
            "run": tmp_path / f"{said}",
            "model_arg": (*options.model_arg, f"transform_input={said}"),
        }
        figures[said] = 100 * extract(options.model_copy(update=more)).base["train"].accuracy
    with pytest.raises(InputError) as raised:
        extract(options)
    expected = (
        f"transform_input=True {figures[True]:.1f}%, transform_input=False {figures[False]:.1f}%"
    )
    assert expected in str(raised.value)


@pytest.mark.parametrize("as_dict", [True, False])
@pytest.mark.parametrize("way", ["beside the weights", "local-dir"])
def test_timm__label_names_of_its_own_files_are_compared(
    way: str, as_dict: bool, tmp_path: Path, photos: Photos, caplog: pytest.LogCaptureFixture
) -> None:
    """As timm's own `save_for_hf` writes them; timm itself reads them back."""
    torch.manual_seed(0)
    folder = tmp_path / "model"

    def options(names: tuple[str, ...], run: str) -> ExtractOptions:
        net = timm.create_model("test_resnet", num_classes=NUM_CLASSES)
        given = dict(enumerate(names)) if as_dict else list(names)
        config = {"label_names": given}
        save_for_hf(net, str(folder), model_config=config, safe_serialization=True)
        backbone = f"timm:local-dir:{folder}"
        read = load_model_config_from_path(str(folder))[0]
        assert len(read["label_names"]) == len(names)
        weights = None
        if way == "beside the weights":
            backbone, weights = "timm:test_resnet", folder / "model.safetensors"
        data = write_folders(tmp_path / "data", photos)
        return ExtractOptions(
            run=tmp_path / run, backbone=backbone, weights=weights, data=data, workers=0
        )

    with pytest.raises(InputError, match="another order than the model's own"):
        extract(options(CLASSES[::-1], "wrong"))
    assert not (tmp_path / "wrong").exists()
    with caplog.at_level("INFO", "alphafix"):
        assert extract(options(CLASSES, "right")).classes.names == CLASSES
    assert "the model's own class names: agree" in caplog.text
    spelt = (*CLASSES[:-1], "cows")
    with caplog.at_level("INFO", "alphafix"):
        extract(options(spelt, "spelt"))
    assert "there 'cows'" in caplog.text
    images = tmp_path / "photos.npz"
    np.savez(
        images,
        train_images=np.stack([np.asarray(image) for image, _ in photos["train"]]),
        train_labels=np.array([label for _, label in photos["train"]]),
    )
    ids = options(("x", "y", "z"), "ids").model_copy(update={"data": str(images)})
    assert extract(ids).classes.names == ("x", "y", "z")


def test_timm__better_otherwise_but_poor_is_told_to_look_at_the_transform_first(
    trained: Callable[..., ExtractOptions], caplog: pytest.LogCaptureFixture
) -> None:
    options = trained("test_resnet", classes=12, global_pool="max")
    folders = sorted((Path(options.data) / "train").iterdir())
    files = [(n, file) for n, folder in enumerate(folders) for file in sorted(folder.iterdir())]
    for n, file in (*files[::2], files[1]):  # most images pass for those of another class
        file.rename(folders[n - 1] / f"moved-{file.name}")
    extract(options)
    (said,) = [text for text in caplog.messages if "far better with another argument" in text]
    assert "with neither is it right on half of the images: compare the transform" in said


@pytest.mark.parametrize(("mean", "end"), [(None, "data config"), ((0.5,) * 3, "with changes")])
def test_timm__record_of_the_transform_says_that_flags_changed_it(
    mean: tuple[float, ...] | None, end: str
) -> None:
    wanted = Wanted("timm", "test_resnet", overrides=Overrides(mean=mean))
    assert timm_preprocess(wanted).record["origin"].endswith(end)
