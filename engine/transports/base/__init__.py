"""What every transport is made of: parameters, the two ends, mixers, filters, the playout."""

from engine.transports.base.filter import BaseAudioFilter
from engine.transports.base.input import BaseInputTransport
from engine.transports.base.mixer import Background, BaseAudioMixer, SoundfileMixer
from engine.transports.base.output import BaseOutputTransport
from engine.transports.base.params import BotCapabilities, TransportParams, VideoInSourceParams
from engine.transports.base.playout import Playout
from engine.transports.base.sender import MediaSender
from engine.transports.base.transport import BaseTransport

__all__ = [
    "Background",
    "BaseAudioFilter",
    "BaseAudioMixer",
    "BaseInputTransport",
    "BaseOutputTransport",
    "BaseTransport",
    "BotCapabilities",
    "MediaSender",
    "Playout",
    "SoundfileMixer",
    "TransportParams",
    "VideoInSourceParams",
]
