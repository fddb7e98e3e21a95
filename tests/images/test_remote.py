"""Files elsewhere: a real S3 server on loopback, behind a line that breaks when it is told to."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save
from typer.testing import CliRunner

import alphafix
from alphafix import remote
from alphafix.commands import following
from alphafix.commands.app import app
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.features.options import MergeOptions
from alphafix.commands.fetching import refuse_addresses
from alphafix.commands.fix.options import FixOptions
from alphafix.errors import InputError
from alphafix.features.elsewhere import workplace
from alphafix.features.store import FeatureStore
from alphafix.images.spec import open_data
from alphafix.locks import locked
from alphafix.run.directory import CORRECTION, Run
from tests.checkpoints.models import make_correction, write_stages
from tests.common import make_problem
from tests.elsewhere import Line
from tests.extract.photos import make_photos, write_archives, write_folders
from tests.extract.zoo import MAKERS, Animal


@pytest.fixture(scope="module")
def animal(tmp_path_factory: pytest.TempPathFactory) -> Animal:
    import torch

    torch.manual_seed(0)
    return MAKERS["python"](tmp_path_factory.mktemp("animal"))


Extract = Callable[..., FeatureStore]


@pytest.fixture
def extract(animal: Animal, tmp_path: Path) -> Extract:
    """The command, and the training features that it leaves."""

    def run(name: str, data: str, *more: str, weights: str | None = None) -> FeatureStore:
        words = ["extract", "--run", str(tmp_path / name), "--data", data, "--workers", "0"]
        words += ["--backbone", str(animal.options["backbone"]), "--few-below", "5"]
        words += ["--weights", weights or str(animal.options["weights"]), *more]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{done.stderr}{done.exception}"
        return FeatureStore.open(Run(tmp_path / name).features("train"))

    return run


def put(bucket: Any, folder: Path, to: str = "data") -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            bucket.pipe_file(f"{to}/{path.relative_to(folder)}", path.read_bytes())


def same(one: FeatureStore, other: FeatureStore) -> bool:
    return one.ids == other.ids and bool((one.array() == other.array()).all())


def test_address__is_told_from_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert remote.is_address("s3://bucket/key")
    assert remote.is_address(Path("https://host/a"))
    assert remote.address_of(Path("s3://bucket/a/b")) == "s3://bucket/a/b"
    for local in ("data", "/data", "C:/data", "wds:a.tar", "hf:name", "timm:resnet18"):
        assert not remote.is_address(local)
    assert remote.address_of(Path("S3://Bucket/a")) == "s3://Bucket/a"
    (tmp_path / "s3:").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not remote.is_address(Path("s3:/"))


@pytest.mark.parametrize(
    ("text", "todo"),
    [
        ("s3:/bucket/run", "give s3://bucket/run, or ./s3:/bucket/run"),
        ("s3:///run", "give s3://BUCKET/run"),
        ("S3://", "give s3://BUCKET/KEY"),
        ("https:/host/file", "give https://host/file"),
        ("file:///data/run", "give the path itself: /data/run"),
    ],
)
def test_address__with_other_slashes_is_refused_wherever_it_is_given(
    text: str, todo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"(?s)neither an address nor a path.*{re.escape(todo)}"):
        remote.is_address(text)
    with pytest.raises(InputError, match="neither an address nor a path"):
        alphafix.find_neighbors(run=text)
    with pytest.raises(InputError, match="neither an address nor a path"):
        open_data(f"wds:{text}")
    for words in (
        ["neighbors", "--run", text],
        ["features", "merge", text],
        ["inspect", text],
        ["evaluate", "--open", "x", "--junit", text],
        ["extract", "--backbone", "timm:resnet18", "--data", "x", "--weights", text],
        ["extract", "--backbone", "timm:resnet18", "--data", text],
    ):
        done = CliRunner().invoke(app, words)
        assert (done.exit_code, done.stdout) == (1, ""), words
        assert f"{text} is neither an address nor a path" in done.stderr
    monkeypatch.setenv("ALPHAFIX_RUN", text)
    assert "neither an address nor a path" in CliRunner().invoke(app, ["train"]).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["recipe", "option", "setting", "stage", "variable"])
@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("s3://data/run", "`alphafix features merge s3://data/run --run DIR`"),
        ("s3:/data/run", "s3:/data/run is neither an address nor a path"),
        ("https://host/run", "a run directory lies on this machine: --run got: https://host/run"),
    ],
)
def test_recipe__of_a_run_elsewhere_makes_no_folder(
    where: str, run: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stage = "neighbors: {features: [a.npz], head: b.npz}"
    if where == "stage":
        stage = f"neighbors: {{run: {run}}}"
    first = f"run: {run}\n" if where == "recipe" else ""
    Path("r.yaml").write_text(f"{first}stages:\n  - {stage}\n", encoding="utf-8")
    if where == "variable":
        monkeypatch.setenv("ALPHAFIX_RUN", run)
    given = {"option": ["--run", run], "setting": ["--set", f"run={run}"]}.get(where, [])
    done = CliRunner().invoke(app, ["run", "r.yaml", *given])
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in " ".join(done.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


def test_address__in_options_that_are_written_down_can_be_read_again() -> None:
    given = MergeOptions(run=Path("run"), parts=(Path("s3://data/run"), Path("s3://data/more")))
    data = given.model_dump(mode="json")
    assert data["parts"] == ["s3://data/run", "s3://data/more"]
    assert MergeOptions(**data) == given
    extraction = ExtractOptions(run=Path("s3://data/run"), backbone="b", data="d")
    assert extraction.model_dump(mode="json")["run"] == "s3://data/run"


def test_address__of_a_scheme_in_capitals_is_the_same(bucket: Any) -> None:
    bucket.pipe_file("data/f/a", b"one")
    assert remote.read("S3://data/f/a") == b"one"
    assert remote.exists("S3://data/f")
    assert [entry.size for entry in remote.entries("S3://data/f")] == [3]
    assert remote.fetched("S3://data/f/a").read_bytes() == b"one"
    remote.write("S3://data/f/b", b"two")
    assert remote.read("s3://data/f/b") == b"two"


def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    remote._system.cache_clear()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://data/x", "NoCredentialsError.*set credentials: AWS_PROFILE"),
        ("ftp://host/x", "ftp:// addresses cannot be used"),
        ("s4://host/x", "s4:// addresses cannot be used.*not known"),
        ("s3://no_such/bu:cket/../x", "set credentials"),
    ],
)
def test_errors__that_stay_are_told_at_once(
    address: str,
    message: str,
    bucket: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    no_credentials(monkeypatch)
    monkeypatch.setattr(remote, "FIRST_WAIT", 60.0)  # which one would notice
    for ask in (remote.read, remote.entry, remote.exists, remote.entries, remote.require_writable):
        with pytest.raises(InputError, match=f"(?s){message}") as raised:
            ask(address)
        assert "tries were made" not in str(raised.value)
    assert "another try" not in caplog.text


def test_bucket__that_is_not_there_is_told_at_once(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT", 60.0)
    with pytest.raises(
        InputError, match=r"(?s)s3://nowhere/run cannot be written.*make the bucket"
    ):
        remote.require_writable("s3://nowhere/run")
    with pytest.raises(InputError, match="s3://b/x cannot be written"):  # too short for a name
        remote.require_writable("s3://b/x")
    assert "another try" not in caplog.text
    remote.require_writable("s3://data/run")
    assert bucket.find("data") == []


def test_remove__of_what_is_there_and_what_is_not(bucket: Any) -> None:
    bucket.pipe_file("data/f/a", b"one")
    for _ in range(2):
        remote.remove("s3://data/f/a")
        assert not remote.exists("s3://data/f/a")


def test_extract__of_class_folders_and_weights_elsewhere(
    bucket: Any, extract: Extract, animal: Animal, tmp_path: Path
) -> None:
    write_folders(tmp_path / "here", make_photos())
    weights = Path(animal.options["weights"])
    put(bucket, tmp_path / "here", "data/photos")
    bucket.pipe_file(f"data/{weights.name}", weights.read_bytes())
    found = extract("there", "s3://data/photos", weights=f"s3://data/{weights.name}")
    assert same(found, extract("run", str(tmp_path / "here")))
    before = found.folder.joinpath("manifest.json").stat().st_mtime_ns
    again = extract("there", "s3://data/photos", weights=f"s3://data/{weights.name}")
    assert again.folder.joinpath("manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("where", ["both", "images"])
def test_extract__of_lists_and_images_elsewhere(
    where: str, bucket: Any, extract: Extract, tmp_path: Path
) -> None:
    write_folders(tmp_path / "photos", make_photos())
    paths = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("photos/train/*/*.png"))
    lines = "".join(f"{path} {path.parts[2]}\n" for path in paths)
    (tmp_path / "train.txt").write_text(lines)
    put(bucket, tmp_path / "photos", "data/photos")
    bucket.pipe_file("data/train.txt", lines.encode())
    here = extract("run", str(tmp_path / "{split}.txt"))
    if where == "both":
        found = extract("there", "s3://data/{split}.txt")
    else:
        found = extract("there", str(tmp_path / "{split}.txt"), "--root", "s3://data")
    assert same(found, here)


def test_extract__of_archives_elsewhere_over_a_line_that_breaks(
    bucket: Any, extract: Extract, line: Line, tmp_path: Path
) -> None:
    pattern = write_archives(tmp_path / "shards", make_photos())
    put(bucket, tmp_path / "shards")
    here = extract("run", pattern)
    line.cuts += [700, 900, 300]
    found = extract("there", pattern.replace(f"{tmp_path / 'shards'}", "s3://data"))
    assert not line.cuts
    assert same(found, here)


def test_answers__are_those_of_now(bucket: Any) -> None:
    """Another client writes: no listing and no file that was seen before hides that."""
    bucket.pipe_file("data/f/a", b"one")
    (first,) = remote.entries("s3://data/f")
    assert remote.exists("s3://data/f/a")
    assert not remote.exists("s3://data/f/b")
    assert not remote.exists("s3://data/g")
    bucket.pipe_file("data/f/a", b"two")
    bucket.pipe_file("data/f/b", b"new")
    bucket.pipe_file("data/g/c", b"new")
    assert remote.read("s3://data/f/a") == b"two"
    assert remote.exists("s3://data/f/b")
    assert remote.exists("s3://data/g")
    now = remote.entries("s3://data/f")
    assert [entry.address for entry in now] == ["s3://data/f/a", "s3://data/f/b"]
    assert now[0].version != first.version
    assert remote.entry("s3://data/f/a") == now[0]
    bucket.rm("data/f/a")
    assert not remote.exists("s3://data/f/a")
    assert [entry.address for entry in remote.entries("s3://data/f")] == ["s3://data/f/b"]


def test_extract__images_that_have_changed_since_are_not_taken_for_those(
    bucket: Any, extract: Extract, tmp_path: Path
) -> None:
    write_folders(tmp_path / "here", make_photos())
    put(bucket, tmp_path / "here", "data/photos")
    found = extract("there", "s3://data/photos")
    name = next(name for name in bucket.find("data/photos/train") if name.endswith(".png"))
    other = next(n for n in bucket.find("data/photos/train") if n.endswith(".png") and n != name)
    bucket.pipe_file(name, bucket.cat_file(other))
    bucket.pipe_file(name.replace(".png", "-more.png"), bucket.cat_file(other))
    with pytest.raises(AssertionError, match="data_sha256"):
        extract("there", "s3://data/photos")
    again = extract("there", "s3://data/photos", "--overwrite")
    assert len(again) == len(found) + 1


def test_fetched__once_while_it_is_the_same_and_anew_when_it_is_not(
    bucket: Any, tmp_path: Path
) -> None:
    bucket.pipe_file("data/model.bin", b"one" * 1000)
    first = remote.fetched("s3://data/model.bin")
    inode = first.stat().st_ino
    assert first.read_bytes() == b"one" * 1000
    assert remote.fetched("s3://data/model.bin").stat().st_ino == inode
    first.write_bytes(b"damaged")
    assert remote.fetched("s3://data/model.bin").read_bytes() == b"one" * 1000
    bucket.pipe_file("data/model.bin", b"two" * 1000)
    assert remote.fetched("s3://data/model.bin").read_bytes() == b"two" * 1000
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_fetched__in_pieces_over_a_line_that_breaks(
    bucket: Any, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(300_000)
    bucket.pipe_file("data/model.bin", data)
    monkeypatch.setattr(remote, "PIECE", 100_000)
    line.cuts += [5000, 20_000]
    assert remote.fetched("s3://data/model.bin").read_bytes() == data
    assert not line.cuts


def test_fetched__copies_that_were_used_longest_ago_make_room(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPHAFIX_CACHE_GIB", str(2500 / 2**30))
    paths = []
    for name in "abc":
        bucket.pipe_file(f"data/{name}", name.encode() * 1000)
        paths.append(remote.fetched(f"s3://data/{name}"))
        os.utime(paths[-1].parent, (len(paths), len(paths)))
    assert [path.exists() for path in paths] == [False, True, True]


def test_make_room__takes_parts_too_but_nothing_in_use(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that a killed job has left is as old as it is; those that are made now stay."""
    monkeypatch.setenv("ALPHAFIX_CACHE_GIB", str(2500 / 2**30))
    places = [workplace("s3://data/run", f"{number:05d}-of-00003") for number in range(3)]
    for age, place in enumerate(places):
        (place / "parts").mkdir(parents=True)
        (place / "parts/shard").write_bytes(b"x" * 1000)
        os.utime(place, (age, age))
    held = "import sys; from alphafix.locks import locked\nfrom pathlib import Path\n"
    held += "with locked(Path(sys.argv[1])): print(flush=True); input()"
    command = [sys.executable, "-c", held, str(places[0])]
    bucket.pipe_file("data/a", b"a" * 1000)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with locked(places[1]):
            copy = remote.fetched("s3://data/a")
        other.communicate(b"\n")
    assert [place.exists() for place in places] == [True, True, False]
    os.utime(copy.parent, (9, 9))
    remote.make_room(0, places[1])
    assert [place.exists() for place in places] == [False, True, False]
    assert copy.exists()


