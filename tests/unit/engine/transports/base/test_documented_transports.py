"""The transports against a table of Pipecat 1.14's: members, parameters, kinds, defaults."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.transports import base
from engine.transports.smallwebrtc import transport
from engine.transports.websocket import client
from tests.support import ROOT

TABLE: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("documented_transports.json").read_text()
)
KINDS: dict[str, Any] = {
    "any": inspect.Parameter.POSITIONAL_OR_KEYWORD,
    "kw": inspect.Parameter.KEYWORD_ONLY,
    "*": inspect.Parameter.VAR_POSITIONAL,
    "**": inspect.Parameter.VAR_KEYWORD,
}
# Its second argument has two names in two versions: either is taken by name.
BY_NAME_TOO = {("SmallWebRTCClient", "setup"): {"setup"}}
# An argument that we use has a name; nobody gives one that is called "_" by name.
UNNAMED = {("MediaSender", "handle_interruptions")}
# What importing a transport must not load.
HEAVY = {"aioice", "aiortc", "av", "cv2", "fastapi", "soxr", "uvicorn", "workers"}

MEMBERS = [(owner, member) for owner, members in TABLE.items() for member in members]


def ours(owner: str) -> Any:
    return getattr(base, owner, None) or getattr(transport, owner)


@pytest.mark.parametrize(("owner", "member"), MEMBERS)
def test_the_member_is_there_and_called_as_documented(owner: str, member: str) -> None:
    wanted = TABLE[owner][member]
    found = inspect.getattr_static(ours(owner), member)
    if wanted == "property":
        assert isinstance(found, property)
        return
    assert wanted["async"] == (
        inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found)
    )
    mine = {name: p for name, p in inspect.signature(found).parameters.items() if name != "self"}
    if (owner, member) in UNNAMED:
        assert len(mine) == len(wanted["params"])
        return
    order = [one for one in mine.values() if one.kind is KINDS["any"]]
    for place, (name, kind, *default) in enumerate(wanted["params"]):
        if name in BY_NAME_TOO.get((owner, member), ()):
            assert mine[name].kind is KINDS["kw"]
            assert order[place].kind is KINDS[kind]
            continue
        assert mine[name].kind is KINDS[kind], name
        if kind == "any":
            assert order[place].name == name
        if default and default != ["..."]:
            assert mine[name].default == default[0], name
    extras = mine.keys() - {name for name, *_ in wanted["params"]}
    assert all(mine[name].default is not inspect.Parameter.empty for name in extras)


@pytest.mark.parametrize(
    "module",
    [
        "engine.transports.base",
        "engine.transports.smallwebrtc.transport",
        "engine.transports.websocket.client",
    ],
)
def test_importing_a_transport_loads_no_media_library(module: str) -> None:
    code = f"import {module}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "engine" in run.stdout.split()
    assert not HEAVY & set(run.stdout.split())


def test_the_bases_names_are_documented() -> None:
    module = importlib.import_module("engine.transports.base")
    assert all(inspect.getdoc(getattr(module, name)) for name in module.__all__)
    assert all(inspect.getdoc(getattr(transport, name)) for name in transport.__all__)
    assert all(inspect.getdoc(getattr(client, name)) for name in client.__all__)
