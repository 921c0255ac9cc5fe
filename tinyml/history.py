"""What happened in a training: a row for each epoch, the best epoch, and a plot.

The functions take the ``history`` of a `Learner`, which `Learner.fit` returns.
"""

from collections.abc import Mapping
from itertools import pairwise
from numbers import Real
from pathlib import Path
from statistics import fmean
from typing import Any

History = Mapping[str, list[Any]]

#: Whether a smaller or a larger value is better; None: smaller of a loss, larger of others.
MODES = None, "min", "max"


def epoch_rows(history: History) -> list[dict[str, float]]:
    """Return a row of numbers for each finished epoch.

    Returns
    -------
    list of dict
        "epoch", from 1; "steps", the number of steps so far; "loss", the mean over the epoch's
        steps; and "validation_loss" and so on, every number that `Learner.evaluate` returned.

    Examples
    --------
    >>> from tinyml.history import epoch_rows
    >>> history = {"loss": [4.0, 2.0, 1.0, 0.0], "steps": [2, 4]}
    >>> history["validation"] = [{"loss": 1.5}, {"loss": 2.5}]
    >>> epoch_rows(history)[1]
    {'epoch': 2, 'steps': 4, 'loss': 0.5, 'validation_loss': 2.5}
    """
    rows: list[dict[str, float]] = []
    for epoch, (first, last) in enumerate(pairwise([0, *history.get("steps", ())]), 1):
        row: dict[str, Any] = {"epoch": epoch, "steps": last}
        row["loss"] = fmean(history["loss"][first:last]) if last > first else float("nan")
        if "validation" in history:
            results = history["validation"][epoch - 1].items()
            row |= {f"validation_{name}": v for name, v in results if isinstance(v, Real)}
        rows.append(row)
    return rows


def check_mode(mode: object) -> None:
    """Raise ValueError if it is not one of `MODES`."""
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; it must be 'min', 'max' or None")


def best_epoch(history: History, monitor: str = "loss", mode: str | None = None) -> int:
    """Return the first epoch, from 1, with the best value; 0 if there is none, or all are NaN.

    Parameters
    ----------
    history : dict
    monitor : str
        What is compared: a name in the results of the validation, for example "loss" or "iou".
        Without validation data only "loss" is known, the mean over the epoch's steps.
    mode : "min", "max" or None
        Whether the best value is the smallest or the largest; None means the smallest if
        ``monitor`` is "loss", else the largest.

    Raises
    ------
    ValueError
        If ``monitor`` is not known, or ``mode`` is none of these.

    Examples
    --------
    >>> from tinyml.history import best_epoch
    >>> history = {"loss": [4.0, 2.0, 1.0], "steps": [1, 2, 3]}
    >>> history["validation"] = [{"loss": n, "iou": n} for n in (3.0, 1.0, 2.0)]
    >>> best_epoch(history), best_epoch(history, "iou")
    (2, 1)
    """
    check_mode(mode)
    rows = epoch_rows(history)
    prefix = "validation_" if "validation" in history else ""
    sign = 1 if (mode or ("min" if monitor == "loss" else "max")) == "min" else -1
    best, least = 0, float("inf")
    for row in rows:
        if prefix + monitor not in row or (not prefix and monitor != "loss"):
            known = [name.removeprefix(prefix) for name in row if name.startswith(prefix or "loss")]
            raise ValueError(f"monitor is {monitor!r}; it must be one of {', '.join(known)}")
        value = sign * row[prefix + monitor]
        if value < least or (best == 0 and value == least):
            best, least = int(row["epoch"]), value
    return best


def plot_history(history: History, path: str | Path) -> None:
    """Draw the losses, and the other numbers of the validation, over the steps.

    Needs matplotlib, which the extra ``demo`` installs.

    Parameters
    ----------
    history : dict
    path : str or Path
        File to write; its suffix is the format, for example ``.png``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there was no step, or the format is not known.

    Examples
    --------
    >>> import os, tempfile
    >>> from tinyml.history import plot_history
    >>> history = {"loss": [3.0, 2.0, 1.0, 0.5], "steps": [2, 4]}
    >>> history["validation"] = [{"loss": 2.0, "iou": 0.5}, {"loss": 1.0, "iou": 0.75}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_history(history, f"{folder}/history.png")
    ...     os.listdir(folder)
    ['history.png']
    """
    if not history.get("loss"):
        raise ValueError("history has no step; there is nothing to draw")
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ImportError(
            "plot_history needs matplotlib; in the clone of tinyml run: "
            "python3 -m pip install '.[demo]'"
        ) from error
    rows = epoch_rows(history)
    others = list(dict.fromkeys(n for row in rows for n in row if n.startswith("validation_")))
    if "validation_loss" in others:
        others.remove("validation_loss")
    figure = Figure(figsize=(11 if others else 6, 4.2), layout="constrained")
    axes = figure.subplots(1, 2 if others else 1, squeeze=False)[0]
    _draw_losses(axes[0], history["loss"], rows)
    for name in others:
        values = [row.get(name, float("nan")) for row in rows]
        label = name.removeprefix("validation_")
        axes[1].plot([row["steps"] for row in rows], values, marker=_marker(rows), label=label)
    if others:
        axes[1].set(title="validation", xlabel="step")
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=100)


def _draw_losses(axis: Any, losses: list[float], rows: list[dict[str, float]]) -> None:
    """The loss of each step, its mean over each epoch, and that of the validation."""
    steps = range(1, len(losses) + 1)
    dots = "o" if len(losses) == 1 else ""
    axis.plot(steps, losses, color="#999999", linewidth=0.8, marker=dots, label="each step")
    if len(rows) > 1:
        ends = [0.0, *(row["steps"] for row in rows)]
        middles = [(first + 1 + last) / 2 for first, last in pairwise(ends)]
        means = [row["loss"] for row in rows]
        axis.plot(middles, means, color="#0072b2", marker=_marker(rows), label="mean of an epoch")
    if rows and "validation_loss" in rows[0]:
        values = [row["validation_loss"] for row in rows]
        ends = [row["steps"] for row in rows]
        axis.plot(ends, values, color="#d55e00", marker=_marker(rows), label="validation")
    if min(losses) > 0:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
    axis.set(title="loss", xlabel="step")


def _marker(rows: list[dict[str, float]]) -> str:
    return "o" if len(rows) <= 30 else ""
