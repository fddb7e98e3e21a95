"""What mkdocs is given beside `pages/`: pages of the repository, and the reference by rooms."""

from __future__ import annotations

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.architecture import files as modules  # noqa: E402
from tests.architecture import room_of, rooms  # noqa: E402

# They keep their places, so that what links them from each other does so here too.
TAKEN = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "examples/commands/*.md",
    "examples/evidence/README.md",
    "examples/glyphs_lt/README.md",
    "examples/recipes/README.md",
    "examples/text/README.md",
    "examples/*/pictures/*.png",
)

# Where the site's own pages are, as pages elsewhere link them, and the way back.
PAGES = "examples/docs/pages/"
UP = "../../"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the reference to the navigation, a page a room."""
    assert config.nav is not None
    config.nav.append({"Reference": [{room: page_of(room)} for room in documented()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for pattern in TAKEN:
        for path in sorted(ROOT.glob(pattern)):
            place = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, place, abs_src_path=str(path)))
    for room in documented():
        names = sorted(name for name, file in modules().items() if room_of(file, rooms()) == room)
        text = "\n\n".join([f"# {room}", *(f"::: {name}" for name in names)])
        files.append(File.generated(config, page_of(room), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between the site's own pages, which are at its top, and pages of the repository."""
    if page.file.src_uri == "README.md":
        return markdown.replace(PAGES, "")
    if page.file.src_uri in TAKEN:
        return markdown.replace("](../docs/pages/", f"]({UP}")
    own = "/" not in page.file.src_uri and Path(config.docs_dir, page.file.src_uri).is_file()
    return markdown.replace(f"]({UP}", "](examples/") if own else markdown


def documented() -> list[str]:
    """The rooms that have a page; what `import alphafix` gives has one of its own."""
    return [room for room in rooms() if not room.startswith("__")]


def page_of(room: str) -> str:
    """The page of a room's reference."""
    return f"reference/{room.rstrip('/').removesuffix('.py').replace('/', '-')}.md"
