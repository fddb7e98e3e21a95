"""Every command ends with the next one to type, for the run directory that was used."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from alphafix.commands import COMMANDS
from alphafix.commands.app import app
from alphafix.commands.following import CHAIN, next_command
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.errors import InputError, MissingStageError
from alphafix.features.store import FeatureStore
from alphafix.run.directory import CLASSES, COMPARISON, CORRECTION, HEAD, PAGE, REPORT, Run
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from tests.common import make_problem, write_run
from tests.docs.commands import check_alphafix, in_folder
from tests.stages import find_neighbors, train

# What is done elsewhere than in a run directory, and leads there.
ELSEWHERE: dict[str, dict[str, Any]] = {
    "inspect": {"file": Path("model.safetensors")},
    "make-lt": {"verify": None},
    "train-oltr": {"data": "lists", "root": Path("photos"), "class_map": None},
}
RESULT: Any = SimpleNamespace(
    folder=Path("lists"),
    root=Path("photos"),
    checkpoint=SimpleNamespace(
        format=SimpleNamespace(name="safetensors"), path=Path("model.safetensors")
    ),
)

WEBBROWSER = ["python", "-m", "webbrowser"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Features, neighbours and a correction."""
    run = write_run(tmp_path_factory.mktemp("begun") / "run", make_problem(num_classes=16))
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    train(TrainOptions(run=run.folder, method="few-bias", allow_worse=True))
    return run


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, begun: Run) -> Run:
    """What is there of every stage; whether it is, is all that is looked at."""
    run = Run(tmp_path_factory.mktemp("ended"))
    for path in begun.folder.iterdir():
        (run.folder / path.name).symlink_to(path)
    for name in (REPORT, COMPARISON):
        run.path(name).write_text("{}", encoding="utf-8")
    run.path(PAGE).mkdir()
    (run.path(PAGE) / "index.html").write_text("", encoding="utf-8")
    return run


def following(name: str, run: Run) -> list[str]:
    """The words of what follows a command in a run directory."""
    command = COMMANDS[name]
    given = ELSEWHERE.get(name, {"run": run.folder})
    made: Any = SimpleNamespace(run=run.folder, page=run.path(PAGE) / "index.html")
    result = RESULT if name in ELSEWHERE else made
    line = next_command(command, result, command.options.model_construct(**given))
    assert line is not None
    return shlex.split(line)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_next__is_a_command_that_can_be_typed(name: str, begun: Run, ended: Run) -> None:
    words, after = following(name, begun), following(name, ended)
    if name == "report":  # the last
        assert words == [*WEBBROWSER, str(begun.path(PAGE) / "index.html")]
        return
    assert words[0] == "alphafix"
    check_alphafix(words[1:])
    if name in ELSEWHERE:
        assert after == words
        return
    assert words[-2:] == ["--run", str(begun.folder)]
    if "patch" in (words[1], after[1]):
        assert after[1] == words[1]  # nothing was patched here
    else:
        page = ended.path(PAGE) / "index.html"
        assert after == [*WEBBROWSER, str(page)]


def typed(*words: str) -> list[str]:
    """Do a command; the words of the one that it names next."""
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"{words}: {done.stderr}"
    last = done.stderr.splitlines()[-1]
    assert last.startswith("next: ")
    return shlex.split(last.removeprefix("next: "))


def chain(words: list[str]) -> list[list[str]]:
    """Do what is named next, again and again, up to the page; what was done."""
    done = []
    while words[:3] != WEBBROWSER:
        done.append(words[1:])
        assert len(done) < len(CHAIN)
        words = typed(*words[1:])
    return done


def begin(folder: Path, *splits: str) -> list[str]:
    """Write features of 16 classes and their model; flags of their run directory."""
    run = write_run(folder / "run", make_problem(num_classes=16), splits=splits)
    head = Head.load(run.path(HEAD))
    assert head.bias is not None
    tensors = {"fc.weight": head.weight, "fc.bias": head.bias}
    save_file(tensors, folder / "model.safetensors")
    return ["--run", str(run.folder)]


CHEAP = ["--methods", "few-bias", "--rho", "0.5", "--seeds", "1", "-k", "3", "--no-on-top"]
CHEAP += ["--bootstraps", "100"]
TRAIN = ["train", "--allow-worse", "--method"]


