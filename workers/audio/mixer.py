"""The background under a bot's speech: added to each frame just before it is encoded.

Hot path: every array is made when the frame's size is first seen. A frame that was mixed and
then did not leave is taken back by `undo`, so that the background goes on where it stands, and
where speech breaks off its last 2.5 ms come once more, mirrored and fading, instead of a click.
Frames and samples in, nothing out; knows no ring, packet, file or clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from workers.audio.sound import Pcm, Sound

FADE_PARTS = 8  # of a frame: 2.5 ms
LOWEST, HIGHEST = np.float32(-32_768), np.float32(32_767)
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


class Mixer:
    """What plays under the speech of one session, and how far it has come."""

    def __init__(self) -> None:
        self._sound: Sound | None = None
        self._next: Sound | None = None
        self._volume = 0.0
        self._next_volume = 0.0
        self._loop = self._next_loop = True
        # Fading for good.
        self._ending = False
        self._gain = 0.0
        self._at = 0
        # Before the newest frame, for `undo`.
        self._before_at = 0
        self._before_gain = 0.0
        self._before_speaking = False
        self._undoable = False
        # Whether the frame before carried speech, whose end lies in `_tail`.
        self._speaking = False
        self._channels = 0
        self._fit(0, 1)

    def _fit(self, size: int, channels: int) -> None:
        count = size // channels
        fade = count // FADE_PARTS
        self._channels = channels
        self._sum = np.zeros(size, np.float32)
        self._speech = np.zeros(size, np.float32)
        self._gains = np.zeros(size, np.float32)
        self._ramp = np.repeat(np.arange(1, count + 1, dtype=np.float32) / max(1, count), channels)
        falling = np.linspace(1, 0, fade, endpoint=False, dtype=np.float32)
        self._falling = falling[:, np.newaxis]
        self._tail = np.zeros((fade, channels), np.float32)
        self._tail_before = np.zeros((fade, channels), np.float32)
        self._undoable = self._speaking = False

    # -- what to play -----------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The next sample of the sound, per channel."""
        return self._at

    def play(self, sound: Sound | None, *, volume: float = 1.0, loop: bool = True) -> None:
        """Play another sound from its beginning, once what plays now has faded; None ends it."""
        self._undoable = False
        self._next, self._next_volume, self._next_loop = sound, volume, loop
        self._ending = sound is None
        self._volume = 0.0

    def go_on(self, sound: Sound, *, volume: float, loop: bool) -> None:
        """The same sound, perhaps at another rate or volume, from where it is.

        One that has ended begins again.
        """
        old = self._sound
        if old is None or self._next is not None or self._ending:
            self.play(sound, volume=volume, loop=loop)
            return
        self._sound = sound
        if old.hz != sound.hz:
            self._at = self._at * sound.hz // old.hz
            self._undoable = False
        if self._at >= sound.length:
            self._at, self._gain = 0, 0.0
            self._undoable = False
        self._loop, self._volume = loop, volume

    def rest(self) -> None:
        """What comes next does not follow what was mixed last."""
        self._speaking = self._undoable = False

    def sounds(self, hz: int) -> bool:
        """Whether there is something to add to the next frame of that rate."""
        if not self._gain and (self._next is not None or self._ending):
            self._sound, self._next, self._ending = self._next, None, False
            self._at, self._volume, self._loop = 0, self._next_volume, self._next_loop
        sound = self._sound
        if (
            sound is not None
            and sound.hz == hz
            and self._at < sound.length
            and (self._gain or self._volume)
        ):
            return True
        self._gain = 0.0  # what has ended or does not fit need not fade
        self._speaking = False
        return False

    # -- the beat ---------------------------------------------------------------------------

    def mix(self, frame: Pcm, channels: int, *, speaking: bool) -> None:
        """Add the background to interleaved int16 samples, in place; sums saturate.

        Without `speaking` what lies in `frame` is ignored, it becomes background alone.
        """
        if len(frame) != len(self._sum) or channels != self._channels:
            self._fit(len(frame), channels)
        self._before_at, self._before_gain = self._at, self._gain
        self._before_speaking = self._speaking
        self._undoable = True
        self._tail, self._tail_before = self._tail_before, self._tail
        total = self._sum
        self._background(total, channels)
        fade = len(self._falling)
        if speaking:
            speech = self._speech
            np.copyto(speech, frame)  # a sum of two types would allocate
            total += speech
            if fade:
                self._tail[:] = frame.reshape(-1, channels)[: -fade - 1 : -1]
        elif self._speaking and fade:
            tail = self._tail
            np.multiply(self._tail_before, self._falling, out=tail)
            total[: fade * channels] += tail.reshape(-1)
        self._speaking = speaking
        np.rint(total, out=total)
        np.maximum(total, LOWEST, out=total)
        np.minimum(total, HIGHEST, out=total)
        np.copyto(frame, total, casting="unsafe")

    def undo(self) -> None:
        """The newest frame does not leave: be as before it."""
        if not self._undoable:
            return
        self._undoable = False
        self._at, self._gain = self._before_at, self._before_gain
        self._speaking = self._before_speaking
        self._tail, self._tail_before = self._tail_before, self._tail

    def _background(self, out: Floats, channels: int) -> None:
        """The next samples of the sound at their volume; zeros behind its end."""
        sound = self._sound
        if sound is None:
            out[:] = 0
            return
        self._copy(sound, out, channels)
        gain, volume = self._gain, self._volume
        if gain != volume:
            gains = self._gains
            np.multiply(self._ramp, volume - gain, out=gains)
            gains += gain
            out *= gains
            self._gain = volume
        elif gain != 1.0:
            out *= gain

    def _copy(self, sound: Sound, out: Floats, channels: int) -> None:
        samples, length = sound.samples(channels), sound.length
        at, done, wanted = self._at, 0, len(out) // channels
        while done < wanted:
            if at >= length:
                if not self._loop:
                    out[done * channels :] = 0
                    break
                at = 0
            count = min(wanted - done, length - at)
            np.copyto(
                out[done * channels : (done + count) * channels],
                samples[at * channels : (at + count) * channels],
            )
            at += count
            done += count
        self._at = 0 if at >= length and self._loop else at
