"""How much unsent audio a write may leave behind, by the parameters of a transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.transports.base.mixer import SoundfileMixer

if TYPE_CHECKING:
    from engine.transports.base.params import TransportParams

# What speech waits for at most behind a background that is mixed here, or another destination:
# with the chunk that is being written. A little must wait, or there would be holes between chunks.
SHARED_LEAD_MS = 100
MIN_LEAD_MS = 20


def lead_ms(params: TransportParams, *, sounds_here: bool = False) -> int:
    """The lead in ms: `audio_out_lead_ms`, less where several sounds share the way out.

    With `sounds_here` a sound file is mixed here, too, and not by a worker.
    """
    wanted = params.audio_out_lead_ms
    if not (params.audio_out_destinations or _mixes_here(params, sounds_here)):
        return wanted
    return min(wanted, max(MIN_LEAD_MS, SHARED_LEAD_MS - 10 * params.audio_out_10ms_chunks))


def _mixes_here(params: TransportParams, sounds_here: bool) -> bool:
    mixers: Any = params.audio_out_mixer
    given: Mapping[str | None, Any] = mixers if isinstance(mixers, Mapping) else {None: mixers}
    return any(
        mixer is not None
        and (sounds_here or destination is not None or not isinstance(mixer, SoundfileMixer))
        for destination, mixer in given.items()
    )