@pytest.mark.slow
def test_next__without_validation_is_what_succeeds_without(tmp_path: Path) -> None:
    run = begin(tmp_path, "train", "test")
    typed("neighbors", "-k", "3", *run)
    typed(*TRAIN, "alphanet", "--seeds", "1", "--epochs", "2", *run)
    typed("patch", str(tmp_path / "model.safetensors"), *run)
    assert chain(typed("evaluate", *run)) == [["report", *run]]
    assert not (tmp_path / "run" / COMPARISON).exists()


@pytest.mark.slow
def test_next__of_results_that_are_stale_makes_each_anew_and_each_succeeds(tmp_path: Path) -> None:
    run = begin(tmp_path)
    model = ["patch", str(tmp_path / "model.safetensors")]
    typed("neighbors", "-k", "3", *run)
    typed(*TRAIN, "few-bias", *run)
    typed(*model, *run)
    typed("evaluate", *run)
    assert typed("compare", *CHEAP, *run) == ["alphafix", "report", *run]
    assert typed("report", *run)[:3] == WEBBROWSER
    assert typed("compare", *CHEAP, *run)[:3] == WEBBROWSER  # up to date
    # A comparison that the page knows nothing of.
    seeded = ["compare", *CHEAP, "--seed", "1"]
    again = ["report", *run, "--overwrite"]
    assert chain(typed(*seeded, *run, "--overwrite")) == [again]
    done = chain(typed(*TRAIN, "lda", *run, "--overwrite"))
    later = [[*words, *run, "--overwrite"] for words in (model, ["evaluate"], seeded, ["report"])]
    assert done == later


def test_look_at__names_a_page_only_if_it_shows_what_is_there_now(tmp_path: Path) -> None:
    run = begin(tmp_path)
    page = tmp_path / "run" / PAGE / "index.html"
    measure = ["evaluate", "--bootstraps", "100", *run]

    def evaluated(*more: str) -> str:
        done = CliRunner().invoke(app, [*measure, *more])
        assert done.exit_code == 0, done.stderr
        return done.stderr

    typed("neighbors", "-k", "3", *run)
    typed(*TRAIN, "few-bias", *run)
    assert str(page) not in evaluated()
    typed("report", "--bootstraps", "100", *run)
    assert f"look at: {page}\n" in evaluated()
    typed(*TRAIN, "lda", *run, "--overwrite")
    for more in (["--overwrite"], []):
        told = evaluated(*more)
        assert "look at: " not in told
        line = told.partition(f"{page} was made from something else than is there now; `")[2]
        words = shlex.split(line.partition("`")[0])
    typed(*words[1:])
    assert f"look at: {page}\n" in evaluated()
    told = evaluated("--on", "val", "--overwrite")  # the page is of test samples
    assert "look at: " not in told
    words = shlex.split(told.partition("than is there now; `")[2].partition("`")[0])
    assert words[words.index("--on") :][:2] == ["--on", "val"]
    check_alphafix(words[1:])


@pytest.mark.slow
def test_next__of_a_stage_whose_correction_is_stale_is_the_one_that_trains_it(
    tmp_path: Path,
) -> None:
    run = begin(tmp_path)
    typed("neighbors", "-k", "3", *run)
    typed(*TRAIN, "few-bias", *run)
    again = ["alphafix", "train", "--method", "few-bias", "--allow-worse", *run, "--overwrite"]
    assert typed("neighbors", "-k", "2", *run, "--overwrite") == again
    assert typed("compare", *CHEAP, *run) == again
    (tmp_path / "run" / CORRECTION).unlink()
    assert typed("compare", *CHEAP, *run, "--overwrite") == ["alphafix", "train", *run]


def test_next__of_a_page_that_was_made_otherwise_keeps_to_that(tmp_path: Path) -> None:
    run = begin(tmp_path)
    groups = tmp_path / "groups.tsv"
    groups.write_text("".join(f"class {i}\t{i % 4}\n" for i in range(16)))
    page = ["--groups", str(groups), "--output", str(tmp_path / "page"), "--images", "3"]
    page += ["--bootstraps", "100"]
    typed("neighbors", "-k", "3", *run)
    typed(*TRAIN, "few-bias", *run)
    typed("patch", str(tmp_path / "model.safetensors"), *run)
    typed("evaluate", *run)
    typed("report", *page, *run)
    words = typed("compare", *CHEAP, *run)
    assert (words[1], words[-1]) == ("report", "--overwrite")
    pairs = {tuple(page[i : i + 2]) for i in range(0, len(page), 2)}
    assert {tuple(words[i : i + 2]) for i in range(2, 10, 2)} == pairs
    assert words[10:-1] == run
    typed(*words[1:])


