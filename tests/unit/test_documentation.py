"""The README files: what they show runs on, and what they point to exists."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
import typer

from engine.cli import cli

ROOT = Path(__file__).parents[2]
# The page for people who come from Pipecat shows imports that only its own environment has.
OPTIONAL = ("engine.integrations.pipecat", "pipecat")
PAGES = sorted(
    path
    for pattern in ("*.md", "engine/**/*.md", "workers/*.md", "ipc/*.md", "scripts/*.md")
    for path in ROOT.glob(pattern)
)
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]+)")
SERVE_PAGES = ("README.md", "engine/README.md")
# Of the scripts, not of `serve`.
OTHER_FLAGS = {"help", "all", "calls", "mode"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(params=PAGES, ids=name_of)
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_every_room_that_the_readme_names_has_its_page() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall((ROOT / "README.md").read_text())}
    pages = {name_of(path) for path in PAGES} - {"README.md"}
    assert pages <= linked


def test_python_that_is_shown_compiles_and_its_imports_exist(page: Path) -> None:
    for code in CODE.findall(page.read_text()):
        tree = compile(
            code, name_of(page), "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                if node.module.startswith(OPTIONAL):
                    continue
                module = importlib.import_module(node.module)
                assert not [one.name for one in node.names if not hasattr(module, one.name)]


def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        target, _, heading = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if heading:
            lines = [line.lstrip("# ") for line in path.read_text().splitlines() if line[:1] == "#"]
            anchors = [re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines]
            assert heading in anchors, link


@pytest.mark.parametrize("name", SERVE_PAGES)
def test_flags_of_serve_that_are_named_exist(name: str) -> None:
    serve = typer.main.get_command(cli).commands["serve"]  # type: ignore[attr-defined]
    known = {option.lstrip("-") for parameter in serve.params for option in parameter.opts}
    named = set(FLAG.findall((ROOT / name).read_text()))
    assert named - known - OTHER_FLAGS == set()
