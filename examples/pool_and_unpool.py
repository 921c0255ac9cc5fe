"""Pool a microscope image, unpool it, and draw every step in one picture.

python examples/pool_and_unpool.py [OUTPUT.png]
"""

import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import tinyml
from tinyml.data import load_nuclei

SIZE = 2


def main(output: str = "tinyml-unpool.png") -> None:
    """Write the picture, and print the memory of the switches and of int64 indices."""
    mpl.use("Agg")
    image = load_nuclei().image[None, None, 108:148, 64:104]
    pooled, switches = tinyml.max_pool(image, SIZE)
    unpooled = tinyml.max_unpool(pooled, switches)

    grey, four = {"cmap": "gray", "vmin": 0, "vmax": image.max()}, plt.get_cmap("viridis", 4)
    panels = [
        (image, "1. the input", grey),
        (pooled, "2. max_pool: the values", grey),
        (switches.winners, "and the switches: which cell won", {"cmap": four, "vmax": SIZE**2}),
        (unpooled, "3. max_unpool: each value\nback in its place", grey),
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(13, 4.4), layout="constrained")
    for axis, (array, title, colours) in zip(axes, panels, strict=True):
        shown = axis.imshow(array[0, 0], **colours)
        axis.set_title(f"{title}\n{array.shape[2]}×{array.shape[3]}")
        axis.set_axis_off()
        bar = figure.colorbar(shown, ax=axis, orientation="horizontal", shrink=0.8)
        if array is switches.winners:
            bar.set_ticks(np.arange(4) + 0.5, labels=["0 ↖", "1 ↗", "2 ↙", "3 ↘"])
    figure.savefig(output, dpi=110)

    kept = np.count_nonzero(unpooled)
    print(f"{switches}")
    print(f"switches {switches.nbytes} bytes, int64 indices {switches.to('plane').nbytes} bytes")
    print(f"{kept} of {image.size} cells kept; picture: {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
