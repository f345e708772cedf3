"""A leg with STUN and TURN servers: what they add, and that nobody waits for a silent one."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import aioice
import pytest
from aioice import stun
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from cryptography.x509.oid import NameOID

from ipc.clock import MonotonicClock
from tests.fakes.legs import gather, leg, relay_of
from tests.fakes.turn import TurnServer
from tests.support import LoopErrors, until
from workers.gate import Gate
from workers.udp_mux import UdpMux
from workers.webrtc import relay, servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from workers.webrtc.ice import MuxedConnection
    from workers.webrtc.receiver import Receiver

HERE = "127.0.0.1"
CLOCK = MonotonicClock()
DEADLINE_S = 30


@pytest.fixture
async def mux() -> AsyncIterator[UdpMux]:
    gate = Gate(asyncio.get_running_loop(), CLOCK, lambda: 1 << 62)
    mux = UdpMux(CLOCK, gate, lambda: 1 << 62)
    mux.open([HERE], [])
    yield mux
    mux.close()


@pytest.fixture
async def server() -> AsyncIterator[TurnServer]:
    async with TurnServer() as server:
        yield server


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [HERE])
    monkeypatch.setattr(servers, "_silent", servers.SilentServers())
    # A server of a test answers, however long the machine stands still meanwhile.
    monkeypatch.setattr(servers, "DEADLINE_S", DEADLINE_S)


async def call_through_relay(ours: MuxedConnection) -> aioice.Connection:
    """A peer that is told of our relay alone and lets nothing else in."""
    await gather(ours)
    theirs = aioice.Connection(ice_controlling=True)
    (relayed,) = [one for one in ours.local_candidates if one.type == "relay"]
    hear = theirs.request_received

    def only_relayed(message: Any, address: Any, protocol: Any) -> None:
        if address == (relayed.host, relayed.port):
            hear(message, address, protocol)

    vars(theirs)["request_received"] = only_relayed  # a firewall
    await theirs.gather_candidates()
    for candidate in theirs.local_candidates:
        await ours.add_remote_candidate(candidate)
    await theirs.add_remote_candidate(relayed)
    for a, b in ((ours, theirs), (theirs, ours)):
        await a.add_remote_candidate(None)
        a.remote_username, a.remote_password = b.local_username, b.local_password
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(ours.connect(), theirs.connect())
    return theirs


def certificate_for(address: str, directory: Path) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate, and the context of the server that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    now = datetime.datetime.now(tz=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False
        )
        .sign(key, hashes.SHA256())
    )
    public, private = directory / "public.pem", directory / "private.pem"
    public.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context


class Media:
    heard_ns = 0

    def __init__(self, mux: UdpMux) -> None:
        self.mux = mux
        self.got: list[bytes] = []

    def media(self, length: int, _now_ns: int) -> None:
        self.got.append(bytes(self.mux.buffer[:length]))


# -- what they add ------------------------------------------------------------------------------


async def test_servers_add_a_reflexive_and_a_relayed_candidate(
    mux: UdpMux, server: TurnServer
) -> None:
    server.mapped = ("198.51.100.9", 4_000)
    ours = leg(mux, CLOCK, stun_at=server.address, turn_at=server.address)
    assert sorted(await gather(ours)) == ["host", "relay", "srflx"]
    relayed = next(one for one in ours.local_candidates if one.type == "relay")
    assert (relayed.host, relayed.port) in server.relayed
    await ours.close()
    assert not server.allocations


async def test_without_a_nat_there_is_no_reflexive_candidate(
    mux: UdpMux, server: TurnServer
) -> None:
    ours = leg(mux, CLOCK, stun_at=server.address)
    assert await gather(ours) == ["host"]
    assert server.did["BINDING"] == 1
    await ours.close()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_call_whose_only_path_is_the_relay_has_data_and_media_both_ways(
    mux: UdpMux, server: TurnServer, transport: str
) -> None:
    at = server.address if transport == "udp" else server.tcp_address
    ours = leg(mux, CLOCK, turn_at=at, transport=transport)
    media = Media(mux)
    ours.receiver = cast("Receiver", media)
    theirs = await call_through_relay(ours)
    chosen = ours.chosen
    assert chosen is not None
    assert chosen.local_type == "relay"
    async with asyncio.timeout(DEADLINE_S):
        await ours.send(b"\x16ours")
        assert await theirs.recv() == b"\x16ours"
        assert relay_of(ours).send_media(memoryview(b"\x80our media"), chosen.remote)
        assert await theirs.recv() == b"\x80our media"
        await theirs.send(b"\x80media")
        await theirs.send(b"\x16theirs")
        assert await ours.recv() == b"\x16theirs"
    assert media.got == [b"\x80media"]
    await ours.close()
    await theirs.close()
    assert not server.allocations
    assert not mux._legs


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_server_over_tls_is_used_when_its_certificate_is_trusted(
    mux: UdpMux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    certificate, context = certificate_for(HERE, tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with TurnServer(tls=context) as server:
        ours = leg(mux, CLOCK, turn_at=server.tcp_address, transport="tcp", tls=True)
        assert await gather(ours) == (["host", "relay"] if trusted else ["host"])
        await ours.close()
        assert not server.allocations


async def test_a_stale_nonce_is_no_obstacle(mux: UdpMux, server: TurnServer) -> None:
    ours = leg(mux, CLOCK, turn_at=server.address)
    await gather(ours)
    server.forget_nonce()
    relay_of(ours).sendto(b"\x00\x01", (HERE, 9))
    await until(lambda: server.did["438"] and server.did["channel data"], what="the datagram")
    await ours.close()
    assert not server.allocations


# -- what they do not do --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["silent", "gone", "wrong credential"])
async def test_servers_of_no_use_cost_a_short_deadline_and_a_warning(
    mux: UdpMux,
    server: TurnServer,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(servers, "DEADLINE_S", 0.05)
    if kind == "gone":
        server.die()
    server.silent = kind == "silent"
    credential = "swordfish" if kind != "wrong credential" else "cuttlefish"
    for _ in range(2):
        ours = leg(
            mux, CLOCK, stun_at=server.address, turn_at=server.address, credential=credential
        )
        assert await gather(ours) == ["host"]
        await ours.close()
    turn_warnings = [text for text in caplog.messages if "TURN" in text]
    assert len(turn_warnings) == 1, "once a minute is enough"
    assert str(server.address[1]) in turn_warnings[0]
    assert "fish" not in caplog.text


async def test_a_leg_that_is_closed_while_it_asks_leaves_nothing_behind(
    mux: UdpMux, server: TurnServer
) -> None:
    ours = leg(mux, CLOCK, turn_at=server.address)
    asking = asyncio.create_task(ours.gather_candidates())
    await until(lambda: server.did["ALLOCATE"], what="the question")
    await ours.close()
    async with asyncio.timeout(DEADLINE_S):
        await asking
    await until(lambda: not server.allocations, what="the end of the allocation")
    assert not ours._protocols


async def test_a_server_that_dies_does_not_hold_up_the_end(
    mux: UdpMux, server: TurnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "DELETE_DEADLINE_S", 0.05)
    ours = leg(mux, CLOCK, turn_at=server.address)
    await gather(ours)
    server.silent = True
    async with asyncio.timeout(DEADLINE_S):
        await ours.close()


async def test_a_peer_whose_relay_hangs_up_is_lost(mux: UdpMux, server: TurnServer) -> None:
    ours = leg(mux, CLOCK, turn_at=server.tcp_address, transport="tcp")
    theirs = await call_through_relay(ours)
    server.die()
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(DEADLINE_S):
            await ours.recv()
    assert ours.lost
    assert not relay_of(ours).send_media(b"\x80", (HERE, 9))
    await ours.close()
    await theirs.close()


async def test_addresses_from_which_no_way_leads_to_the_server_do_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a bridge, say; the second one answers, and then the others have only a moment."""
    hosts = [
        SimpleNamespace(local_candidate=SimpleNamespace(host=f"10.0.0.{n}", port=9))
        for n in range(1, 5)
    ]
    reflexive = SimpleNamespace(host="198.51.100.9", port=9)

    async def ask(protocol: Any, _server: object) -> tuple[Any, None]:
        if protocol is hosts[0]:
            raise stun.TransactionTimeout
        if protocol is not hosts[1]:
            await asyncio.Event().wait()
        return reflexive, None

    monkeypatch.setattr(servers, "server_reflexive_candidate", ask)
    monkeypatch.setattr(servers, "DEADLINE_S", 1_000)
    bare = SimpleNamespace(
        stun_server=("stun.example", 3478), turn_server=None, hosts=hosts, clock=CLOCK
    )
    async with asyncio.timeout(DEADLINE_S):
        assert await servers.ask_servers(cast("MuxedConnection", bare), 1) == [reflexive]


