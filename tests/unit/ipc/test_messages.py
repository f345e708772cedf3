from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import MalformedMessage, MessageTooLarge, Overloaded, ProtocolError
from ipc.messages import (
    Beat,
    Candidate,
    Candidates,
    CloseSession,
    Failure,
    Hello,
    Message,
    OfferSession,
    Ok,
    SendMessage,
    WorkerBeat,
)
from ipc.wire import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_MESSAGE_BYTES,
    TYPES,
    Unreadable,
    check_data,
    decode,
    encode,
)

# The wire as it is: whoever changes these bytes changes the protocol's version.
GOLDEN: list[tuple[Message, dict[str, int], str]] = [
    (Ok(), {"reply_to": 1}, "83a17601a174a26f6ba2726501"),
    (Beat(number=300), {"request": 7}, "84a17601a174a462656174a66e756d626572cd012ca2696407"),
    (
        Failure(code="limit", message="no", retryable=True),
        {"reply_to": 2},
        "86a17601a174a76661696c757265a4636f6465a56c696d6974a76d657373616765a26e6f"
        "a9726574727961626c65c3a2726502",
    ),
    (
        CloseSession(session="s_1"),
        {},
        "83a17601a174ad636c6f73655f73657373696f6ea773657373696f6ea3735f31",
    ),
    (
        Candidates(session="s", candidates=[Candidate(candidate="c", sdp_mid="0")]),
        {},
        "84a17601a174aa63616e64696461746573a773657373696f6ea173aa63616e646964617465739183"
        "a963616e646964617465a163a77364705f6d6964a130af7364705f6d6c696e655f696e646578c0",
    ),
    (
        OfferSession(session="s_1", epoch=2, key=bytes(range(16)), media="shm", segment="bb"),
        {"request": 7},
        "88a17601a174ad6f666665725f73657373696f6ea773657373696f6ea3735f31a565706f636802"
        "a36b6579c410000102030405060708090a0b0c0d0e0fa56d65646961a373686da77365676d656e74"
        "a26262a2696407",
    ),
    (
        SendMessage(session="s", data={"a": [1.5, None, "ü"]}, at=2**40),
        {},
        "85a17601a174ac73656e645f6d657373616765a773657373696f6ea173a46461746181a16193cb"
        "3ff8000000000000c0a2c3bca26174cf0000010000000000",
    ),
]
NAMES = {
    *("answer", "app_message", "beat", "candidates", "close_session", "connected", "disconnected"),
    *("drop_ring", "failure", "goodbye", "hello", "leg_state", "offer", "offer_session", "ok"),
    *("open_ring", "ring_attached", "ring_opened", "send_message", "session_closed"),
    *("track_status", "welcome", "worker_beat", "worker_hello", "worker_settings"),
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def packed(**fields: Any) -> bytes:
    data: bytes = msgpack.packb({"v": 1, **fields})
    return data


def refusal(data: bytes) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        decode(data)
    return caught.value


@pytest.mark.parametrize(("message", "numbers", "wire"), GOLDEN)
def test_messages_have_the_same_bytes_as_ever(
    message: Message, numbers: dict[str, int], wire: str
) -> None:
    assert encode(message, **numbers).hex() == wire

    envelope = decode(bytes.fromhex(wire))

    assert envelope == (message, numbers.get("request"), numbers.get("reply_to"))


def test_every_type_on_the_wire_keeps_its_name() -> None:
    assert set(TYPES) >= NAMES
    assert len(set(TYPES.values())) == len(TYPES)


def test_unknown_fields_are_ignored() -> None:
    envelope = decode(packed(t="beat", number=4, colour="blue", id=3))

    assert envelope == (Beat(number=4), 3, None)


def test_missing_fields_take_their_defaults() -> None:
    assert decode(packed(t="hello", name="echo")).message == Hello(name="echo")


@pytest.mark.parametrize("kind", ["teleport", "", None, 5, ["beat"], {"a": 1}])
def test_unknown_types_are_refused_with_a_code_and_their_number(kind: object) -> None:
    unreadable = refusal(packed(t=kind, id=9))

    assert unreadable.error.code == "unknown_message"
    assert (unreadable.request, unreadable.is_failure) == (9, False)


@pytest.mark.parametrize("version", [0, 2, -1, "1", None, [1]])
def test_other_versions_are_refused_with_a_code(version: object) -> None:
    unreadable = refusal(msgpack.packb({"v": version, "t": "beat", "number": 1, "id": 5}))

    assert unreadable.error.code == "version_mismatch"
    assert unreadable.request == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"t": "beat"},
        {"t": "beat", "number": "4"},
        {"t": "beat", "number": 1.5},
        {"t": "beat", "number": None},
        {"t": "hello", "name": 5},
        {"t": "hello", "name": "x", "media": "carrier pigeon"},
        {"t": "candidates", "session": "s", "candidates": [{"sdp_mid": "0"}]},
        {"t": "candidates", "session": "s", "candidates": "all of them"},
        {"t": "offer_session", "session": "s", "epoch": 1, "key": 3, "media": "shm"},
    ],
)
def test_wrong_fields_are_malformed(fields: dict[str, Any]) -> None:
    unreadable = refusal(packed(id=1, **fields))

    assert unreadable.error.code == "malformed_message"
    assert unreadable.request == 1
    assert fields["t"] in unreadable.error.message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"hello",
        msgpack.packb([1, 2]),
        msgpack.packb(5),
        msgpack.packb(None),
        packed(t="beat", number=1) + b"\x00",
        packed(t="beat", number=1)[:-1],
        msgpack.packb({1: 2}),
        b"\x81\xa1t\xa2\xff\xfe",  # text that is not UTF-8
        b"\xdf\xff\xff\xff\xff",  # a map that claims 2^32 - 1 entries
        b"\xdd\xff\xff\xff\xff",  # a list that claims as many
        b"\x91" * 2000,
    ],
)
def test_bytes_that_are_no_message_are_malformed(data: bytes) -> None:
    unreadable = refusal(data)

    assert unreadable.error.code == "malformed_message"
    assert unreadable.request is None


