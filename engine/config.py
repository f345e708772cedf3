"""Every setting with its unit, default, range and reason.

A flag of `serve` beats a `BACKBEAT_*` variable, which beats the TOML file; a key that no
setting has is an error wherever it stands.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import ssl
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ipc.errors import ConfigError
from ipc.ice_server import IceServer

MAX_PORT = 65_535
MAX_ICE_SERVERS = 8
# Besides one port each: one for the warm spare, one while a worker is replaced.
SPARE_PORTS = 2
ENV_PREFIX = "BACKBEAT_"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")
# Read by bots (the endpoint of the engine) and by `serve` itself (where the file is).
ENV_OTHERS = {"BACKBEAT_ENDPOINT", "BACKBEAT_CONFIG"}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """What an engine is told at its start."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, arbitrary_types_allowed=True
    )

    host: str = Field(
        "127.0.0.1", description="address that HTTP and WebSockets bind; loopback unless told"
    )
    port: int = Field(7860, ge=0, le=65535, description="HTTP port; 0 takes any free one")
    ws_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="TCP port for WebSocket callers; 0 takes any free one, and none given the one "
        "after the HTTP port",
    )
    public_ws_url: str | None = Field(
        None,
        description="ws:// or wss:// URL under which callers reach that port (through a proxy); "
        "/ws-client is added",
    )
    allowed_host: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="host name that HTTP requests may be for, repeatable; on loopback the names "
        "of this machine's loopback are always allowed, elsewhere none given allows all",
    )
    allowed_origin: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="origin whose pages may call (CORS), repeatable; none given allows all, "
        "but on loopback only pages of this machine",
    )
    bot: str | None = Field(
        None, description="bot to start: MODULE:NAME or FILE[:NAME]; none starts the echo demo"
    )
    bots: int = Field(1, ge=0, le=256, description="bot processes to start; 0 waits for others'")
    default_bot: str | None = Field(
        None, description="name of the bot for callers that ask for none; else the first one known"
    )
    workers: int = Field(
        default_factory=_cores, ge=1, le=256, description="media processes; one per core"
    )
    spare_workers: int = Field(
        1, ge=0, le=16, description="warm media processes that take a dead one's place at once"
    )
    ice_address: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="local address offered to callers, repeatable; "
        "none offers every non-loopback one",
    )
    udp_port: str = Field(
        "0",
        pattern=r"^\d{1,5}(-\d{1,5})?$",
        description="UDP ports for media: 0 takes any; one number is the first of workers + 2; "
        "or a range such as 40000-40009. Each worker binds one",
    )
    public_address: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="address that callers see instead of the local one (NAT, one to one), "
        "repeatable: PUBLIC, or LOCAL=PUBLIC where there are several",
    )
    ice_server: Annotated[list[IceServer], NoDecode] = Field(
        default_factory=list,
        description="STUN or TURN server for workers and the page, repeatable: stun:HOST[:PORT] "
        'or JSON {"urls": "turn:HOST[:PORT]", "username": NAME, "credential": SECRET}, which is '
        "better kept in the file or the environment; workers use the first of each kind",
    )
    tls_ca_file: FilePath | None = Field(
        None,
        description="PEM file of authorities that WebSocket servers' certificates may be from, "
        "besides the system's",
    )
    runtime_dir: Path | None = Field(
        None, description="directory of the sockets; default backbeat-<uid> in the run directory"
    )
    bot_token: SecretStr | None = Field(
        None, description="secret that a bot's hello must carry; from file or environment only"
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="log level")
    mic_ms: int = Field(
        5_000, ge=100, le=60_000, description="ms of the caller's speech kept for a stalled bot"
    )
    speaker_ms: int = Field(
        1_000, ge=100, le=60_000, description="ms of speech that a bot may queue ahead"
    )
    priority: Literal["auto", "none"] = Field(
        "auto",
        description="scheduling of the workers: auto takes real-time priority where it is "
        "permitted, else a better nice value; none leaves it alone",
    )
    beat_ms: int = Field(50, ge=10, le=1_000, description="ms between the beats of a worker")
    worker_stall_ms: int = Field(
        1_000, ge=200, le=60_000, description="ms without a beat until a worker counts as hung"
    )
    bot_beat_ms: int = Field(250, ge=50, le=5_000, description="ms between the beats of a bot")
    bot_stall_s: float = Field(
        15, ge=1, le=3_600, description="s without a beat until a bot's sessions are taken away"
    )
    bot_accept_s: float = Field(2, gt=0, le=60, description="s that a bot has to attach a session")
    connect_s: float = Field(30, gt=0, le=300, description="s that a caller has to connect")
    resume_s: float = Field(30, ge=0, le=600, description="s that an interrupted session is held")
    max_sessions: int = Field(1_000, ge=1, le=100_000, description="sessions held at once")

    @field_validator(
        "ice_address", "public_address", "allowed_host", "allowed_origin", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("ice_server", mode="before")
    @classmethod
    def _are_servers(cls, value: object) -> list[IceServer]:
        given = value if isinstance(value, list | tuple) else [value]
        entries = [entry for one in given for entry in _servers_in(one)]
        if len(entries) > MAX_ICE_SERVERS:
            raise ConfigError(
                f"ice_server: at most {MAX_ICE_SERVERS} servers, not {len(entries)}",
                code="ice_server",
            )
        return [IceServer.of(entry) for entry in entries]

    @field_validator("public_ws_url")
    @classmethod
    def _is_websocket_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("a URL is ws://HOST[:PORT][/PATH] or wss://…, without a query")
        return value

    @field_validator("tls_ca_file")
    @classmethod
    def _has_certificates(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
            except (OSError, ssl.SSLError) as error:
                raise ValueError(f"{value} holds no certificates in PEM: {error}") from error
            value = value.resolve()
        return value

    @field_validator("ice_address")
    @classmethod
    def _are_addresses(cls, value: list[str]) -> list[str]:
        return [str(ipaddress.ip_address(address)) for address in value]

    @field_validator("public_address")
    @classmethod
    def _are_public(cls, value: list[str]) -> list[str]:
        for entry in value:
            for address in entry.split("=", 1):
                ipaddress.ip_address(address)
        return value

    @model_validator(mode="after")
    def _has_enough_ports(self) -> Settings:
        ports = self.udp_ports
        if self.udp_port.strip("0") and len(ports) < self.workers + SPARE_PORTS:
            raise ValueError(
                f"udp_port: {self.workers} workers need {self.workers + SPARE_PORTS} ports (one "
                f"each, one for the spare, one while a worker is replaced), not {len(ports)}"
            )
        if ports and not 1 <= ports[0] <= ports[-1] <= MAX_PORT:
            raise ValueError(f"udp_port: ports are 1 to {MAX_PORT}")
        return self

    @property
    def udp_ports(self) -> list[int]:
        """The ports that workers may bind; empty for any."""
        first, _, last = self.udp_port.partition("-")
        if last:
            return list(range(int(first), int(last) + 1))
        count = self.workers + SPARE_PORTS if int(first) else 0
        return list(range(int(first), int(first) + count))

    @property
    def on_loopback(self) -> bool:
        """Whether HTTP is for this machine only."""
        return self.host in LOOPBACK_NAMES

    @property
    def allowed_hosts(self) -> list[str]:
        """Every host name that may stand in a request; empty for all."""
        if not self.on_loopback:
            return self.allowed_host
        return [*LOOPBACK_NAMES, *(name.lower() for name in self.allowed_host)]

    def shown(self) -> dict[str, str]:
        """The effective values for people, secrets masked."""
        return {name: str(value) for name, value in self}


def load(flags: dict[str, Any], file: Path | None = None) -> Settings:
    """Settings from flags (None: not given), the environment and a TOML file.

    Raises ConfigError that names the setting and what it may be.
    """
    _check_environment()
    file = file or (Path(path) if (path := os.environ.get("BACKBEAT_CONFIG")) else None)
    given = {name: value for name, value in flags.items() if value not in (None, [], ())}
    from_file = _read(file) if file else {}
    from_env = {name for name in Settings.model_fields if (ENV_PREFIX + name).upper() in os.environ}
    merged = {name: value for name, value in from_file.items() if name not in from_env} | given
    try:
        return Settings(**merged)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        )
        raise ConfigError(problems) from None


def _servers_in(value: object) -> list[object]:
    """The servers in one text: a JSON list, one JSON object, or URLs with commas."""
    if not isinstance(value, str) or value.lstrip().startswith("{"):
        return [value]
    if not value.lstrip().startswith("["):
        return [*filter(str.strip, value.split(","))]
    try:
        found: list[object] = json.loads(value)
    except ValueError:
        raise ConfigError(
            'ice_server: this is not JSON; write ["stun:HOST", {"urls": ...}]', code="ice_server"
        ) from None
    return found


def _check_environment() -> None:
    names = {(ENV_PREFIX + name).upper() for name in Settings.model_fields} | ENV_OTHERS
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and name not in names:
            raise ConfigError(f"{name} is no setting{_hint(name, names)}")


def _read(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    for name in values:
        if name not in Settings.model_fields:
            raise ConfigError(
                f"{file}: {name!r} is no setting{_hint(name, set(Settings.model_fields))}"
            )
    return values


def _hint(name: str, names: set[str]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]}?" if close else ""