def test_passing_folder__is_gone_afterwards_and_what_kills_left_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPHAFIX_CACHE", str(tmp_path / "cache"))
    killed = "import os, signal; from alphafix.remote import passing_folder\n"
    killed += "with passing_folder() as place: (place / 'x').touch(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", killed], check=False)
    (left,) = (tmp_path / "cache").iterdir()
    assert (left / "x").exists()
    with remote.passing_folder() as first:
        assert not left.exists()
        with remote.passing_folder() as second:  # the other is in use
            assert first.is_dir()
            assert second != first
    assert list((tmp_path / "cache").iterdir()) == []


def test_fetched__what_is_not_there_is_one_error_at_once(bucket: Any, line: Line) -> None:
    before = line.made
    with pytest.raises(InputError, match="s3://data/gone cannot be found"):
        remote.fetched("s3://data/gone")
    assert line.made - before < 4


def test_read__a_line_that_stays_broken_is_one_error(
    bucket: Any, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "TRIES", 2)
    bucket.pipe_file("data/image", b"x" * 50_000)
    line.cuts += [10] * 200
    with pytest.raises(InputError, match="2 tries were made"):
        remote.read("s3://data/image")


def test_inspect__of_a_model_elsewhere(bucket: Any, animal: Animal) -> None:
    weights = Path(animal.options["weights"])
    bucket.pipe_file(f"data/{weights.name}", weights.read_bytes())
    done = CliRunner().invoke(app, ["inspect", f"s3://data/{weights.name}"])
    assert done.exit_code == 0, done.stderr
    here = CliRunner().invoke(app, ["inspect", str(weights)])
    assert done.stdout == here.stdout


