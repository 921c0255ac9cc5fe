"""Layers, a loss, an optimizer and a training step beside PyTorch: a table of docs/benchmarks.md.

Run ``python benchmarks/layers.py``, without OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE in the
environment. Each row times one call in turns: tinyml's backends, and PyTorch contiguous and, for
images, channels last, of which the faster counts. Results are compared before they are timed. A
layer runs as a network of one layer in training mode, and so reuses memory as in any network.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import numpy as np
import tabulate
import torch
from numpy.typing import NDArray
from torch import nn

import tinyml
from tinyml.bench import measure as bench_measure
from tinyml.bench.cases import Prepared
from tinyml.bench.environment import environment, line
from tinyml.bench.measure import Contender, measure, wall_clock
from tinyml.bench.peers import load
from tinyml.bench.results import BACKEND, PEER, Timing
from tinyml.core import Parameter
from tinyml.layers import GELU, BatchNorm2D, Layer, Linear, ReLU
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import lenet
from tinyml.net import Sequential
from tinyml.optims import SGD, Adam
from tinyml_backends import resolve, use_backend

#: A rate at which no weight changes, so that every step is the same.
RATE = 1e-30
CLASSES = 10

Run = Callable[[], Any]


@dataclass(frozen=True)
class Operation:
    """A row: what tinyml runs on the selected backend, and PyTorch in a memory format."""

    name: str
    shape: tuple[int, ...]
    ours: Callable[[], Run]
    theirs: Callable[[Any], Run]


def values(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Fixed random values."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def labels(*shape: int) -> NDArray[np.int64]:
    """Fixed random classes."""
    return np.random.default_rng(1).integers(0, CLASSES, shape)


def without_graph(function: Run) -> Run:
    """The call, without recording it for gradients."""

    def call() -> Any:
        with torch.no_grad():
            return function()

    return call


def twin(layer: Layer) -> Any:
    """The layer of PyTorch with the same weights."""
    if isinstance(layer, Linear):
        module: Any = nn.Linear(layer.input_dim[0], layer.out_dim[0])
    elif isinstance(layer, BatchNorm2D):
        module = nn.BatchNorm2d(layer.input_channel)
    else:
        module = {ReLU: nn.ReLU, GELU: nn.GELU}[type(layer)]()
    for theirs, ours in zip(module.parameters(), layer.parameters, strict=True):
        theirs.data = torch.from_numpy(tinyml.to_numpy(ours.tensor)).clone()
    return module


def of_layer(make: Callable[[], Layer], shape: tuple[int, ...]) -> Iterator[Operation]:
    """Forward in training mode, and the gradients of input and parameters."""

    def ours(backward: bool) -> Run:
        network, x = Sequential([make()]), tinyml.asarray(values(*shape))
        if not backward:
            return partial(network.forward, x)
        gradient = tinyml.asarray(values(*network.forward(x).shape, seed=2))

        def gradients() -> tuple[Any, ...]:
            network.zero_gradients()
            return network.backward(gradient), *(p.gradient for p in network.parameters)

        return gradients

    def theirs(backward: bool, tensor: Callable[[Any], Any]) -> Run:
        with use_backend("numpy"):
            module, x = twin(make()), tensor(values(*shape))
        if not backward:
            return without_graph(partial(module, x))
        y = module(x.requires_grad_())
        gradient = tensor(values(*y.shape, seed=2))
        wanted = (x, *module.parameters())
        return partial(torch.autograd.grad, y, wanted, gradient, retain_graph=True)

    for name, backward in (("forward", False), ("backward", True)):
        title = f"{type(make()).__name__}, {name}"
        yield Operation(title, shape, partial(ours, backward), partial(theirs, backward))


def of_loss(shape: tuple[int, ...]) -> Operation:
    """Softmax cross-entropy of logits, and its gradient."""
    target = labels(shape[0], *shape[2:])

    def ours() -> Run:
        loss, x, y = SoftmaxCrossEntropy(), *map(tinyml.asarray, (values(*shape), target))
        return lambda: (loss.forward(x, y), loss.backward())

    def theirs(tensor: Callable[[Any], Any]) -> Run:
        x, y = tensor(values(*shape)).requires_grad_(), torch.from_numpy(target)

        def both() -> tuple[Any, ...]:
            loss = nn.functional.cross_entropy(x, y)
            return loss.item(), *torch.autograd.grad(loss, (x,))  # ours is a number too

        return both

    return Operation("softmax cross-entropy, both", shape, ours, theirs)


def adam() -> Operation:
    """Adam's step of 16 tensors."""
    shape, count = (256, 1024), 16

    def ours() -> Run:
        parameters = [Parameter(tinyml.asarray(values(*shape, seed=n))) for n in range(count)]
        for p in parameters:
            p.gradient += 1
        optimizer = Adam(RATE)

        def step() -> tuple[Any, ...]:
            optimizer.update(parameters)
            return tuple(p.tensor for p in parameters)

        return step

    def theirs(tensor: Callable[[Any], Any]) -> Run:
        parameters = [tensor(values(*shape, seed=n)).requires_grad_() for n in range(count)]
        for p in parameters:
            p.grad = torch.ones_like(p)
        optimizer = torch.optim.Adam(parameters, RATE)

        def step() -> tuple[Any, ...]:
            optimizer.step()
            return tuple(p.detach() for p in parameters)

        return step

    return Operation(f"Adam's step, {count} tensors", shape, ours, theirs)


