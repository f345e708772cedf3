"""Find a bot by name: `MODULE:NAME` or `FILE[:NAME]`; it may be a function of one call."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.sdk.bot import Bot, loading
from ipc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

DEFAULT_NAME = "bot"


def load(spec: str, adopt: Callable[[Any, str], Bot] | None = None) -> Bot:
    """The bot that `spec` names. Raises ConfigError that says what is wrong with it.

    `adopt` makes a bot of an `async def bot(runner_args)` and a name for it.
    """
    target, _, name = spec.partition(":")
    token = loading.set(True)
    try:
        module = _load_file(Path(target)) if _is_file(target) else _load_module(target)
    finally:
        loading.reset(token)
    bots = {key: value for key, value in vars(module).items() if isinstance(value, Bot)}
    if not name and len(bots) == 1:
        return next(iter(bots.values()))
    found = bots.get(name or DEFAULT_NAME)
    function = vars(module).get(name or DEFAULT_NAME)
    if found is None and adopt is not None and inspect.iscoroutinefunction(function):
        return adopt(function, Path(target).stem if _is_file(target) else target.rpartition(".")[2])
    if found is None:
        known = ", ".join(bots) or "none"
        raise ConfigError(
            f"{target} has no engine.sdk.Bot in a variable {name or DEFAULT_NAME!r}, "
            f"and no `async def` of that name; the bots it has: {known}"
        )
    return found


def _is_file(target: str) -> bool:
    return target.endswith(".py") or "/" in target


def _load_file(path: Path) -> ModuleType:
    path = path.resolve()
    found = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or found is None or found.loader is None:
        raise ConfigError(f"there is no Python file {path}")
    # A bot's own helpers lie beside it, and its module can be imported by its name.
    sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(found)
    sys.modules.setdefault(path.stem, module)
    found.loader.exec_module(module)
    return module


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            raise ConfigError(f"there is no module {name!r} here") from None
        raise
