"""A command writes in its own place: out of no run directory, and over nothing that is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydantic import BaseModel
from safetensors.numpy import save_file
from typer.testing import CliRunner

from alphafix.commands import COMMANDS
from alphafix.commands.app import app
from alphafix.commands.command import Command
from alphafix.errors import FileFormatError
from alphafix.features.store import FeatureStore
from alphafix.files import read_json, write_json
from tests.common import make_problem, write_run
from tests.processes import contents

# Options that hold a path to be read. All others are declared as outputs.
READ = {
    "backbone", "data", "weights", "class_map", "root", "features", "head", "class_names", "model",
    "groups", "open", "correction", "apply", "source", "verify", "open_data", "counts",
    "pretrained", "first_stage", "run", "run_directory", "prefix_map", "check",
}  # fmt: skip


def takes_path(model: type[BaseModel], name: str) -> bool:
    return "Path" in str(model.model_fields[name].annotation)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with all results, and a model."""
    folder = tmp_path_factory.mktemp("whole")
    problem = make_problem()
    write_run(folder / "run", problem)
    tensors = {"fc.weight": problem.head.weight, "fc.bias": problem.head.bias_or_zeros}
    save_file(tensors, folder / "model.safetensors")
    for words in (["neighbors", "-k", "3"], ["train", "--seeds", "1", "--epochs", "5"]):
        assert CliRunner().invoke(app, [*words, "--run", str(folder / "run")]).exit_code == 0
    return folder


@pytest.fixture
def work(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working directory."""
    shutil.copytree(whole, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_options__that_name_a_path_are_declared_as_read_or_written() -> None:
    for command in COMMANDS.values():
        outputs = command.options.outputs()
        for name in command.options.model_fields:
            if takes_path(command.options, name) and name not in READ:
                assert name in outputs or (command.name, name) in {
                    ("patch", "file"),  # the model, which --in-place changes: it has an undo record
                    ("fix", "file"),
                    ("features import", "file"),
                    ("features merge", "parts"),
                    ("inspect", "file"),
                    ("run", "file"),
                }, (command.name, name)


OUTPUTS = [
    (command, name)
    for command in COMMANDS.values()
    for name in command.options.outputs()
    if "run" in command.options.model_fields and command.name not in ("import", "demo")
]


@pytest.mark.parametrize(("command", "name"), OUTPUTS, ids=lambda item: getattr(item, "name", item))
@pytest.mark.parametrize(
    "target",
    [
        "run/classes.json",
        "run/features/test/manifest.json",
        "run/features/train/00000.safetensors",
        "run/../run/head.safetensors",
        "alias/report.json",
        "link.json",
    ],
)
def test_output__over_a_result_of_the_run_is_refused(
    command: Command, name: str, target: str, work: Path
) -> None:
    (work / "alias").symlink_to("run")
    (work / "link.json").symlink_to("run/classes.json")
    before = contents(work)
    flags = command.options.model_fields[name].json_schema_extra
    assert isinstance(flags, dict)
    words = [*command.name.split(), "--run", "run", "--overwrite"]
    words += ["model.safetensors"] if command.name in ("patch", "fix") else []
    words += ["--backbone", "timm:resnet18", "--data", "data"] if command.name == "fix" else []
    words += [target] if flags["argument"] else [f"--{name.replace('_', '-')}", target]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "would write over what is read" in done.stderr
    assert contents(work) == before


@pytest.mark.parametrize(
    "words",
    [
        ["patch", "model.safetensors", "--card", "model.safetensors"],
        ["patch", "model.safetensors", "--delta", "-o", "model.safetensors"],
        ["patch", "model.safetensors", "--correction", "c.safetensors", "-o", "c.safetensors"],
        ["evaluate", "--groups", "groups.json", "--markdown", "groups.json"],
        ["evaluate", "--groups", "groups.json", "--junit", "./groups.json"],
        ["neighbors", "--features", "train=f.npz", "--head", "h.npz", "--csv", "f.npz"],
    ],
)
def test_output__over_an_input_of_the_command_is_refused(words: list[str], work: Path) -> None:
    shutil.copy("run/alphanet.safetensors", "c.safetensors")
    for name in ("groups.json", "f.npz", "h.npz"):
        Path(name).write_bytes(b"{}")
    before = contents(work)
    done = CliRunner().invoke(app, [*words, "--run", "run", "--overwrite"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "would write over what is read" in done.stderr
    assert contents(work) == before


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("report", ["report"]),
        ("report/figures", ["report"]),
        ("unfinished-trials", ["train", "--overwrite", "--seeds", "1", "--epochs", "6"]),
        ("made", ["report"]),
        ("features", ["neighbors", "--overwrite", "-k", "2"]),
        ("features/test", ["evaluate"]),
        ("tensorboard", ["train", "--overwrite"]),
    ],
)
def test_link__out_of_the_run_directory_is_refused(
    place: str, words: list[str], work: Path
) -> None:
    path = work / "run" / place
    (work / "outside").mkdir()
    if path.exists():
        shutil.rmtree(work / "outside")
        shutil.move(path, work / "outside")
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(work / "outside")
    before = contents(work)
    done = CliRunner().invoke(app, [*words, "--run", "run"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "leads out of the run directory" in done.stderr
    assert contents(work) == before


def test_link__to_a_run_directory_and_within_it_is_followed(work: Path) -> None:
    shutil.move("run", "elsewhere")
    Path("run").symlink_to("elsewhere")
    Path("elsewhere/features/open").symlink_to("test")
    done = CliRunner().invoke(app, ["evaluate", "--run", "run"])
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("name", ["../train/00000.safetensors", "/tmp/x.safetensors", "..", "a\0"])
def test_store__whose_manifest_names_a_file_elsewhere_is_refused(name: str, work: Path) -> None:
    folder = work / "run/features/test"
    manifest = read_json(folder / "manifest.json")
    manifest["shards"][0]["file"] = name
    write_json(folder / "manifest.json", manifest, overwrite=True)
    with pytest.raises(FileFormatError, match="names a shard outside"):
        FeatureStore.open(folder)
    done = CliRunner().invoke(app, ["evaluate", "--run", "run"])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")


def test_store__with_a_shard_that_is_a_link_elsewhere_is_refused(work: Path) -> None:
    shard = work / "run/features/test/00000.safetensors"
    shutil.move(shard, work / "moved.safetensors")
    shard.symlink_to(work / "moved.safetensors")
    with pytest.raises(FileFormatError, match="a link that leads out"):
        FeatureStore.open(shard.parent)
