"""Frames of language models and their tools.

Transports only pass these on. They are here so that a pipeline can be written without
another package; messages, tools and contexts are whatever the application's model takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ipc.frames.base import ControlFrame, DataFrame, Frame, SystemFrame
from ipc.frames.speech import TextFrame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

# Responses.


@dataclass
class LLMFullResponseStartFrame(ControlFrame):
    """A model's response begins."""

    skip_tts: bool | None = field(init=False, default=None)


@dataclass
class LLMFullResponseEndFrame(ControlFrame):
    """A model's response is complete."""

    skip_tts: bool | None = field(init=False, default=None)


@dataclass
class VisionFullResponseStartFrame(LLMFullResponseStartFrame):
    """A vision model's response begins."""


@dataclass
class VisionFullResponseEndFrame(LLMFullResponseEndFrame):
    """A vision model's response is complete."""


@dataclass
class LLMTextFrame(TextFrame):
    """A piece of a model's response, with its spaces."""

    includes_inter_frame_spaces: bool = field(init=False, default=True)


@dataclass
class VisionTextFrame(LLMTextFrame):
    """A piece of a vision model's response."""


@dataclass
class LLMMarkerFrame(DataFrame):
    """A short mark that belongs in the context but is neither spoken nor shown."""

    marker: str
    append_to_context_immediately: bool = True


@dataclass
class LLMMarkerResponseFrame(DataFrame):
    """A response that consists of marks; `raw` is what the model wrote."""

    raw: str
    marker: str | None = None
    kind: str | None = None
    markers: list[str] = field(default_factory=list)


@dataclass
class LLMThoughtStartFrame(ControlFrame):
    """A model begins to think aloud. Keeping it in the context needs `llm`: else ValueError."""

    append_to_context: bool = False
    llm: str | None = None

    def __post_init__(self) -> None:
        """Number the frame and check that a kept thought says whose it is."""
        super().__post_init__()
        if self.append_to_context and self.llm is None:
            raise ValueError("a thought that is kept in the context needs `llm`")


@dataclass
class LLMThoughtTextFrame(DataFrame):
    """A piece of a thought, with its spaces."""

    text: str
    includes_inter_frame_spaces: bool = field(init=False, default=True)


@dataclass
class LLMThoughtEndFrame(ControlFrame):
    """The thought is complete."""

    signature: Any = None


# Context.


@dataclass
class LLMContextFrame(Frame):
    """A context for the model to answer."""

    context: Any
    speculation: bool = False


@dataclass
class LLMRunFrame(DataFrame):
    """The model answers the context as it stands."""


@dataclass
class LLMMessagesAppendFrame(DataFrame):
    """Adds messages to the context."""

    messages: list[Any]
    run_llm: bool | None = None


@dataclass
class LLMMessagesUpdateFrame(DataFrame):
    """Replaces the messages of the context."""

    messages: list[Any]
    run_llm: bool | None = None


@dataclass
class LLMMessagesTransformFrame(DataFrame):
    """Passes the messages of the context through a function."""

    transform: Callable[[list[Any]], list[Any]]
    run_llm: bool | None = None


@dataclass
class LLMSetToolsFrame(DataFrame):
    """The tools that the model may use."""

    tools: Any


@dataclass
class LLMSetToolChoiceFrame(DataFrame):
    """How the model picks a tool: "none", "auto", "required", or a description."""

    tool_choice: str | dict[str, Any]


@dataclass
class LLMEnablePromptCachingFrame(DataFrame):
    """Switches the caching of prompts."""

    enable: bool


@dataclass
class LLMConfigureOutputFrame(DataFrame):
    """Whether the model's responses skip speech synthesis."""

    skip_tts: bool


@dataclass
class LLMAssistantPushAggregationFrame(ControlFrame):
    """What the assistant has said so far enters the context now."""


@dataclass
class LLMContextAssistantTimestampFrame(DataFrame):
    """When the assistant's last message was made, ISO 8601."""

    timestamp: str


@dataclass
class LLMContextAssistantTurnFrame(DataFrame):
    """A turn of the assistant that entered the context."""

    text: str
    timestamp: str


@dataclass
class LLMContextUserTurnFrame(DataFrame):
    """A turn of the user that entered the context."""

    text: str
    timestamp: str


@dataclass
class LLMSummarizeContextFrame(ControlFrame):
    """Asks for a summary of the context."""

    config: Any | None = None


@dataclass
class LLMContextSummaryRequestFrame(ControlFrame):
    """Asks a model for a summary of `context`; timeout in seconds."""

    request_id: str
    context: Any
    min_messages_to_keep: int
    target_context_tokens: int
    summarization_prompt: str
    summarization_timeout: float | None = None


@dataclass
class LLMContextSummaryResultFrame(ControlFrame):
    """The summary, or the error."""

    interruptible: bool = field(init=False, default=False)
    request_id: str
    summary: str
    last_summarized_index: int
    error: str | None = None


# Tools.


@dataclass
class FunctionCallFromLLM:
    """A call that a model asks for."""

    function_name: str
    tool_call_id: str
    arguments: Mapping[str, Any]
    context: Any


@dataclass
class FunctionCallResultProperties:
    """What follows from a result."""

    run_llm: bool | None = None
    on_context_updated: Callable[[], Awaitable[None]] | None = None
    is_final: bool = True


@dataclass
class FunctionCallsStartedFrame(SystemFrame):
    """Calls begin."""

    function_calls: Sequence[FunctionCallFromLLM]


@dataclass
class FunctionCallInProgressFrame(ControlFrame):
    """A call runs."""

    interruptible: bool = field(init=False, default=False)
    function_name: str
    tool_call_id: str
    arguments: Any
    cancel_on_interruption: bool = False
    group_id: str | None = None


@dataclass
class FunctionCallResultFrame(DataFrame):
    """A call returned."""

    interruptible: bool = field(init=False, default=False)
    function_name: str
    tool_call_id: str
    arguments: Any
    result: Any
    run_llm: bool | None = None
    properties: FunctionCallResultProperties | None = None
    error: str | None = None


@dataclass
class FunctionCallCancelFrame(SystemFrame):
    """A call was cancelled."""

    function_name: str
    tool_call_id: str
    run_llm: bool = False


@dataclass
class ExternalFunctionCall:
    """A call that runs outside the pipeline."""

    function_name: str
    tool_call_id: str


@dataclass
class ExternalFunctionCallsStartedFrame(SystemFrame):
    """Calls outside the pipeline begin."""

    function_calls: Sequence[ExternalFunctionCall]


@dataclass
class ExternalFunctionCallInProgressFrame(SystemFrame):
    """A call outside the pipeline runs."""

    function_name: str
    tool_call_id: str
    arguments: Any


@dataclass
class ExternalFunctionCallResultFrame(SystemFrame):
    """A call outside the pipeline returned."""

    function_name: str
    tool_call_id: str
    arguments: Any
    result: Any
    is_final: bool = True


@dataclass
class ExternalFunctionCallCancelFrame(SystemFrame):
    """A call outside the pipeline was cancelled."""

    function_name: str
    tool_call_id: str