def test_error__names_commands_with_what_was_chosen_for_them(tmp_path: Path) -> None:
    """Each line works as it stands: the next error is gone when it was typed."""
    begin(tmp_path)
    folder = tmp_path / "my run"
    (tmp_path / "run").rename(folder)
    run = ["--run", str(folder)]
    typed("neighbors", "-k", "4", "--metric", "cosine", *run)
    typed(*TRAIN, "few-bias", "--max-overall-drop", "1.5", *run)
    typed("features", "import", "--split", "train", *exported(folder), *run, "--overwrite")

    def named(*words: str) -> list[str]:
        failed = CliRunner().invoke(app, words)
        assert failed.exit_code == 1, failed.stderr
        line = next(one for one in failed.stderr.splitlines() if "to do:" in one)
        return shlex.split(line.split("`")[1])

    first, second = named("evaluate", *run), named(*named("evaluate", *run)[1:])
    assert first == [
        *("alphafix", "train", "--method", "few-bias", "--max-overall-drop", "1.5"),
        *("--allow-worse", *run, "--overwrite"),
    ]
    assert second == [
        *("alphafix", "neighbors", "-k", "4", "--metric", "cosine", *run, "--overwrite")
    ]
    for words in (second, first):
        typed(*words[1:])
    typed("evaluate", *run)


def exported(folder: Path) -> list[str]:
    """A file with all but the last of a run's training features."""
    store = FeatureStore.open(Run(folder).features("train"))
    file = folder.parent / "train.npz"
    np.savez(file, features=store.array()[:-1], labels=store.labels[:-1])
    return [str(file)]


