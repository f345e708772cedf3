"""A bot is found by module or by file, or the error says what is wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from engine.sdk import Bot, loader
from ipc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = "from engine.sdk import Bot\nbot = Bot('one')\nother = Bot('two')\nnumber = 5\n"


@pytest.fixture(autouse=True)
def _own_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_bot_file.py"
    path.write_text(SOURCE)
    return path


def test_a_file_may_name_its_bot_or_leave_it(file: Path) -> None:
    assert loader.load(str(file)).name == "one"
    assert loader.load(f"{file}:other").name == "two"


def test_a_module_of_the_current_folder_is_found(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    assert loader.load("my_bot_file").name == "one"
    assert loader.load("my_bot_file:other").name == "two"
    assert loader.load("./my_bot_file.py").name == "one"


def test_what_lies_beside_the_file_can_be_imported(file: Path) -> None:
    (file.parent / "my_bot_helper.py").write_text("NAME = 'helped'\n")
    file.write_text("from engine.sdk import Bot\nfrom my_bot_helper import NAME\nbot = Bot(NAME)\n")
    assert loader.load(str(file)).name == "helped"


def test_the_demo_is_found() -> None:
    assert isinstance(loader.load("engine.examples.echo:bot"), Bot)


@pytest.mark.parametrize("name", ["", ":number", ":missing"])
def test_what_is_no_bot_is_refused(file: Path, name: str) -> None:
    if not name:
        file.write_text("")
    with pytest.raises(ConfigError, match=r"no engine\.sdk\.Bot in a variable"):
        loader.load(f"{file}{name}")


@pytest.mark.parametrize("spec", ["missing.py", "no/such/place.py:bot", "/", "no_such_module_x"])
def test_what_is_not_there_is_named(spec: str) -> None:
    with pytest.raises(ConfigError, match="there is no"):
        loader.load(spec)


def test_an_error_inside_the_file_is_the_users_to_see(file: Path) -> None:
    file.write_text("import no_such_module_inside\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_inside"):
        loader.load(str(file))
    file.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        loader.load(str(file))


def test_the_only_bot_of_a_file_needs_no_name(tmp_path: Path) -> None:
    file = tmp_path / "only_one_bot.py"
    file.write_text("from engine.sdk import Bot\nassistant = Bot('a')\nassistant.run()\n")
    assert loader.load(str(file)).name == "a", "and its run() did nothing while it was loaded"
