"""The processors against a table of Pipecat 1.14's: members, parameters, kinds, defaults."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.transports import processors
from tests.support import ROOT

TABLE: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("documented_processors.json").read_text()
)
KINDS: dict[object, str] = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "any",
    inspect.Parameter.KEYWORD_ONLY: "kw",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
# Several agents on one bus, tracing, and RTVI inside of the pipeline: not part of this.
LEFT_OUT = {
    "PipelineTask": "activate_worker bridged capabilities on_bus_message rtvi track_flush_probe "
    "turn_trace_observer turn_tracking_observer",
    "PipelineRunner": "bus on_bus_message registry",
    "BaseObserver": "on_processor_setup on_startup_warmup",
}
PARAMETERS_LEFT_OUT = {
    "PipelineTask": "active additional_span_attributes bridged cancel_runner_on_idle_timeout "
    "capabilities enable_rtvi enable_tracing enable_turn_tracking exclude_frames "
    "handle_flush_frame rtvi_observer_params rtvi_processor",
    "PipelineRunner": "bus",
}
# An argument that we want less often is still accepted as documented.
OPTIONAL_HERE = {("FrameProcessorSetup", "pipeline_worker"), ("PipelineTask", "params")}


def own(function: Any) -> list[inspect.Parameter]:
    return [one for one in inspect.signature(function).parameters.values() if one.name != "self"]


@pytest.mark.parametrize("owner", TABLE)
def test_members_are_there_and_called_as_documented(owner: str) -> None:
    cls = getattr(processors, owner)
    for member, wanted in TABLE[owner].items():
        if member in LEFT_OUT.get(owner, "").split():
            continue
        found = inspect.getattr_static(cls, member)
        if wanted == "property":
            assert isinstance(found, property), member
            continue
        out = PARAMETERS_LEFT_OUT.get(owner, "").split() if member == "__init__" else []
        documented = [one for one in wanted["params"] if one[0] not in out]
        check(owner, member, found if member != "__init__" else cls, documented)
        assert inspect.iscoroutinefunction(found) == wanted["async"], member


def check(owner: str, member: str, called: Any, documented: list[list[str]]) -> None:
    ours = {one.name: one for one in own(called)}
    for name, kind, default in documented:
        assert KINDS[ours[name].kind] == kind, (member, name)
        if (owner, name) not in OPTIONAL_HERE and name != "idle_timeout_frames":
            here = ours[name].default
            assert (None if here is inspect.Parameter.empty else repr(here)) == default, member

    positional = [name for name, kind, _ in documented if kind == "any"]
    assert [name for name in ours if name in positional] == positional, member
    extras = set(ours) - {name for name, *_ in documented}
    assert all(ours[name].default is not inspect.Parameter.empty for name in extras), member


def test_what_counts_as_activity_is_what_the_document_names() -> None:
    wanted = next(
        default
        for name, _, default in TABLE["PipelineTask"]["__init__"]["params"]
        if name == "idle_timeout_frames"
    )

    types = inspect.signature(processors.PipelineTask).parameters["idle_timeout_frames"].default

    assert [cls.__name__ for cls in types] == [
        part.partition("'")[0].rpartition(".")[2] for part in wanted.split("<class '")[1:]
    ]


def test_importing_the_processors_loads_no_media_library() -> None:
    code = "import engine.transports.processors, engine.transports.frames, sys; print(*sys.modules)"

    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "engine.transports.frames" in run.stdout.split()
    assert not {"aioice", "aiortc", "av", "cv2", "fastapi", "workers"} & set(run.stdout.split())


def test_every_public_name_is_documented() -> None:
    classes = [getattr(processors, name) for name in processors.__all__]

    assert [cls for cls in classes if inspect.isclass(cls) and not cls.__doc__] == []