def test_errors__name_the_address_and_not_the_copy(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that an option names, in a command and in the plan of a recipe; of a list."""
    monkeypatch.chdir(tmp_path)
    bucket.pipe_file("data/model.pth", b"x" * 100)
    bucket.pipe_file("data/train.txt", b"a.png\nb.png ant\n")
    stage = "{backbone: 'timm:test_resnet', weights: none.pth, data: 's3://data/{split}.txt'}"
    Path("r.yaml").write_text(f"stages:\n  - extract: {stage}\n", encoding="utf-8")
    listed = ["extract", "--backbone", "timm:test_resnet", "--run", "new", "--weights", "none.pth"]
    for words, name in (
        (["inspect", "s3://data/model.pth"], "s3://data/model.pth"),
        (["patch", "s3://data/model.pth", "-o", "new.pth"], "s3://data/model.pth"),
        ([*listed, "--data", "s3://data/{split}.txt"], "s3://data/train.txt"),
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 1
        assert f"error: {name}" in done.stderr
        assert str(remote.cache_folder()) not in done.stderr
    done = CliRunner().invoke(app, ["run", "r.yaml", "--dry-run"])
    assert "to do (s3://data/train.txt" in done.stdout


def test_patch__of_a_model_elsewhere_records_its_address(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is up to date on a machine that has the copy in another place; and is made again."""
    monkeypatch.chdir(tmp_path)
    problem = make_problem(num_classes=16, spread=1.5)
    bucket.pipe_file("data/model.safetensors", save({"fc.weight": problem.head.weight}))
    head = replace(problem.head, bias=None)
    run = write_stages(Path("run"), head, make_correction(head))
    words = ["patch", "s3://data/model.safetensors", "--output", "new.safetensors", "--run", "run"]
    words += ["--no-measure"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    (record,) = run.path("made").iterdir()
    text = record.read_text()
    assert '"file": "s3://data/model.safetensors"' in text
    assert "cache" not in text
    monkeypatch.setenv("ALPHAFIX_CACHE", str(tmp_path / "another"))
    done = CliRunner().invoke(app, words)
    assert "up to date" in done.stderr
    assert record.read_text() == text
    other = make_correction(head)
    replace(other, rows=other.rows + 1).save(run.path(CORRECTION), overwrite=True)
    again = ("alphafix", *words[:4], "--no-measure", "--run", "run", "--overwrite")
    assert following._line(run, "patch") == shlex.join(again)
    assert following._stale(run, "patch")


def test_inspect__of_a_model_elsewhere_names_a_command_that_works(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weight = make_problem(num_classes=16, spread=1.5).head.weight
    bucket.pipe_file("data/model.safetensors", save({"fc.weight": weight}))
    address = "s3://data/model.safetensors"
    done = CliRunner().invoke(app, ["inspect", address])
    named = f"alphafix fix {address} --backbone timm:NAME --data DATA -o model.safetensors"
    assert f"next: {named}\n" in done.stderr
    done = CliRunner().invoke(app, ["inspect", address, "--json"])
    assert json.loads(done.stdout)["file"] == address
    refuse_addresses(FixOptions(file=Path(address), backbone="b", data="d", output=Path("o")))


def test_fetched__a_folder_is_no_file(bucket: Any) -> None:
    bucket.pipe_file("data/f/a", b"one")
    for address in ("s3://data/f", "s3://data/f/", "s3://data"):
        with pytest.raises(InputError, match="is a folder"):
            remote.fetched(address)
        assert remote.exists(address)
    assert list(remote.cache_folder().rglob("*")) == []


@pytest.mark.parametrize("given", ["ten", "-1", "nan", "1 GiB"])
def test_make_room__of_what_is_no_size(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPHAFIX_CACHE_GIB", given)
    with pytest.raises(InputError, match="ALPHAFIX_CACHE_GIB is no size"):
        remote.make_room(0, tmp_path)


def test_cache__at_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAFIX_CACHE", "s3://data/cache")
    with pytest.raises(InputError, match="copies lie on this machine"):
        remote.cache_folder()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["patch", "s3://data/model.pth"], "is elsewhere, and stays as it is"),
        (["patch", "s3://data/model.pth", "--in-place"], "is elsewhere, and stays as it is"),
        (["patch", "model.pth", "-o", "s3://data/new.pth"], "with aws s3 cp)"),
        (["patch", "model.pth", "-o", "https://host/new.pth"], "write it to a path, and copy it"),
        *(
            ([*words, "--run", address], "to do: give --run DIR with one")
            for address in ("https://host/run", "memory://run", "file://data/run")
            for words in (["neighbors"], ["features", "merge"], ["run", "r.yaml"])
        ),
        *(
            (words, "`alphafix features merge s3://data/run --run DIR`")
            for words in (
                ["neighbors", "--run", "s3://data/run"],
                ["train", "--run", "s3://data/run"],
                ["report", "--run", "s3://data/run"],
                ["features", "merge", "--run", "s3://data/run"],
                ["features", "export", "x.npz", "--run", "s3://data/run"],
                ["evaluate", "--run", "s3://data/run"],
                ["patch", "model.pth", "--run", "s3://data/run"],
                ["extract", "--backbone", "b", "--data", "d", "--run", "s3://data/run"],
            )
        ),
    ],
)
def test_command__writes_nothing_elsewhere(
    words: list[str], message: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bucket.pipe_file("data/model.pth", b"x")
    Path("r.yaml").write_text("stages: [neighbors]\n", encoding="utf-8")
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in " ".join(done.stderr.split())
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", "r.yaml"}
