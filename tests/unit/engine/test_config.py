"""Settings: where each comes from, what it may be, and what is shown of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine import config
from engine.config import Settings, load
from ipc.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(config.ENV_PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_every_setting_has_a_default_and_a_description() -> None:
    load({})
    for name, field in Settings.model_fields.items():
        assert not field.is_required(), name
        assert field.description, name


def test_a_flag_beats_the_environment_which_beats_the_file(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    file.write_text("mic_ms = 1001\nspeaker_ms = 1001\nbeat_ms = 101\n")
    monkeypatch.setenv("BACKBEAT_MIC_MS", "1002")
    monkeypatch.setenv("BACKBEAT_SPEAKER_MS", "1002")
    settings = load({"mic_ms": 1003, "port": None}, file)
    assert (settings.mic_ms, settings.speaker_ms, settings.beat_ms) == (1003, 1002, 101)
    assert settings.port == 7860


def test_the_file_may_be_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    file.write_text('default_bot = "ada"\n')
    monkeypatch.setenv("BACKBEAT_CONFIG", str(file))
    assert load({}).default_bot == "ada"


@pytest.mark.parametrize("value", [0, False])
def test_a_flag_that_is_zero_is_a_flag(value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBEAT_BOTS", "3")
    assert load({"bots": value}).bots == 0


def test_addresses_come_as_a_list_or_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBEAT_ICE_ADDRESS", "127.0.0.1, ::1")
    assert load({}).ice_address == ["127.0.0.1", "::1"]
    assert load({"ice_address": ["127.0.0.2"]}).ice_address == ["127.0.0.2"]
    assert load({"ice_address": []}).ice_address == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"port": 65_536}, "port"),
        ({"port": -1}, "port"),
        ({"workers": 0}, "workers"),
        ({"log_level": "loud"}, "log_level"),
        ({"mic_ms": 1}, "mic_ms"),
        ({"bot_accept_s": 0}, "bot_accept_s"),
        ({"connect_s": float("nan")}, "connect_s"),
    ],
)
def test_a_value_out_of_range_is_named(flags: dict[str, object], name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(flags)
    assert name in refused.value.message
    assert "\n" not in refused.value.message


def test_unknown_names_are_refused_with_a_hint(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.write_text("prot = 1\n")
    with pytest.raises(ConfigError, match=r"'prot' is no setting; did you mean port\?"):
        load({}, file)
    monkeypatch.setenv("BACKBEAT_WORKER_STALL", "1")
    with pytest.raises(ConfigError, match=r"did you mean BACKBEAT_WORKER_STALL_MS\?"):
        load({})


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe", b"[section]\nport = 1\n"])
def test_a_file_that_cannot_be_read_as_settings_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=str(file)):
        load({}, file)


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(ConfigError, match=str(file)):
        load({}, file)


def test_what_bots_read_is_no_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in config.ENV_OTHERS - {"BACKBEAT_CONFIG"}:
        monkeypatch.setenv(name, "x")
    load({})


def test_secrets_are_masked_wherever_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBEAT_BOT_TOKEN", "swordfish")
    settings = load({})
    assert settings.bot_token is not None
    assert settings.bot_token.get_secret_value() == "swordfish"
    assert "swordfish" not in str(settings.shown()) + repr(settings) + str(settings)
    assert set(settings.shown()) == set(Settings.model_fields)


def test_a_bad_secret_is_not_repeated_in_the_error(file: Path) -> None:
    file.write_text("bot_token = 12345678\n")
    with pytest.raises(ConfigError) as refused:
        load({}, file)
    assert "12345678" not in refused.value.message


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError):
        load({}).port = 1


def test_a_udp_port_stands_for_a_pool_that_outlasts_replacements() -> None:
    assert load({}).udp_ports == []
    assert load({"udp_port": "40000", "workers": 2}).udp_ports == [40000, 40001, 40002, 40003]
    assert load({"udp_port": "40000-40009", "workers": 2}).udp_ports == list(range(40000, 40010))


@pytest.mark.parametrize(
    "given", ["x", "-1", "40000-", "40000-40001", "40009-40000", "65534", "65535-65540", "1-2-3"]
)
def test_a_udp_port_that_cannot_serve_is_refused_with_its_name(given: str) -> None:
    with pytest.raises(ConfigError, match="udp_port"):
        load({"udp_port": given, "workers": 2})


@pytest.mark.parametrize("given", ["host.example", "10.0.0.1=", "=1.2.3.4", "1.2.3"])
def test_a_public_address_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="public_address"):
        load({"public_address": [given]})
    assert load({"public_address": ["10.0.0.1=203.0.113.7"]}).public_address


def test_a_file_of_authorities_that_holds_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match="tls_ca_file"):
        load({"tls_ca_file": file})
    file.write_text("no certificate")
    with pytest.raises(ConfigError, match="tls_ca_file"):
        load({"tls_ca_file": file})


TURN = '{"urls": "turn:turn.example", "username": "ada", "credential": "swordfish"}'


@pytest.mark.parametrize(
    "text",
    [
        "stun:a.example, stun:b.example",
        '["stun:a.example", "stun:b.example"]',
        '["stun:a.example", {"urls": "stun:b.example"}]',
    ],
)
def test_ice_servers_come_with_commas_or_as_json(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [["stun:a.example"], ["stun:b.example"]]
    monkeypatch.setenv("BACKBEAT_ICE_SERVER", text)
    assert [server.urls for server in load({}).ice_server] == wanted
    assert [server.urls for server in load({"ice_server": [text]}).ice_server] == wanted


def test_ice_servers_come_from_the_file_with_their_secrets(file: Path) -> None:
    file.write_text(
        'ice_server = ["stun:a.example", '
        '{urls = ["turn:b.example"], username = "ada", credential = "swordfish"}]\n'
    )
    settings = load({}, file)
    assert [server.credential for server in settings.ice_server] == ["", "swordfish"]
    assert "swordfish" not in str(settings.shown()) + repr(settings) + str(settings)
    assert load({"ice_server": [TURN]}).ice_server[0].username == "ada"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["turn:turn.example"], "needs a user name"),
        (["stun.example"], "write stun:HOST"),
        ([TURN.replace("turn:", "http:")], "write stun:HOST"),
        ([TURN[:-1]], "not JSON"),
        (["[1"], "not JSON"),
        ([5], "a server is a URL or"),
        (["stun:a.example"] * 9, "at most 8"),
    ],
)
def test_a_bad_ice_server_is_refused_with_what_to_write(given: list[object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        load({"ice_server": given})
    assert refused.value.message.startswith("ice_server: ")
    assert "swordfish" not in refused.value.message
