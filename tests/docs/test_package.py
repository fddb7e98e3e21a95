"""What the package says of itself: citation, extras, versions, licence."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.docs.blocks import REPOSITORY
from tests.docs.commands import extras

PROJECT = (REPOSITORY / "pyproject.toml").read_text()


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    return found


def test_citation__has_what_the_format_requires(citation: dict[str, Any]) -> None:
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    # What CFF 1.2 knows of the keys that are used here.
    known = {"abstract", "authors", "cff-version", "keywords", "license", "message"}
    assert set(citation) <= known | {"references", "title", "type", "version"}
    assert citation["type"] == "software"


def test_citation__is_of_this_version(citation: dict[str, Any]) -> None:
    assert f'\nversion = "{citation["version"]}"\n' in PROJECT
    assert citation["license"] in (REPOSITORY / "LICENSE").read_text().split()[0]


def test_citation__names_both_papers_with_all_authors(citation: dict[str, Any]) -> None:
    alphanet, oltr = citation["references"]
    assert alphanet["title"].startswith("AlphaNet: ")
    assert oltr["title"] == "Large-Scale Long-Tailed Recognition in an Open World"
    for paper, first in ((alphanet, "Chang"), (oltr, "Liu")):
        assert {"type", "title", "authors", "year"} <= set(paper)
        assert len(paper["authors"]) == 6
        assert paper["authors"][0]["family-names"] == first
        assert all(set(author) == {"given-names", "family-names"} for author in paper["authors"])
    assert re.fullmatch(r"10\.\d{4,9}/\S+", oltr["doi"])
    assert alphanet["identifiers"][0]["value"] == "arXiv:2008.07073"


def test_project__has_the_extras_that_the_documentation_names() -> None:
    wanted = {
        "cpu",
        "gpu",
        "onnx",
        "hf",
        "webdataset",
        "parquet",
        "tensorboard",
        "wandb",
        "remote",
        "test",
    }
    assert wanted <= extras()


def test_project__dependencies_have_lower_bounds_only() -> None:
    section = PROJECT.split("\ndependencies = [")[1].split("[project.scripts]")[0]
    entries = re.findall(r'"([A-Za-z][^"]*)"', section)
    assert len(entries) > 20
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9-]+(\[[a-z]+\])?>=[\d.]+", entry), entry


def test_project__every_optional_package_is_in_the_tests_too() -> None:
    def names(extra: str) -> set[str]:
        entry = re.search(rf"^{extra} = \[(.*?)\]", PROJECT, re.MULTILINE | re.DOTALL)
        assert entry is not None
        return set(re.findall(r'"([a-z0-9-]+>=[\d.]+)"', entry[1]))

    for extra in extras() - {"cpu", "gpu", "test", "fuzz"}:
        assert names(extra) <= names("test"), extra


def test_contributing__names_files_that_are_there() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    named = set(re.findall(r"(?<=[` ])(?:alphafix|tests|examples|\.ci)/[\w/.-]*", prose))
    assert len(named) > 25
    for path in named:
        place = REPOSITORY / path
        assert place.is_dir() if path.endswith("/") else place.is_file(), path


def test_contributing__names_what_is_in_the_files() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2] for line in text.splitlines() if line.startswith("| ")]
    found = 0
    for row in rows:
        codes = re.findall(r"`([^`]+)`", row)
        files = [REPOSITORY / code for code in codes if code.startswith("alphafix/")]
        sources = [path.read_text(encoding="utf-8") for path in files if path.is_file()]
        for name in codes:
            if sources and re.fullmatch(r"[A-Za-z_]+", name):
                assert any(re.search(rf"\b{name}\b", source) for source in sources), name
                found += 1
    assert found >= 4


def test_workflow__tests_on_the_versions_that_the_project_names() -> None:
    workflow: Any = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())
    named = re.findall(r'Python :: (3\.\d+)"', PROJECT)
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python-version"] == named
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"][2:]]
    assert {"ruff check .", "ruff format --check .", "mypy --strict", "pytest"} <= set(commands)


def test_hooks__are_commands_that_are_there() -> None:
    hooks: Any = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    for hook in hooks["repos"][0]["hooks"]:
        program, first, *_ = hook["entry"].split()
        if program == "python" and first.endswith(".py"):
            assert (REPOSITORY / first).is_file(), first
        else:
            assert program in ("ruff", "mypy", "python"), program


def test_changelog__has_this_version(citation: dict[str, Any]) -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)
    assert sections[:2] == [("Unreleased", ""), (citation["version"], "2026-11-26")]
