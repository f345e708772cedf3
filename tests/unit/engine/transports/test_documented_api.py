"""Everything that the API documents promise is there, and is accepted as documented.

The facts in `documented/` were read from the documents by `document.py`. What we have beyond
them is optional.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from engine.transports.base import TransportParams
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
DOCUMENTED = [
    documented
    for path in sorted((HERE / "documented").glob("*.json"))
    for documented in json.loads(path.read_text())
]
# The parameters that every transport has stand in the document only as inherited ones.
OWN_OF_WEBSOCKETS = {"add_wav_header", "additional_headers", "serializer"}
KINDS = inspect.Parameter


def ours(documented: dict[str, Any]) -> Any:
    """Our class of a documented one."""
    module = documented["module"].replace("pipecat.", "engine.", 1)
    return getattr(importlib.import_module(module), documented["name"])


def there() -> list[dict[str, Any]]:
    """The documented classes of the modules that this version has."""
    found = []
    for documented in DOCUMENTED:
        try:
            importlib.import_module(documented["module"].replace("pipecat.", "engine.", 1))
        except ModuleNotFoundError:
            continue
        found.append(documented)
    return found


CLASSES = there()
MAKERS: dict[str, Callable[[Any], Any]] = {
    "SmallWebRTCTransport": lambda cls: cls(SmallWebRTCConnection(), TransportParams()),
    "WebsocketClientTransport": lambda cls: cls("ws://127.0.0.1:1"),
}
METHODS = [
    pytest.param(documented, method, id=f"{documented['name']}.{method['name']}")
    for documented in CLASSES
    for method in documented["methods"]
]


def by_name(documented: dict[str, Any]) -> str:
    return str(documented["name"])


def value_of(source: str) -> Any:
    return [] if source == "FACTORY" else ast.literal_eval(source)


def is_subsequence(wanted: list[str], given: list[str]) -> bool:
    rest = iter(given)
    return all(name in rest for name in wanted)


def check_model(model: type[BaseModel], parameters: list[dict[str, str]]) -> None:
    """The documented fields exist, in their order, with their defaults; ours are optional."""
    fields = model.model_fields
    names = [parameter["name"] for parameter in parameters]
    assert is_subsequence(names, list(fields)), names
    for parameter in parameters:
        field = fields[parameter["name"]]
        if "default" in parameter:
            assert field.get_default(call_default_factory=True) == value_of(parameter["default"])
    for name in fields.keys() - set(names):
        assert field_is_optional(fields[name]), name


def field_is_optional(field: Any) -> bool:
    return field.default is not PydanticUndefined or field.default_factory is not None


def check_signature(given: Any, parameters: list[dict[str, str]], *, method: bool) -> None:
    """The documented parameters exist and can be given as documented; ours are optional."""
    signature = inspect.signature(given)
    known = dict(signature.parameters)
    positional = [p["name"] for p in parameters if p["kind"] == "positional"]
    order = [name for name, p in known.items() if p.kind is KINDS.POSITIONAL_OR_KEYWORD]
    assert is_subsequence(positional, order), signature
    for parameter in parameters:
        if parameter["kind"] == "rest":
            assert any(p.kind is KINDS.VAR_KEYWORD for p in known.values())
            continue
        mine = known.pop(parameter["name"])
        if "default" in parameter:
            assert mine.default == value_of(parameter["default"]), mine
        else:
            assert mine.default is KINDS.empty or parameter["kind"] == "positional", mine
    known.pop("self", None)
    variable = (KINDS.VAR_KEYWORD, KINDS.VAR_POSITIONAL)
    extras = [p for p in known.values() if p.kind not in variable]
    assert all(p.default is not KINDS.empty for p in extras), extras
    bound = ["self"] if method else []
    values: list[object] = [object() for _ in positional]
    signature.bind(*bound, *values)
    signature.bind(*bound, **dict(zip(positional, values, strict=True)))


@pytest.mark.parametrize("documented", CLASSES, ids=by_name)
def test_the_class_is_there_with_its_bases(documented: dict[str, Any]) -> None:
    ancestors = {ancestor.__name__ for ancestor in ours(documented).__mro__}
    assert set(documented["bases"]) <= ancestors


@pytest.mark.parametrize("documented", CLASSES, ids=by_name)
def test_it_is_made_as_documented(documented: dict[str, Any]) -> None:
    cls = ours(documented)
    if issubclass(cls, BaseModel):
        check_model(cls, documented["parameters"])
    else:
        check_signature(cls, documented["parameters"], method=False)


@pytest.mark.parametrize(("documented", "method"), METHODS)
def test_the_method_is_called_as_documented(
    documented: dict[str, Any], method: dict[str, Any]
) -> None:
    mine = getattr(ours(documented), method["name"])
    if method.get("yields"):
        assert inspect.isasyncgenfunction(mine)
    else:
        assert inspect.iscoroutinefunction(mine) == method["async"]
    check_signature(mine, method["parameters"], method=True)


@pytest.mark.parametrize("documented", CLASSES, ids=by_name)
def test_its_properties_and_attributes_are_there(documented: dict[str, Any]) -> None:
    cls = ours(documented)
    for name in documented["properties"]:
        assert isinstance(inspect.getattr_static(cls, name), property), name
    fields = cls.model_fields if issubclass(cls, BaseModel) else {}
    for name in documented["attributes"]:
        assert name in fields or hasattr(cls, name), name


@pytest.mark.parametrize("documented", [d for d in CLASSES if d["events"]], ids=by_name)
async def test_its_events_are_there(
    documented: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    made = MAKERS[documented["name"]](ours(documented))
    for event, parameters in documented["events"].items():
        heard: list[tuple[Any, ...]] = []
        made.add_event_handler(event, lambda *given, heard=heard: heard.append(given))
        values = [object() for _ in parameters[1:]]
        await made._call_event_handler(event, *values)
        await made.cleanup()
        assert heard == [(made, *values)]
    assert caplog.records == []


def test_every_transport_takes_the_parameters_that_the_document_lists_as_inherited() -> None:
    client = next(cls for cls in DOCUMENTED if cls["name"] == "WebsocketClientParams")
    inherited = [p for p in client["parameters"] if p["name"] not in OWN_OF_WEBSOCKETS]
    check_model(TransportParams, inherited)
    TransportParams(**{p["name"]: value_of(p["default"]) for p in inherited})


def test_the_documents_were_read_whole() -> None:
    assert len(DOCUMENTED) == 13
    assert [one["name"] for one in CLASSES] == [one["name"] for one in DOCUMENTED]
    assert sum(len(documented["methods"]) for documented in DOCUMENTED) == 55
    assert sum(len(documented["events"]) for documented in DOCUMENTED) == 5
