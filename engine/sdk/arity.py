"""How many arguments a handler of somebody else's takes, so that it is given no more.

What its annotations say does not matter, nor whether they can be read.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_READ: dict[str, Any] = {}
if sys.version_info >= (3, 14):
    import annotationlib

    # From there on they are evaluated here, and may name what only type checkers import.
    _READ["annotation_format"] = annotationlib.Format.FORWARDREF


def positional(handler: Callable[..., object]) -> int | None:
    """How many positional arguments it accepts; None for any number.

    Raises TypeError for what is not callable.
    """
    try:
        parameters = inspect.signature(handler, **_READ).parameters.values()
    except ValueError:  # some builtins, such as dict.update, tell nobody
        return None
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return None
    return sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters)
