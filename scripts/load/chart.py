"""The chart of a load test: set-up, evenness, and what came over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scripts.benchmarks import charts

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.load.result import Seen


def draw(seen: Seen, path: Path, title: str) -> list[Path]:
    """A PNG; nothing, and a word about it, where matplotlib is not installed."""
    plt = charts.pyplot()
    if plt is None:
        return []
    figure, axes = plt.subplots(1, 3, figsize=(14, 4))
    for name in ("answer", "connected", "first"):
        values = sorted(
            value for call in seen.calls if (value := getattr(call, f"{name}_ms")) is not None
        )
        if values:
            share = 100 * np.arange(1, len(values) + 1) / len(values)
            label = {"first": "first audio"}.get(name, name)
            axes[0].step(values, share, where="post", label=f"offer to {label}")
    axes[0].set_xlabel("ms")
    axes[0].set_ylabel("% of calls")
    for name, histogram in (("interval error", seen.errors_ms), ("echo", seen.echo_ms)):
        if len(histogram):
            values_ms, share = histogram.above()
            axes[1].plot(values_ms, np.maximum(share, 1e-6), label=name)
            axes[1].set(xscale="log", yscale="log")
    axes[1].set_xlabel("ms")
    axes[1].set_ylabel("share above it")
    if seen.hears and seen.timeline:
        at, got = zip(*seen.timeline, strict=True)
        axes[2].step((0, *at), (got[0], *got), where="pre", label="received")
        axes[2].set_ylim(0, 105)
    axes[2].set_xlabel("s")
    axes[2].set_ylabel("% of packets due")
    for axis in axes:
        axis.grid(visible=True, linewidth=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    return charts.save(figure, plt, path)
