"""What a worker makes sure of at its start: every private name that we reach for is there."""

from __future__ import annotations

from typing import Any

import aioice
import pytest
from aioice.turn import TurnClientUdpProtocol
from aiortc import RTCPeerConnection, RTCRtpSender, RTCRtpTransceiver
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcsctptransport import InboundStream, RTCSctpTransport
from pylibsrtp import Session

from ipc.errors import ConfigError
from workers.webrtc import hooks


async def test_the_installed_aiortc_fits() -> None:
    await hooks.self_test()


async def assert_named(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        await hooks.self_test()
    assert raised.value.code == "hooks"
    assert "this version of aiortc is not the one that the workers know" in str(raised.value)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["_run_rtp", "_run_rtcp"])
async def test_a_renamed_method_of_the_sender_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RTCRtpSender, f"{name}_anew", getattr(RTCRtpSender, name), raising=False)
    monkeypatch.delattr(RTCRtpSender, name)
    await assert_named(name)


@pytest.mark.parametrize(
    ("owner", "attribute", "named"),
    [
        (RTCRtpSender, "_RTCRtpSender__rtp_started", "__rtp_started"),
        (RTCRtpSender, "_RTCRtpSender__rtp_exited", "__rtp_exited"),
        (RTCRtpSender, "_RTCRtpSender__rtcp_started", "__rtcp_started"),
        (RTCRtpSender, "_RTCRtpSender__rtcp_exited", "__rtcp_exited"),
        (RTCPeerConnection, "_RTCPeerConnection__cname", "__cname"),
        (RTCRtpTransceiver, "_codecs", "_codecs"),
        (RTCRtpSender, "_ssrc", "_ssrc"),
        (RTCDtlsTransport, "_tx_srtp", "_tx_srtp"),
        (RTCRtpTransceiver, "_headerExtensions", "_headerExtensions"),
        *[(aioice.Connection, name, name) for name in hooks.OF_CONNECTION],
        *[(TurnClientUdpProtocol, name, name) for name in hooks.OF_TURN_CLIENT],
        *[(RTCSctpTransport, name, name) for name in hooks.OF_ASSOCIATION],
        (InboundStream, "reassembly", "reassembly"),
        (Session, "_srtp", "_srtp"),
    ],
)
async def test_a_renamed_attribute_is_named(
    owner: type[Any], attribute: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = owner.__init__

    def begin_otherwise(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        vars(self)[f"{attribute}_anew"] = vars(self).pop(attribute)

    monkeypatch.setattr(owner, "__init__", begin_otherwise)
    await assert_named(named)


async def test_a_library_that_protects_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks.Protector, "protect", lambda _self, length: length)
    with pytest.raises(ConfigError) as raised:
        await hooks.self_test()
    assert raised.value.code == "hooks"


@pytest.mark.parametrize("name", ["unprotect", "unprotect_rtcp"])
@pytest.mark.parametrize("answer", [lambda _self, length: length, lambda _self, _length: 0])
async def test_a_library_that_does_not_undo_in_place_is_refused(
    name: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks.Unprotector, name, answer)
    with pytest.raises(ConfigError) as raised:
        await hooks.self_test()
    assert raised.value.code == "hooks"


@pytest.mark.parametrize("name", ["srtp_protect", "srtp_unprotect", "srtp_unprotect_rtcp"])
async def test_a_function_that_the_library_has_lost_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Without:
        def __getattr__(self, other: str) -> Any:
            if other == name:
                raise AttributeError(f"no function {name}")
            return getattr(whole, other)

    from pylibsrtp import _binding

    whole = _binding.lib
    monkeypatch.setattr(_binding, "lib", Without())
    await assert_named(name)


@pytest.mark.parametrize(
    ("owner", "name"),
    hooks.REPLACED,
    ids=[f"{getattr(owner, '__name__', owner)}.{name}" for owner, name in hooks.REPLACED],
)
async def test_a_renamed_part_that_we_replace_is_named(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Without:
        def __getattr__(self, other: str) -> Any:
            raise AttributeError(f"{owner!r} has no attribute {other!r}")

    monkeypatch.setattr(hooks, "REPLACED", [(Without(), name)])
    await assert_named(name)


async def test_the_self_test_leaves_the_next_one_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(RTCRtpSender, "_run_rtp")
        await assert_named("_run_rtp")
    await hooks.self_test()