@pytest.mark.parametrize(
    "given", [["--delta"], ["--output", "other.safetensors", "--head", "fc", "--card", "card.md"]]
)
def test_next__of_a_model_that_was_patched_otherwise_keeps_to_that(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begin(tmp_path)
    run = ["--run", "run"]
    typed("neighbors", "-k", "3", *run)
    typed(*TRAIN, "few-bias", *run)
    typed("patch", "model.safetensors", *given, *run)
    words = typed(*TRAIN, "lda", *run, "--overwrite")
    assert words[:3] == ["alphafix", "patch", "model.safetensors"]
    assert words[-3:] == [*run, "--overwrite"]
    pairs = {tuple(given[i : i + 2]) for i in range(0, len(given), 2)}
    assert {tuple(words[3:-3][i : i + 2]) for i in range(0, len(given), 2)} == pairs
    typed(*words[1:])


def test_next__is_not_kept_from_a_stale_patch_by_a_delta_that_was_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begin(tmp_path)
    run = ["--run", "run"]
    typed("neighbors", "-k", "3", *run)
    typed(*TRAIN, "few-bias", *run)
    model = ["patch", "model.safetensors"]
    typed(*model, "--delta", *run)
    typed(*model, "--apply", "model.alphafix-delta.safetensors", "-o", "applied.safetensors", *run)
    words = typed(*TRAIN, "lda", *run, "--overwrite")
    assert words == ["alphafix", *model, "--delta", *run, "--overwrite"]
    typed(*words[1:])


def test_next__of_a_model_that_is_patched_in_place_restores_it_first(tmp_path: Path) -> None:
    run = begin(tmp_path, "train", "val", "test")
    model = ["patch", str(tmp_path / "model.safetensors")]
    before = (tmp_path / "model.safetensors").read_bytes()
    typed("neighbors", "-k", "3", *run)
    typed(*TRAIN, "few-bias", *run)
    typed(*model, "--in-place", *run)
    words = typed(*TRAIN, "lda", *run, "--overwrite")
    assert words == ["alphafix", *model, "--revert", *run]
    # What comes then holds the head of the file against the one that was extracted.
    assert typed(*words[1:]) == ["alphafix", *model, "--dry-run", *run]
    assert (tmp_path / "model.safetensors").read_bytes() == before
    done = CliRunner().invoke(app, [*model, "--dry-run", *run])
    assert done.exit_code == 0, done.stderr
    typed(*model, "--in-place", *run)
    (tmp_path / "run" / CORRECTION).unlink()
    words = typed(*model, "--revert", *run)
    assert words == ["alphafix", "inspect", model[1], *run]
    typed(*words[1:])


@pytest.mark.parametrize("how", [("--in-place",), ("--output", "new.safetensors"), ("--delta",)])
def test_error__of_a_model_that_is_patched_in_place_names_what_restores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = begin(tmp_path, "train", "val", "test")
    before = Path("model.safetensors").read_bytes()
    typed("neighbors", "-k", "3", *run)
    typed(*TRAIN, "few-bias", *run)
    typed("patch", "model.safetensors", "--in-place", *run)
    typed(*TRAIN, "lda", *run, "--overwrite")
    done = CliRunner().invoke(app, ["patch", "model.safetensors", *how, *run])
    assert done.exit_code == 1
    words = shlex.split(done.stderr.partition("restore it first with `")[2].partition("`")[0])
    assert words == ["alphafix", "patch", "model.safetensors", "--revert", *run]
    typed(*words[1:])
    assert Path("model.safetensors").read_bytes() == before


@pytest.mark.parametrize(("stage", "then"), list(pairwise(CHAIN[2:])))
def test_next__of_a_stage_is_the_one_behind_it(stage: str, then: str, begun: Run) -> None:
    assert following(stage, begun)[1] == then


@pytest.mark.parametrize(
    ("name", "given"),
    [("run", {"dry_run": True}), ("patch", {"dry_run": True}), ("train", {"plan": True})],
)
def test_next__of_what_was_only_planned_is_nothing(
    name: str, given: dict[str, Any], begun: Run
) -> None:
    options = COMMANDS[name].options.model_construct(run=begun.folder, **given)
    assert next_command(COMMANDS[name], SimpleNamespace(run=begun.folder), options) is None


def copied(begun: Run, folder: Path, counts: list[int], *but: str) -> Run:
    """The same features, of which the class table says other counts, without some results."""
    left_out = shutil.ignore_patterns("neighbors.safetensors", "alphanet.safetensors", *but)
    shutil.copytree(begun.folder, folder, ignore=left_out)
    run = Run(folder)
    table = ClassTable.load(begun.path(CLASSES))
    replace(table, counts=np.resize(counts, len(table)).astype(np.int64)).save(
        run.path(CLASSES), overwrite=True
    )
    return run


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([0, 5, 50], "6 of 16 classes have no training samples"),
        ([500, 600, 700], "no class has fewer than 20 training samples"),
        ([5, 6], "every class has fewer than 20 training samples"),
        ([500] + [6] * 5 + [5] * 10, "only one class that is not rare"),
    ],
)
def test_next__that_would_fail_is_not_named_but_what_it_lacks(
    counts: list[int], message: str, begun: Run, tmp_path: Path
) -> None:
    run = copied(begun, tmp_path / "run", counts)
    with pytest.raises(InputError, match=message):
        following("features merge", run)
    # As the command itself says it.
    done = CliRunner().invoke(app, ["neighbors", "--run", str(run.folder)])
    assert done.exit_code == 1
    words = ["features", "export", str(tmp_path / "x.npz"), "--run", str(run.folder)]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.stderr
    assert "next: " not in told.stderr
    assert "before the next command: " in told.stderr
    assert message in told.stderr
    assert ("add samples" if 0 in counts else "--few-below") in told.stderr


def test_next__of_few_classes_has_as_many_neighbours_as_there_are(
    begun: Run, tmp_path: Path
) -> None:
    run = copied(begun, tmp_path / "run", [500] * 4 + [5] * 12)
    words = following("features merge", run)
    assert words == ["alphafix", "neighbors", "-k", "3", "--run", str(run.folder)]
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.stderr


def test_next__without_samples_to_train_or_measure_on_names_what_makes_them(
    begun: Run, tmp_path: Path
) -> None:
    run = copied(begun, tmp_path / "a", [5, 500], "features")
    with pytest.raises(MissingStageError, match=r"extract.split='train'"):
        following("extract", run)
    run = copied(begun, tmp_path / "b", [5, 500], "features")
    shutil.copytree(begun.features("train"), run.features("train"))
    with pytest.raises(MissingStageError, match=r"extract.split='test'"):
        following("patch", run)


def test_next__is_the_last_that_is_said(begun: Run) -> None:
    """In the usual run directory nothing has to be said of it."""
    with in_folder(begun.folder.parent):
        Path("alphafix-run").symlink_to(begun.folder)
        done = CliRunner().invoke(app, ["neighbors", "-k", "3"])
    assert done.exit_code == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "next: alphafix patch MODEL"
