"""Frames for services whatever they do: what they are, their settings, and switching them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ipc.frames.base import ControlFrame, SystemFrame

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class ServiceMetadataFrame(SystemFrame):
    """What a service says of itself."""

    service_name: str
    user_turn_strategies: Any | None = field(default=None, kw_only=True)


@dataclass
class STTMetadataFrame(ServiceMetadataFrame):
    """A recognizer's time to its final segment, 99th percentile, in seconds."""

    ttfs_p99_latency: float


@dataclass
class LLMServiceMetadataFrame(ServiceMetadataFrame):
    """Whether a model listens and speaks by itself."""

    is_realtime_service: bool = False


@dataclass
class ServiceUpdateSettingsFrame(ControlFrame):
    """Changes settings of a service."""

    interruptible: bool = field(init=False, default=False)
    settings: Mapping[str, Any] = field(default_factory=dict)
    delta: Any | None = None
    service: Any | None = None
    reach_inactive_services: bool = False


@dataclass
class LLMUpdateSettingsFrame(ServiceUpdateSettingsFrame):
    """Changes settings of a model."""


@dataclass
class TTSUpdateSettingsFrame(ServiceUpdateSettingsFrame):
    """Changes settings of speech synthesis."""


@dataclass
class STTUpdateSettingsFrame(ServiceUpdateSettingsFrame):
    """Changes settings of speech recognition."""


@dataclass
class ServiceSwitcherFrame(ControlFrame):
    """Base of the frames for a switcher between services."""


@dataclass
class ManuallySwitchServiceFrame(ServiceSwitcherFrame):
    """The switcher takes `service` from here on."""

    service: Any


@dataclass
class ServiceSwitcherRequestMetadataFrame(ControlFrame):
    """The switcher asks `service` for its metadata."""

    service: Any
