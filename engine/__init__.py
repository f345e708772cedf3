"""The control process, and everything that the author of a bot imports.

Imports `ipc`, never `workers`. Importing it costs next to nothing; it only makes sure that
the package `ipc` which Python would find is the one that lies beside this file.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.embedded import Engine

__all__ = ["Engine", "__version__"]
__version__ = "0.1.0"


def _check_sibling(name: str) -> None:
    """Refuse to go on when another package of that name hides ours; nothing of it is run."""
    ours = Path(__file__).resolve().parent.parent / name
    loaded = sys.modules.get(name)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    if ours not in [Path(place).resolve() for place in places[:1]]:
        found = places[0] if places else getattr(spec, "origin", None)
        raise ImportError(
            f"Backbeat's package {name!r} is hidden by {found}: rename that, or start Python "
            "elsewhere or with -P"
        )


_check_sibling("ipc")


def __getattr__(name: str) -> object:
    # Loaded by those who ask for it: bots need nothing of it.
    if name == "Engine":
        from engine.embedded import Engine

        return Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