def lenet_step() -> Operation:
    """Training step of LeNet on 64 digits."""
    shape = (64, 1, 28, 28)
    target = labels(shape[0])

    def ours() -> Run:
        model = lenet(shape[1:], CLASSES)
        learner = Learner(model, SoftmaxCrossEntropy(), SGD(RATE, 0.9))
        x, y = map(tinyml.asarray, (values(*shape), target))

        def step() -> tuple[Any, ...]:
            return learner.step(x, y), *(p.gradient for p in model.parameters)

        return step

    def theirs(tensor: Callable[[Any], Any]) -> Run:
        conv = partial(nn.Conv2d, kernel_size=5, padding=2)
        features = [conv(1, 6), nn.ReLU(), nn.MaxPool2d(2), conv(6, 16), nn.ReLU(), nn.MaxPool2d(2)]
        dense = [nn.Linear(784, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
        module: Any = nn.Sequential(*features, nn.Flatten(), *dense)
        with use_backend("numpy"):
            weights = lenet(shape[1:], CLASSES).parameters
        for p, ours in zip(module.parameters(), weights, strict=True):
            p.data = torch.from_numpy(ours.tensor).clone()
        optimizer = torch.optim.SGD(module.parameters(), RATE, momentum=0.9)
        x, y = tensor(values(*shape)), torch.from_numpy(target)

        def step() -> tuple[Any, ...]:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(x), y)
            loss.backward()
            optimizer.step()
            return loss.item(), *(p.grad for p in module.parameters())

        return step

    return Operation("LeNet's step, SGD", shape, ours, theirs)


def operations() -> Iterator[Operation]:
    """All rows."""
    yield from of_layer(lambda: Linear("linear", 1024, 1024, rng=0), (256, 1024))
    yield from of_layer(lambda: Linear("linear", 784, 120, rng=0), (64, 784))
    for shape in ((8, 64, 112, 112), (8, 256, 28, 28)):
        yield from of_layer(partial(BatchNorm2D, "norm", shape[1:]), shape)
        yield from of_layer(partial(ReLU, "relu"), shape)
        yield from of_layer(partial(GELU, "gelu"), shape)
    yield of_loss((256, CLASSES))
    yield of_loss((8, 11, 180, 240))
    yield adam()
    yield lenet_step()


def contenders(operation: Operation, backends: list[str]) -> list[Contender]:
    """All calls of a row, whose results agree."""
    found: list[Contender] = []
    forms = [torch.contiguous_format]
    if len(operation.shape) == 4:
        forms.append(torch.channels_last)
    for form in forms:

        def tensor(array: Any, form: Any = form) -> Any:
            made = torch.from_numpy(array.copy())
            return made.contiguous(memory_format=form) if made.ndim == 4 else made

        timing = Timing(f"torch {form}", PEER, "torch", "cpu")
        found.append(Contender(timing, Prepared(operation.theirs(tensor), tuple), wall_clock))
    for name in backends:
        scope = partial(use_backend, name)
        with scope():
            prepared = Prepared(operation.ours(), tuple)
        timing = Timing(name, BACKEND, name, "cpu")
        found.append(Contender(timing, prepared, wall_clock, scope))
    wanted = results(found[0].prepared.run())
    for contender in found[1:]:
        with contender.scope():
            given = results(contender.prepared.run())
        for a, b in zip(given, wanted, strict=True):
            error = np.linalg.norm(a - b) / max(1e-30, float(np.linalg.norm(b)))
            if not error < 1e-4:
                raise click.ClickException(
                    f"{operation.name}: {contender.timing.name} differs from PyTorch by {error:.1e}"
                )
    return found


def results(result: Any) -> list[NDArray[Any]]:
    """What a call returned, in float64."""
    values = result if isinstance(result, tuple) else (result,)
    return [np.asarray(v.detach() if hasattr(v, "detach") else v, np.float64) for v in values]


@click.command()
@click.option("--backends", default="numba,numpy", show_default=True)
@click.option("--cases", default="", help="Only rows whose name has this text.")
@click.option("--rounds", default=15, show_default=True, type=click.IntRange(7))
@click.option("--settle", default=0.05, show_default=True, help="Seconds of the break before each.")
def main(backends: str, cases: str, rounds: int, settle: float) -> None:
    """Print the table; a ratio is PyTorch's median time over tinyml's.

    In the break, the threads of OpenBLAS and of PyTorch stop to spin-wait for more work.
    """
    bench_measure.SETTLED_SECONDS = settle
    names = backends.split(",")
    click.echo(line(environment([resolve(name) for name in names], [load("torch")])))
    table = []
    for operation in operations():
        if cases.lower() in operation.name.lower():
            timed = contenders(operation, names)
            measure(timed, rounds, budget=10.0)
            peer = min(c.timing.median for c in timed if c.timing.kind == PEER)
            own = [c.timing.median for c in timed if c.timing.kind == BACKEND]
            row = [operation.name, "×".join(map(str, operation.shape)), f"{peer * 1e3:.3f}"]
            row += [text for t in own for text in (f"{t * 1e3:.3f}", f"{peer / t:.2f}")]
            table.append(row)
            click.echo(" ".join(row), err=True)
    head = ["operation", "shape", "PyTorch ms"]
    head += [text for name in names for text in (f"{name} ms", "ratio")]
    click.echo(tabulate.tabulate(table, head, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
