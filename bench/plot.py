"""Draws the drains: ``python -m bench.plot FILE.svg``, in .venv-peers; the bars come as JSON on stdin."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import sys
from typing import Any

import matplotlib
from matplotlib import pyplot

INK = "#768390"  # between GitHub's two backgrounds, readable on both
COLOURS = {"raw": "#8c959f", "ours": "#2da44e", "peer": "#4c8fdd"}
SETTINGS = {
    "svg.hashsalt": "benchmarks",  # the same bars make the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
BAR_INCHES, MARGIN_INCHES, WIDTH_INCHES = 0.34, 0.9, 8.6


def draw(panels: dict[str, list[dict[str, Any]]], path: str) -> None:
    heights = [len(bars) + 1 for bars in panels.values()]
    figure, found = pyplot.subplots(
        nrows=len(panels),
        squeeze=False,
        sharex=True,
        height_ratios=heights,
        figsize=(WIDTH_INCHES, sum(heights) * BAR_INCHES + MARGIN_INCHES * len(panels)),
        layout="constrained",
    )
    most = max(bar["most"] for bars in panels.values() for bar in bars)
    for axes, (title, bars) in zip(found.flat, panels.items(), strict=True):
        _panel(axes, title, bars)
        axes.set_xlim(50, most * 3)  # room for the figures
    found.flat[-1].set_xlabel("no-op tasks per second, logarithmic; three processes, every commit durable")
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})


def _panel(axes: Any, title: str, bars: list[dict[str, Any]]) -> None:
    names = [bar["name"] for bar in bars]
    middles = [bar["middle"] for bar in bars]
    spread = [[bar["middle"] - bar["least"] for bar in bars], [bar["most"] - bar["middle"] for bar in bars]]
    colours = [COLOURS[bar["kind"]] for bar in bars]
    axes.barh(names, middles, color=colours, xerr=spread, ecolor=INK, error_kw={"elinewidth": 1}, height=0.7)
    for row, bar in enumerate(bars):
        weight = "bold" if bar["kind"] == "ours" else "normal"
        axes.text(bar["most"] * 1.08, row, f"{bar['middle']:,.0f}", va="center", fontweight=weight)
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def main() -> None:
    matplotlib.use("svg")
    matplotlib.rcParams.update(SETTINGS)
    draw(json.load(sys.stdin), sys.argv[1])


if __name__ == "__main__":
    main()
