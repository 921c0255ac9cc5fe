"""Peak memory of SegNet training steps in tinyml and in PyTorch, each in a process of its own.

Run ``python benchmarks/memory.py``; TINYML_BACKEND chooses tinyml's backend. The figure is the peak
resident memory during the last step, less the resident memory before the model was built, with all
libraries imported and the data made.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

SHAPE = (4, 3, 224, 224)
CLASSES = 2


def data() -> tuple[Any, Any]:
    """A batch of images and of classes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(SHAPE, dtype=np.float32)
    return x, rng.integers(0, CLASSES, (SHAPE[0], *SHAPE[2:]))


def build_tinyml(channels: int) -> Callable[[], Callable[[], float]]:
    """Import, and return what builds `tinyml.models.segnet` and its training step."""
    from tinyml import current_backend
    from tinyml.learner import Learner
    from tinyml.losses import SoftmaxCrossEntropy
    from tinyml.models import segnet
    from tinyml.optims import SGD

    current_backend()
    x, y = data()

    def build() -> Callable[[], float]:
        model = segnet(SHAPE[1:], CLASSES, channels=channels)
        learner = Learner(model, SoftmaxCrossEntropy(), SGD(0.01, 0.9))
        return lambda: learner.step(x, y)

    return build


def build_pytorch(channels: int) -> Callable[[], Callable[[], float]]:
    """The same for PyTorch, with the same network and step."""
    import torch

    from tinyml.bench.torch_network import torch_network
    from tinyml.models import segnet

    x, y = map(torch.from_numpy, data())

    def build() -> Callable[[], float]:
        model = torch_network(segnet(SHAPE[1:], CLASSES, channels=channels).layers)
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

        def step() -> float:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return float(loss.item())

        return step

    return build


def resident(field: str) -> float:
    """Resident memory in MiB from /proc: now with "VmRSS", its peak with "VmHWM"."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}; this benchmark needs Linux")


@click.command()
@click.option("--library", type=click.Choice(["both", "tinyml", "pytorch"]), default="both")
@click.option("--channels", default=64, show_default=True)
@click.option("--steps", default=2, type=click.IntRange(1), show_default=True)
def main(library: str, channels: int, steps: int) -> None:
    """Print the peak memory of the last of a SegNet's training steps for each library."""
    if library == "both":
        shape = "x".join(map(str, SHAPE))
        click.echo(f"SegNet, 3 levels of {channels} channels, {shape}, {steps} training steps")
        options = ["--channels", str(channels), "--steps", str(steps)]
        for each in ("tinyml", "pytorch"):
            subprocess.run([sys.executable, __file__, "--library", each, *options], check=True)
        return
    build = {"tinyml": build_tinyml, "pytorch": build_pytorch}[library](channels)
    before = resident("VmRSS")
    step = build()
    losses = [f"{step():.4f}" for _ in range(steps - 1)]
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present use
    losses.append(f"{step():.4f}")
    peak = resident("VmHWM") - before
    click.echo(f"{library:<8} {peak:7.0f} MiB  losses {', '.join(losses)}")


if __name__ == "__main__":
    main()
