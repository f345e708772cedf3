"""`python -m engine`; also started by this file's path, whatever the current folder holds."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
for package in ("ipc", "engine"):
    importlib.import_module(package)
sys.path.remove(str(ROOT))

from engine.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
