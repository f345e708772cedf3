"""Any speech, messages and interruptions in any order: what must hold whatever happens.

Each frame's samples have a value of their own, so the written bytes tell whose they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.transports.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    TTSStoppedFrame,
)
from ipc.clock import ManualClock
from tests.unit.engine.transports.base.output_world import (
    CHUNK,
    DOWN,
    MS,
    UP,
    OutputWorld,
    audio,
    speech,
)

if TYPE_CHECKING:
    from engine.transports.frames import Frame
    from engine.transports.processors import FrameDirection

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["speech", "audio"]),
            st.sampled_from([1, 7, 40, 55, 130, 800]),
            st.booleans(),
        ),
        st.tuples(st.just("message"), st.just(0), st.booleans()),
        st.tuples(st.just("stopped"), st.just(0), st.just(True)),
        st.tuples(st.just("interrupt"), st.just(0), st.just(True)),
        st.tuples(st.just("play"), st.sampled_from([1, 20, 40, 300, 1000]), st.just(True)),
        st.tuples(st.just("pass"), st.sampled_from([10, 200, 4000]), st.just(True)),
    ),
    max_size=25,
)


@dataclass
class Given:
    """What was handed in: which frames, and how many of them before the last interruption."""

    frames: list[tuple[int, int, bool]] = field(default_factory=list)
    messages: list[tuple[int, bool, int]] = field(default_factory=list)
    # How many of them came before the last interruption, and what was written of them by then.
    interrupted: int = 0
    interrupted_messages: int = 0
    written: dict[int, int] = field(default_factory=dict)


def step(world: OutputWorld, handed: Given, what: str, amount: int, may_go: bool) -> None:
    if what in ("speech", "audio"):
        value = len(handed.frames) + 1
        make = speech if what == "speech" else audio
        world.handle(make(value, amount, interruptible=may_go))
        handed.frames.append((value, amount * MS, may_go))
    elif what == "message":
        number = len(handed.messages)
        frame = OutputTransportMessageFrame(number)
        frame.interruptible = may_go
        world.handle(frame)
        handed.messages.append((number, may_go, len(handed.frames)))
    elif what == "stopped":
        world.handle(TTSStoppedFrame())
    elif what == "interrupt":
        handed.written = written_of(world, handed)
        world.handle(InterruptionFrame())
        handed.interrupted = len(handed.frames)
        handed.interrupted_messages = len(handed.messages)
    elif what == "play":
        if world.output.ahead:
            world.playout.plays(amount)
        world.run(amount, step_ms=50)
    else:
        world.run(amount, step_ms=50)


def written_of(world: OutputWorld, handed: Given) -> dict[int, int]:
    """How many samples of each frame were written so far."""
    values = np.frombuffer(world.written, np.int16)
    return {value: int((values == value).sum()) for value, _, _ in handed.frames}


def finish(world: OutputWorld) -> None:
    ending = world.begin(world.output.process_frame(EndFrame(), DOWN))
    for _ in range(400):
        if ending.done():
            break
        if world.output.ahead:
            world.playout.plays(100)
        world.run(100, step_ms=50)
    assert ending.done(), "the end comes"


def check(world: OutputWorld, handed: Given) -> None:
    heard = np.frombuffer(world.written, np.int16)
    heard = heard[heard != 0]  # the padding of last chunks
    assert (np.diff(heard) >= 0).all(), "in order, and nothing of an older frame comes later"
    counts = written_of(world, handed)
    lasting = any(not may_go for _, _, may_go in handed.frames)
    for number, (value, size, may_go) in enumerate(handed.frames):
        if may_go and number < handed.interrupted:
            # A part of a chunk may still come if something in it is uninterruptible.
            assert counts[value] - handed.written[value] < (CHUNK if lasting else 1)
        else:
            assert counts[value] == size, "what nobody interrupted is whole"
    sent = world.output.messages
    assert sent == sorted(set(sent)), "in order, and each once"
    for number, (name, may_go, _) in enumerate(handed.messages):
        if not may_go or number >= handed.interrupted_messages:
            assert name in sent
    check_events(world, DOWN)
    check_events(world, UP)
    passed = [frame for frame, _ in world.output.pushed if isinstance(frame, OutputAudioRawFrame)]
    ids = [frame.id for frame in passed]
    written = [frame.id for frame in world.output.writes]
    assert [one for one in written if one in set(ids)] == ids, "what goes on was written, in order"
    if world.output.ahead:
        played = sum(p.end - p.start for p in world.playout.pieces if p.state == "played")
        assert sum(frame.num_frames for frame in passed) <= played


def check_events(world: OutputWorld, direction: FrameDirection) -> None:
    kinds = (BotStartedSpeakingFrame, BotStoppedSpeakingFrame)
    events: list[Frame] = [
        frame for frame, way in world.output.pushed if way is direction and isinstance(frame, kinds)
    ]
    for number, event in enumerate(events):
        assert isinstance(event, kinds[number % 2]), "started, stopped, started, ..."
    assert len(events) % 2 == 0, "whatever began is over at the end"


@given(operations=OPERATIONS, ahead=st.booleans())
@settings(max_examples=150)
def test_whatever_is_said_and_interrupted(
    operations: list[tuple[str, int, bool]], ahead: bool
) -> None:
    handed = Given()
    with OutputWorld(ManualClock(), ahead=ahead) as world:
        for what, amount, may_go in operations:
            step(world, handed, what, amount, may_go)
        finish(world)
        check(world, handed)