# -- hostile and bounded --------------------------------------------------------------------------


async def test_media_and_handshakes_of_strangers_behind_the_relay_are_counted(
    mux: UdpMux, server: TurnServer
) -> None:
    ours = leg(mux, CLOCK, turn_at=server.address)
    media = Media(mux)
    ours.receiver = cast("Receiver", media)
    theirs = await call_through_relay(ours)
    through = relay_of(ours)
    for data in (b"\x80media", b"\x16handshake", b"\xff", b""):
        through.datagram_received(data, (HERE, 9))
    assert mux.dropped == {"media_of_nobody": 1, "handshake_of_nobody": 1, "unknown_kind": 1}
    assert media.got == []
    await ours.close()
    await theirs.close()


async def test_what_a_server_writes_wrongly_is_counted(mux: UdpMux, server: TurnServer) -> None:
    errors = LoopErrors()
    ours = leg(mux, CLOCK, turn_at=server.address)
    await gather(ours)
    answer = bytes(stun.Message(stun.Method.DATA, stun.Class.INDICATION))
    hostile = stun.set_body_length(answer, 8) + b"\x00\x0d\x00\x02ab\0\0"  # LIFETIME of two bytes
    (reply,) = [allocation._reply for allocation in server.allocations.values()]
    reply(hostile)
    await until(lambda: mux.dropped["malformed"] == 1, what="the malformed one")
    assert errors.seen == []
    await ours.close()


