"""Another Pipecat is refused by what it lacks, and all that our classes use of it is looked for."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import CodeType
from typing import TYPE_CHECKING

import pytest

from engine.integrations import pipecat as ours
from engine.integrations.pipecat.check import USED, check, lacks
from ipc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = "pipecat.transports.base_output"
SENDER = "BaseOutputTransport.MediaSender"


def test_what_a_class_lacks_is_named() -> None:
    assert lacks(BASE, SENDER, ("_volume", "_gone", "cleanup", "run_away")) == [
        f"{SENDER}._gone",
        f"{SENDER}.run_away",
    ]
    assert lacks(BASE, "Gone", ("_volume",)) == [f"{BASE}.Gone"]
    assert lacks("pipecat.gone", "Gone", ()) == ["pipecat.gone.Gone"]


def test_a_pipecat_without_what_we_use_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    check()
    monkeypatch.setitem(USED, (BASE, SENDER), ("_gone",))
    with pytest.raises(ConfigError, match=rf"has no {SENDER}\._gone: this engine knows"):
        check()


def test_every_private_name_of_pipecats_that_our_classes_use_is_looked_for() -> None:
    looked_for = {name for names in USED.values() for name in names}
    found = set[str]()
    for cls in subclasses():
        theirs = [base for base in cls.__mro__ if base.__module__.startswith("pipecat.")]
        for name in private_names(cls):
            if any(not lacks(base.__module__, base.__qualname__, (name,)) for base in theirs):
                found.add(name)
    assert found
    assert found <= looked_for


def subclasses() -> Iterator[type]:
    """Our classes that extend one of Pipecat's."""
    for info in pkgutil.iter_modules(ours.__path__):
        module = importlib.import_module(f"{ours.__name__}.{info.name}")
        for cls in vars(module).values():
            if (
                isinstance(cls, type)
                and cls.__module__ == module.__name__
                and any(base.__module__.startswith("pipecat.") for base in cls.__mro__)
            ):
                yield cls


def private_names(cls: type) -> set[str]:
    """Names with one underscore that the class defines or its methods use."""
    names = set(vars(cls)) - {"_abc_impl"}
    for member in vars(cls).values():
        function = member.fget if isinstance(member, property) else member
        code = getattr(inspect.unwrap(function), "__code__", None) if function else None
        if isinstance(code, CodeType):
            names.update(name for inner in nested(code) for name in inner.co_names)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def nested(code: CodeType) -> Iterator[CodeType]:
    """This code and that of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)
