"""Check what an sdist and the wheel that was built from it hold: python .ci/check_dist.py DIST."""

import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

SOURCES = (
    "alphafix/__init__.py",
    "alphafix/py.typed",
    "alphafix/commands/help.json",
    "alphafix/demo/data/glyphs-lt-16px.npz",
    "tests/test_cli.py",
    "tests/docs/test_markdown.py",
    "examples/ci/pipeline.sh",
    "examples/commands/train.md",
    ".ci/run",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "CITATION.cff",
    "LICENSE",
)
EXTRAS = {"cpu", "gpu", "onnx", "hf", "webdataset", "wandb"}
BUILT = ("__pycache__", ".pyc", ".git/", ".mypy_cache", ".pytest_cache")


def main(folder: Path) -> None:
    """Check both files in ``folder``; say what is wrong and exit with 1."""
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    problems = [f"{sdist.name}: {one}" for one in in_sdist(sdist)]
    problems += [f"{wheel.name}: {one}" for one in in_wheel(wheel)]
    if problems:
        sys.exit("\n".join(problems))
    print(f"{sdist.name}, {wheel.name}: complete")


def in_sdist(path: Path) -> list[str]:
    """What an sdist lacks, or should not hold."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return [f"{name} is missing" for name in SOURCES if name not in names] + built(names)


def in_wheel(path: Path) -> list[str]:
    """What a wheel lacks, or should not hold."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    wanted = [name for name in SOURCES if name.startswith("alphafix/")]
    wanted.append(f"{info}/licenses/LICENSE")
    problems = [f"{name} is missing" for name in wanted if name not in names] + built(names)
    problems += [f"{name} is no part of it" for name in names if name.startswith("tests/")]
    if missing := EXTRAS - set(metadata.get_all("Provides-Extra", [])):
        problems.append(f"no extra {', '.join(sorted(missing))}")
    if "alphafix = alphafix.__main__:main" not in scripts:
        problems.append("no command alphafix")
    return problems


def built(names: set[str]) -> list[str]:
    """Files that are left over from running something."""
    return [f"{name} is left over" for name in sorted(names) if any(one in name for one in BUILT)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