async def test_what_waits_for_a_channel_and_how_many_there_are_is_bounded(
    mux: UdpMux, server: TurnServer
) -> None:
    ours = leg(mux, CLOCK, turn_at=server.address)
    await gather(ours)
    through = relay_of(ours)
    server.silent = True
    taken = [through.send_media(b"\x80", (HERE, 9)) for _ in range(100)]
    assert taken == [True] * relay.MAX_HELD + [False] * (100 - relay.MAX_HELD)
    peers = [
        through.send_media(b"\x80", (HERE, port)) for port in range(10, 10 + 2 * relay.MAX_PEERS)
    ]
    assert sum(peers) == relay.MAX_PEERS - 1
    learnt = [through.learn((HERE, port)) for port in range(2 * relay.MAX_PEERS)]
    assert sum(learnt) == relay.MAX_PEERS
    server.silent = False
    await ours.close()


async def test_channels_are_renewed_before_their_permission_ends(
    mux: UdpMux, server: TurnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "RENEW_S", 0.01)
    ours = leg(mux, CLOCK, turn_at=server.address)
    await gather(ours)
    relay_of(ours).sendto(b"\x00\x01", (HERE, 9))
    await until(lambda: server.did["CHANNEL_BIND"] >= 3, what="renewals")
    await ours.close()
