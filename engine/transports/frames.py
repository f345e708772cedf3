"""The frames that move through pipelines: everything of `ipc.frames`, under one more name."""

from ipc.frames import *  # noqa: F403
from ipc.frames import __all__ as __all__
