"""The bar chart of ``tinyml bench --plot``."""

from pathlib import Path
from typing import Any

from tinyml.bench.results import BACKEND, PEER, Measured, Report, Timing
from tinyml.bench.tables import disturbance

#: Okabe and Ito's colours, which can be told apart with any colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#000000")
#: Height of a bar in inches.
BAR = 0.24
#: Most rows in a column; a row is a bar or the gap between two cases.
MOST_ROWS = 90

Group = tuple[Measured, list[Timing]]


def draw(path: Path, report: Report, title: str) -> None:
    """Draw the speed of each contender as a share of the fastest one's, with its median time.

    If a peer has several forms, such as PyTorch's memory formats, the fastest is shown, and named
    beside its bar. Below the chart are the environment and the warning of other programs.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    groups = [(measured, _bars(measured)) for measured in report.measured]
    groups = [(measured, bars) for measured, bars in groups if bars]
    names = list(dict.fromkeys(_name(bar) for _, bars in groups for bar in bars))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    columns = _columns(groups)
    rows = max(sum(len(bars) + 1 for _, bars in column) for column in columns)
    figure = Figure(figsize=(9 * len(columns), BAR * rows + 1.3), layout="constrained")
    for axes, column in zip(
        figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True
    ):
        _draw_column(axes, column, colours, rows)
    handles = [Patch(color=colours[name], label=name) for name in names]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=min(4, len(names)), frameon=False
    )
    figure.supxlabel(
        "\n".join((title, *disturbance(report))), fontsize=6.5, color="0.35", wrap=True
    )
    figure.savefig(path, dpi=150)


def _columns(groups: list[Group]) -> list[list[Group]]:
    """Distribute the cases over columns of about the same height, at most `MOST_ROWS`."""
    heights = [len(bars) + 1 for _, bars in groups]
    count = -(-sum(heights) // MOST_ROWS)
    columns: list[list[Group]] = [[] for _ in range(count)]
    above = 0
    for group, height in zip(groups, heights, strict=True):
        columns[above * count // sum(heights)].append(group)
        above += height
    return columns


def _draw_column(axes: Any, groups: list[Group], colours: dict[str, str], rows: int) -> None:
    ticks, y = [], 0.0
    for measured, bars in groups:
        ticks.append((y + (len(bars) - 1) / 2, measured.case))
        fastest = min(bar.median for bar in bars)
        for bar in bars:
            speed = fastest / bar.median
            axes.barh(y, speed, height=0.86, color=colours[_name(bar)])
            axes.text(speed + 0.008, y, _label(measured, bar, fastest), va="center", fontsize=8)
            y += 1
        y += 1
    axes.set_yticks([tick for tick, _ in ticks], [label for _, label in ticks], fontsize=9)
    axes.set_ylim(rows - 0.4, -0.8)
    axes.set_xlim(0, 1.3)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "fastest"])
    axes.set_xlabel("speed, as a share of the fastest; median time beside each bar", fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _bars(measured: Measured) -> list[Timing]:
    """Backends in all their forms, and each peer in its fastest form."""
    return [
        t
        for t in measured.timings
        if t.kind == BACKEND or (t.kind == PEER and t is measured.fastest(t.library, t.place))
    ]


def _name(timing: Timing) -> str:
    return timing.name if timing.kind == BACKEND else timing.library


def _label(measured: Measured, timing: Timing, fastest: float) -> str:
    """Median time, and which form of a peer it is, such as PyTorch's memory format."""
    text = _time(timing.median, fastest)
    forms = [t for t in measured.timings if t.kind == PEER and t.library == timing.library]
    if len(forms) < 2:
        return text
    return f"{text}, {timing.name.removeprefix(timing.library).strip() or 'contiguous'}"


def _time(seconds: float, fastest: float) -> str:
    """A time, in the unit that suits the fastest time of its case."""
    scale, unit = (1, "s") if fastest >= 1 else (1e3, "ms") if fastest >= 1e-3 else (1e6, "µs")
    number = seconds * scale
    return f"{number:,.3g} {unit}" if number < 1000 else f"{number:,.0f} {unit}"
