"""Our classes have what Pipecat's of the same names have: methods, parameters, fields, events."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc import connection, request_handler, transport
from pipecat.transports.websocket import client, fastapi

from engine.integrations import pipecat as ours
from engine.transports.websocket.params import DialParams

CLASSES = {
    "SmallWebRTCConnection": connection.SmallWebRTCConnection,
    "SmallWebRTCInputTransport": transport.SmallWebRTCInputTransport,
    "SmallWebRTCOutputTransport": transport.SmallWebRTCOutputTransport,
    "SmallWebRTCRequestHandler": request_handler.SmallWebRTCRequestHandler,
    "SmallWebRTCTransport": transport.SmallWebRTCTransport,
    "FastAPIWebsocketTransport": fastapi.FastAPIWebsocketTransport,
    "WebsocketClientInputTransport": client.WebsocketClientInputTransport,
    "WebsocketClientOutputTransport": client.WebsocketClientOutputTransport,
    "WebsocketClientSession": client.WebsocketClientSession,
    "WebsocketClientTransport": client.WebsocketClientTransport,
}
DATA = ("IceCandidate", "SmallWebRTCPatchRequest", "SmallWebRTCRequest")


def public(kind: type) -> dict[str, Any]:
    """What a class itself defines for others, and its constructor."""
    names = [name for name in vars(kind) if not name.startswith("_")] + ["__init__"]
    return {name: inspect.getattr_static(kind, name) for name in names}


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "kwargs"]


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_is_there_with_its_parameters(name: str) -> None:
    mine = getattr(ours, name)
    for method, found in public(CLASSES[name]).items():
        assert hasattr(mine, method), f"{name}.{method}"
        if not inspect.isfunction(found):
            continue
        own = inspect.getattr_static(mine, method)
        assert parameters(own)[: len(parameters(found))] == parameters(found), f"{name}.{method}"
        assert inspect.iscoroutinefunction(own) == inspect.iscoroutinefunction(found), method


@pytest.mark.parametrize("name", DATA)
def test_every_field_of_a_request_is_there(name: str) -> None:
    stock = dataclasses.fields(getattr(request_handler, name))
    assert [field.name for field in dataclasses.fields(getattr(ours, name))] == [
        field.name for field in stock
    ]


def test_connection_modes_are_the_same() -> None:
    modes = {mode.name: mode.value for mode in ours.ConnectionMode}
    assert modes == {mode.name: mode.value for mode in request_handler.ConnectionMode}


def test_parameters_are_pipecats_and_the_lead() -> None:
    assert issubclass(ours.TransportParams, TransportParams)
    added = ours.TransportParams.model_fields.keys() - TransportParams.model_fields.keys()
    assert added == {"audio_out_lead_ms"}
    assert ours.TransportParams().audio_out_lead_ms == 400


PARAMS = {
    "FastAPIWebsocketParams": (fastapi.FastAPIWebsocketParams, set()),
    "WebsocketClientParams": (client.WebsocketClientParams, set(DialParams.model_fields)),
}


@pytest.mark.parametrize("name", PARAMS)
def test_parameters_of_websockets_are_pipecats_with_their_defaults(name: str) -> None:
    stock, more = PARAMS[name]
    mine = getattr(ours, name)
    assert issubclass(mine, stock)
    assert mine.model_fields.keys() - stock.model_fields.keys() == {"audio_out_lead_ms", *more}
    own, theirs = mine(), stock()
    for field in stock.model_fields:
        assert getattr(own, field) == getattr(theirs, field), field


@pytest.mark.parametrize("lead_ms", [-1, 901])
def test_a_lead_that_cannot_be_is_refused(lead_ms: int) -> None:
    with pytest.raises(ValueError):
        ours.TransportParams(audio_out_lead_ms=lead_ms)
