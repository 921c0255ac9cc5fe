"""What the models learn on the packaged digits: accuracy of LeNet, error of the autoencoder.

python benchmarks/digits.py lenet
python benchmarks/digits.py autoencoder

A random fifth of the digits, drawn by the seed, is held out. `lenet` also trains with shuffled
labels, whose accuracy must be that of chance. `autoencoder` compares the what-where autoencoder
with one whose unpooling puts each value in the first cell of its window.
"""

from statistics import mean

import click
import numpy as np

from tinyml.arrays import to_numpy
from tinyml.data import load_digits
from tinyml.layers import MaxUnpool2D
from tinyml.learner import Learner
from tinyml.losses import MSE, SoftmaxCrossEntropy
from tinyml.models import autoencoder, lenet
from tinyml.optims import Adam, AdamW
from tinyml.schedules import OneCycle

# LeNet's recipe, fixed before anything was measured
EPOCHS, BATCH, RATE = 40, 32, 4e-3
DROPOUT, SMOOTHING = 0.3, 0.1


class FirstCell(MaxUnpool2D):
    """Unpooling that forgets where the maximum was."""

    def forward(self, x, indices=None):  # type: ignore[no-untyped-def]
        """Put every value in the first cell of its window."""
        assert self.pool is not None and self.pool.switches is not None  # noqa: PT018
        winners = self.pool.switches.to("window")
        return super().forward(x, winners * 0)


def split(seed: int, shuffled: bool = False) -> tuple[np.ndarray, ...]:
    """Images and labels to train with, and those held out."""
    images, labels = load_digits()
    x = (images / np.float32(16))[:, None].astype(np.float32)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    held, kept = order[: len(x) // 5], order[len(x) // 5 :]
    y = labels.astype(np.int64)
    y_kept = rng.permutation(y[kept]) if shuffled else y[kept]
    return x[kept], y_kept, x[held], y[held]


def accuracy(seed: int, shuffled: bool = False) -> float:
    """Percent of the held-out digits that LeNet names."""
    x, y, x_held, y_held = split(seed, shuffled)
    model = lenet((1, 8, 8), 10, channels=(16, 32), size=3, dropout=DROPOUT, rng=seed)
    optimizer = AdamW(OneCycle(RATE, EPOCHS * -(-len(x) // BATCH)))
    learner = Learner(model, SoftmaxCrossEntropy(label_smoothing=SMOOTHING), optimizer)
    learner.fit((x, y), epochs=EPOCHS, batch_size=BATCH, seed=seed)
    return float((to_numpy(learner.predict(x_held)).argmax(1) == y_held).mean() * 100)


def error(seed: int, with_switches: bool) -> float:
    """Mean squared error of held-out digits, reconstructed."""
    x, _, x_held, _ = split(seed)
    model = autoencoder((1, 8, 8), channels=(8, 8), rng=seed)
    if not with_switches:
        for layer in model.layers:
            if isinstance(layer, MaxUnpool2D):
                layer.__class__ = FirstCell
    learner = Learner(model, MSE(), Adam(2e-3))
    learner.fit((x, x), epochs=10, batch_size=32, seed=seed)
    return float(((to_numpy(learner.predict(x_held)) - x_held) ** 2).mean())


@click.command()
@click.argument("task", type=click.Choice(["lenet", "autoencoder"]))
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1))
def main(task: str, seeds: int) -> None:
    """Train with each seed, and print what was learned."""
    if task == "lenet":
        for name, shuffled in (("true labels", False), ("shuffled labels", True)):
            found = []
            for seed in range(seeds):
                found.append(accuracy(seed, shuffled))
                click.echo(f"{name}, seed {seed}: {found[-1]:.2f} % of the held-out digits")
            click.echo(f"{name}: mean {mean(found):.2f} %, least {min(found):.2f} %")
        return
    for seed in range(seeds):
        ours, first = error(seed, True), error(seed, False)
        click.echo(
            f"seed {seed}: error {ours:.5f}, first cell {first:.5f}, ratio {ours / first:.2f}"
        )


if __name__ == "__main__":
    main()
