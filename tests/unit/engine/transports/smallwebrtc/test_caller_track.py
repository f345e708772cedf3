"""The caller's voice as a track: what pulls it learns of the call's end in a track's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from aiortc.mediastreams import MediaStreamError

from engine.transports.smallwebrtc.media_tracks import CallerTrack
from ipc.errors import SessionClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Ended:
    """A session that has ended before anybody listened."""

    async def audio(self) -> AsyncIterator[Any]:
        raise SessionClosed("the session ended")
        yield


async def opened() -> None:
    pass


async def ended() -> None:
    raise SessionClosed("the session ended")


@pytest.mark.parametrize("open_media", [opened, ended])
async def test_a_call_that_has_ended_is_the_end_of_its_track(open_media: Any) -> None:
    track = CallerTrack(cast("Any", Ended()), open_media, lambda: True)
    with pytest.raises(MediaStreamError):
        await track.recv()
