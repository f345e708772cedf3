"""A caller of any common certificate connects, whichever end of DTLS it takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from aiortc.rtcdtlstransport import RTCCertificate

from tests.fakes.audio import tone_source
from tests.fakes.bot import echo_bot, serving
from tests.fakes.rsa import RoleCaller, RsaCertificate, Setup

if TYPE_CHECKING:
    from tests.fakes.serve import ServeProcess

PITCHES: dict[Setup, int] = {"actpass": 440, "active": 600, "passive": 850}
ANSWERED = {"actpass": "active", "active": "passive", "passive": "active"}


@pytest.mark.parametrize("certificate", [RTCCertificate, RsaCertificate])
async def test_audio_flows_both_ways_whichever_role_a_caller_takes(
    serve: ServeProcess, certificate: type[RTCCertificate]
) -> None:
    async with serving(echo_bot(), serve.endpoint):
        for setup, pitch in PITCHES.items():
            async with RoleCaller(
                serve.url, tone_source(pitch), setup=setup, certificate=certificate
            ) as caller:
                await caller.hears(pitch)
                roles = set(re.findall(r"a=setup:(\S+)", caller.answers[-1]))
                assert roles == {ANSWERED[setup]}
