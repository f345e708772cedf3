"""PNG charts. matplotlib comes with the `bench` extra; without it charts are skipped, said once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.benchmarks import wire
from scripts.benchmarks.windows import say

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.benchmarks.windows import Window

COLOURS = {
    "Backbeat": "#0b7a75",
    "stock aiortc": "#c8553d",
    "Pipecat": "#7d5ba6",
    "floor": "#999999",
}
SHOWN_S = 6.0


def pyplot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError:
        say("no charts: matplotlib is not installed (pip install -e '.[bench]')")
        return None
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def intervals(named: dict[str, Window | None], path: Path, title: str) -> list[Path]:
    """Intervals between packets over time, one caller each, one below the other."""
    plt = pyplot()
    shown = {name: window for name, window in named.items() if window is not None}
    if plt is None or not shown:
        return []
    figure, axes = plt.subplots(
        len(shown), 1, figsize=(10, 2.6 * len(shown)), sharex=True, sharey=True, squeeze=False
    )
    for axis, (name, window) in zip(axes[:, 0], shown.items(), strict=True):
        stream = _worst(window.recording.streams)
        at = (stream.arrival_ns[1:] - stream.arrival_ns[0]) / 1e9
        took = np.diff(stream.arrival_ns) / 1e6
        seen = at < SHOWN_S
        axis.vlines(at[seen], 0, took[seen], color=COLOURS.get(name, "black"), linewidth=1.2)
        axis.axhline(20, color="black", linewidth=0.5)
        axis.set_title(f"{name} (the worst of {window.callers} callers)", loc="left", fontsize=10)
        axis.set_ylabel("ms since the\npacket before")
    axes[-1, 0].set_xlabel("s")
    figure.suptitle(title, fontsize=11)
    return save(figure, plt, path)


def _worst(streams: list[wire.Stream]) -> wire.Stream:
    """The stream with the largest gap."""
    return max(streams, key=lambda s: int(np.diff(s.arrival_ns).max()) if len(s) > 1 else 0)


def pacing(named: dict[str, Window | None], path: Path) -> list[Path]:
    """How many packets had an interval error above so many ms (both axes logarithmic)."""
    plt = pyplot()
    shown = {name: window for name, window in named.items() if window is not None}
    if plt is None or not shown:
        return []
    figure, axis = plt.subplots(figsize=(8, 4.5))
    for name, window in shown.items():
        errors = np.sort(
            np.concatenate(
                [wire.interval_errors_ms(s, window.frozen) for s in window.recording.streams]
            )
        )
        above = 1 - np.arange(len(errors)) / len(errors)
        label = f"{name}, {window.callers} sessions"
        axis.plot(np.maximum(errors, 1e-3), above, label=label, color=COLOURS.get(name))
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("interval error, ms")
    axis.set_ylabel("share of packets above it")
    axis.grid(visible=True, which="major", linewidth=0.3)
    axis.legend()
    return save(figure, plt, path)


def bars(values: dict[str, float], path: Path, title: str, unit: str) -> list[Path]:
    """One bar for each named value."""
    plt = pyplot()
    if plt is None or not values:
        return []
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(values) + 1.2))
    names = list(values)[::-1]
    colours = [
        next((c for kind, c in COLOURS.items() if name.startswith(kind)), "#555555")
        for name in names
    ]
    drawn = axis.barh(names, [values[name] for name in names], color=colours)
    axis.bar_label(drawn, fmt="%.0f", padding=3)
    axis.set_xlabel(unit)
    axis.set_title(title, fontsize=11)
    return save(figure, plt, path)


def save(figure: Any, plt: Any, path: Path) -> list[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return [path]
