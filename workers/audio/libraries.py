"""Where the C libraries are that we call by ctypes: in the wheel of PyAV, or in the system."""

from __future__ import annotations

import ctypes.util
import importlib.util
from pathlib import Path


def library_paths(name: str) -> list[Path]:
    """Where the library `name` (without `lib`) may be, best first: PyAV's, then the system's."""
    found: list[Path] = []
    spec = importlib.util.find_spec("av")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        found += sorted((package.parent / "av.libs").glob(f"lib{name}*.so*"))
        found += sorted((package / ".dylibs").glob(f"lib{name}*.dylib"))
    system = ctypes.util.find_library(name)
    if system is not None:
        found.append(Path(system))
    return found