@pytest.mark.parametrize(
    "value",
    [
        msgpack.Timestamp(1, 2),
        msgpack.ExtType(5, b"x"),
        [{"deep": msgpack.Timestamp(1)}],
    ],
)
def test_extension_types_are_malformed(value: object) -> None:
    unreadable = refusal(packed(t="send_message", session="s", data=value))

    assert unreadable.error.code == "malformed_message"


def test_numbers_that_are_not_integers_answer_nobody() -> None:
    for number in (True, "5", 1.0, None):
        assert refusal(packed(t="teleport", id=number)).request is None


def test_a_message_may_nest_as_deep_as_the_limit_and_no_deeper() -> None:
    def nested(levels: int) -> bytes:
        data: Any = 1
        for _ in range(levels):
            data = [data]
        return packed(t="send_message", session="s", data=data)

    deepest = MAX_DEPTH - 1

    assert isinstance(decode(nested(deepest)).message, SendMessage)
    assert refusal(nested(deepest + 1)).error.code == "malformed_message"


def test_a_message_over_the_limit_is_neither_written_nor_read() -> None:
    with pytest.raises(MessageTooLarge):
        encode(SendMessage(session="s", data="x" * MAX_MESSAGE_BYTES))

    unreadable = refusal(packed(t="send_message", session="s", data="x" * MAX_MESSAGE_BYTES))

    assert unreadable.error.code == "message_too_large"


def test_a_message_just_under_the_limit_travels() -> None:
    message = SendMessage(session="s", data="x" * (MAX_MESSAGE_BYTES - 100))

    assert decode(encode(message)).message == message


@pytest.mark.parametrize(
    "data", [{1, 2}.__iter__(), object(), 2**64, {(1, 2): 3}, "\ud800", {b"a": 1}]
)
def test_data_that_is_not_json_is_refused_where_it_is_sent(data: object) -> None:
    with pytest.raises(MalformedMessage):
        encode(SendMessage(session="s", data=data))


def test_data_that_contains_itself_is_refused_where_it_is_sent() -> None:
    data: list[Any] = []
    data.append(data)

    with pytest.raises(MalformedMessage):
        encode(SendMessage(session="s", data=data))


@pytest.mark.parametrize(
    "data",
    [
        [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]],
        ((((((((((((((((1,),),),),),),),),),),),),),),),),
        [0] * (MAX_ITEMS + 1),
        "x" * MAX_MESSAGE_BYTES,
        object(),
        msgpack.Timestamp(1),
    ],
    ids=["deep list", "deep tuple", "long list", "large", "foreign", "timestamp"],
)
def test_data_that_the_other_side_would_refuse_is_refused_at_once(data: object) -> None:
    with pytest.raises(ProtocolError):
        check_data(data)


@given(data=JSON)
def test_data_that_was_checked_is_read_on_the_other_side(data: object) -> None:
    try:
        check_data(data)
    except ProtocolError:
        return

    assert decode(encode(SendMessage(session="s", data=data))).message is not None


def test_number_keys_become_text_as_in_json() -> None:
    read = decode(encode(SendMessage(session="s", data={1: "one"}))).message

    assert read == SendMessage(session="s", data={"1": "one"})


def test_a_failure_carries_an_error_across() -> None:
    failure = Failure.of(Overloaded("too much", retryable=False))

    read = decode(encode(failure)).message

    assert isinstance(read, Failure)
    error = read.error()
    assert isinstance(error, Overloaded)
    assert (error.message, error.retryable) == ("too much", False)


def test_a_failure_of_an_older_peer_has_its_code_for_its_kind() -> None:
    read = decode(packed(t="failure", code="overloaded", message="")).message

    assert isinstance(read, Failure)
    assert isinstance(read.error(), Overloaded)


def test_an_unreadable_failure_is_known_as_one() -> None:
    assert refusal(packed(t="failure")).is_failure


@given(
    data=JSON,
    request=st.none() | st.integers(0, 2**63),
    reply_to=st.none() | st.integers(0, 2**63),
)
def test_what_is_written_is_read_the_same(
    data: object, request: int | None, reply_to: int | None
) -> None:
    message = SendMessage(session="s", data=data, at=3)

    wire = encode(message, request, reply_to)
    depth = _levels(data) + 1

    if depth > MAX_DEPTH:
        assert refusal(wire).error.code == "malformed_message"
    else:
        assert decode(wire) == (message, request, reply_to)


def _levels(data: object) -> int:
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else None
    return 0 if inner is None else 1 + max(map(_levels, inner), default=0)


@given(
    fields=st.dictionaries(
        st.sampled_from(["v", "t", "id", "re", "number", "session", "data", "load", "name"])
        | st.text(max_size=5),
        JSON | st.sampled_from([1, *TYPES]) | st.binary(max_size=8),
    )
)
def test_any_map_is_a_message_or_refused(fields: dict[str, Any]) -> None:
    refused = None
    try:
        message = decode(msgpack.packb(fields)).message
    except Unreadable as unreadable:
        refused = unreadable.error.code

    if refused is None:
        assert decode(encode(message)).message == message
    else:
        assert refused in ("malformed_message", "unknown_message", "version_mismatch")


def test_a_beat_keeps_its_fractions() -> None:
    beat = WorkerBeat(number=1, ticks=2, sessions=3, load=0.25, late_ms=1.5)

    assert decode(encode(beat)).message == beat
