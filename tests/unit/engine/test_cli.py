"""The command line shows every setting and keeps secrets off it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from engine.cli import cli
from engine.config import Settings

if TYPE_CHECKING:
    from pathlib import Path

runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_without_arguments_the_commands_are_listed() -> None:
    result = runner.invoke(cli, [])
    for command in ("serve", "bot"):
        assert command in plain(result.output)


def test_every_setting_but_the_secret_is_a_flag() -> None:
    shown = plain(runner.invoke(cli, ["serve", "--help"]).output)
    for name in Settings.model_fields:
        flag = f"--{name.replace('_', '-')}"
        assert (re.search(rf"{flag}\b(?!-)", shown) is not None) == (name != "bot_token"), flag
    assert "--config" in shown


def test_the_help_of_a_bot_does_not_show_what_only_the_engine_passes() -> None:
    shown = plain(runner.invoke(cli, ["bot", "--help"]).output)
    assert "--connect" in shown
    assert "--life" not in shown


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("no_such_module_at_all:bot", "no_such_module_at_all"),
        ("/nowhere/bot.py", "/nowhere/bot.py"),
        ("json:dumps", "dumps"),
        ("json:nothing", "nothing"),
    ],
)
def test_a_bot_that_cannot_be_found_is_one_line_and_its_own_code(spec: str, word: str) -> None:
    result = runner.invoke(cli, ["bot", spec])
    assert result.exit_code == 78, "trying again cannot help"
    assert result.stderr.startswith("error: ")
    assert word in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("import no_such_module_at_all", "install 'no_such_module_at_all' into the environment"),
        ("raise ValueError('my key')", "mend the ValueError above"),
    ],
)
def test_a_bots_own_error_stands_above_what_to_do_about_it(
    tmp_path: Path, line: str, advice: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(line)
    result = runner.invoke(cli, ["bot", str(file)])
    assert result.exit_code == 1, "it may be mended: it is tried again"
    *above, last = result.stderr.splitlines()
    assert line in "".join(above)
    assert last.startswith(f"error: the bot {file} ended")
    assert advice in last


def test_a_server_that_nobody_could_use_ends_it_with_what_to_write() -> None:
    result = runner.invoke(cli, ["serve", "--ice-server", "turn:turn.example"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ice_server: turn:turn.example needs")
    assert '"credential": SECRET' in result.stderr
    assert result.stderr.count("\n") == 1
