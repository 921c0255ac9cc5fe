"""The picture that ``tinyml demo`` draws."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Pixels of a panel along its longer side; larger images are drawn with every n-th pixel.
LARGEST = 1000
#: Okabe and Ito's colours, which can be told apart with any colour vision, and in grey.
COLOURS = {"background": "black", "found": "#808080", "missed": "#e69f00", "false alarm": "#56b4e9"}


class Panels(NamedTuple):
    """What is drawn of the half of the image that the network never saw."""

    source: str
    """The name of the image."""
    image: NDArray[Any]
    """Its own pixels, (channels, height, width)."""
    truth: NDArray[np.bool]
    found: NDArray[np.bool]
    result: str
    """Line below "SegNet"."""
    errors: str
    """Line above the errors."""


def shown(image: NDArray[Any]) -> NDArray[Any]:
    """Numbers from 0 to 1: colours as they are, grey between its darkest and brightest pixels."""
    if len(image) == 3:
        largest = 255 if image.dtype == np.uint8 else max(1, image.max())
        return np.moveaxis(image, 0, 2) / largest
    low, high = np.percentile(image, (0.5, 99.5))
    scaled: NDArray[Any] = np.clip((image[0] - low) / max(high - low, 1e-12), 0, 1)
    return scaled


def draw(output: Path, panels: Panels, losses: list[float]) -> None:
    """Write the picture: image, truth, prediction, errors, and the training curve."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    height, width = panels.truth.shape
    step = -(-max(height, width) // LARGEST)
    truth, found = panels.truth[::step, ::step], panels.found[::step, ::step]
    errors = np.where(found, np.where(truth, 1, 3), np.where(truth, 2, 0))
    pictures: list[tuple[str, Any, Any]] = [
        (
            f"{panels.source}: the right half,\nnever seen in training",
            shown(panels.image[:, ::step, ::step]),
            "gray",
        ),
        ("truth", truth, "gray"),
        (f"SegNet: {panels.result}", found, "gray"),
        (panels.errors, errors, ListedColormap(list(COLOURS.values()))),
    ]
    if width > 2 * height:  # below each other, beside the curve
        each = max(12 * height / width, 0.8)
        figure = Figure(figsize=(17, 4 * (each + 0.8) + 0.5), layout="constrained")
        parts = figure.subfigures(1, 2, width_ratios=[12.5, 4.5], squeeze=False)[0]
        axes = [*parts[0].subplots(4, 1), parts[1].subplots()]
    else:
        each = min(max(5 * width / height, 2.2), 8)
        figure = Figure(figsize=(4 * each + 4.5, 6.2), layout="constrained")
        axes = list(figure.subplots(1, 5, width_ratios=[each] * 4 + [4.5]))
    for axis, (title, picture, colour_map) in zip(axes, pictures, strict=False):
        axis.imshow(
            picture,
            cmap=colour_map,
            vmin=0,
            vmax=3 if picture is errors else 1,
            interpolation="nearest",
            # a narrow image keeps a readable shape
            aspect="equal" if max(height, width) <= 8 * min(height, width) else "auto",
        )
        axis.set_title(title)
        axis.set(xticks=[], yticks=[])  # the frame stays
    axes[3].legend(
        handles=[Patch(color=COLOURS[name], label=name) for name in list(COLOURS)[1:]],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=3,
        frameon=False,
        handlelength=1,
        columnspacing=1,
    )
    _draw_curve(axes[4], losses)
    figure.savefig(output, dpi=100)


def _draw_curve(axis: Any, losses: list[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    steps = np.arange(1, len(losses) + 1)
    dots = "o" if len(steps) == 1 else ""
    axis.semilogy(steps, losses, color="#999999", linewidth=0.8, marker=dots, label="each step")
    if len(steps) >= 20:
        smooth = np.convolve(losses, np.full(10, 0.1), mode="valid")
        axis.semilogy(steps[9:], smooth, color="#0072b2", label="mean of 10 steps")
    axis.set(title="training on the left half", xlabel="step", ylabel="cross-entropy per pixel")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.grid(alpha=0.3)
    axis.legend()
