"""The one table of benchmark cases, and what each of them runs on tinyml."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tinyml
from tinyml.layers import Conv2D, Layer
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import lenet, segnet
from tinyml.net import Sequential
from tinyml.optims import SGD
from tinyml_backends import Backend, Window
from tinyml_backends.numpy_backend import NumpyBackend

Run = Callable[[], Any]
Results = tuple[NDArray[Any], ...]

#: So small that no weight changes: every training step runs the same network.
LEARNING_RATE = 1e-30


class Prepared(NamedTuple):
    """A call that is timed, and a function that reads its result."""

    run: Run
    results: Callable[[Any], Results]
    """NumPy arrays of what ``run`` returned, in the form that all contenders share."""


class Case(ABC):
    """A row of the table: an operation on fixed random float32 values, channels first."""

    shape: tuple[int, ...]
    operation: str

    #: Largest allowed norm of the error, relative to the reference's norm; 0 requires equal values.
    tolerance: ClassVar[float] = 0.0

    @property
    def group(self) -> str:
        """Cases of one group, for example "unpool gradient", share a geometric mean."""
        return self.operation

    @property
    def size_in_bytes(self) -> int | None:
        """Bytes of input, output and winners or weights, each once; None for whole networks."""
        return None

    @abstractmethod
    def prepare(self) -> Prepared:
        """Prepare the call on the selected backend."""


@lru_cache(maxsize=4)
def values(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    """Fixed random values, which are only read."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


OPERATIONS = ("pool", "unpool", "pool gradient", "unpool gradient")


@dataclass(frozen=True)
class Pooling(Case):
    """An operation of the pooling family, in one to three spatial axes.

    Results are its values, and for "pool" the winners as flat positions in their planes.
    """

    shape: tuple[int, ...]
    operation: str = "pool"
    size: int = 2
    stride: int = 2
    padding: int = 0

    def __str__(self) -> str:
        window = "x".join([str(self.size)] * self.ndim) + f"/{self.stride}"
        padding = f" pad {self.padding}" if self.padding else ""
        return f"{self.operation} {_joined(self.shape)} {window}{padding}"

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.shape) - 2

    @property
    def overlaps(self) -> bool:
        """Whether windows share cells; libraries unpool such windows in different ways."""
        return self.size > self.stride

    @property
    def size_in_bytes(self) -> int:
        """Input, output and winners."""
        window = Window.of(self.ndim, self.size, self.stride, self.padding)
        windows = math.prod(self.shape[:2]) * math.prod(window.output_shape(self.shape[2:]))
        return 4 * math.prod(self.shape) + (4 + window.winner_dtype.itemsize) * windows

    def prepare(self, *, reuse: bool = False) -> Prepared:
        """Pool once for the winners; with ``reuse`` the timed call writes to existing arrays."""
        x = tinyml.asarray(values(self.shape))
        window = (self.size, self.stride, self.padding)
        y, switches = tinyml.max_pool(x, *window)
        out: dict[str, Any] = {}
        if reuse and self.operation == "pool":
            out["out"] = (0 * y, 0 * switches.winners)
        elif reuse:
            out["out"] = 0 * (y if self.operation == "unpool gradient" else x)
        calls: dict[str, Run] = {
            "pool": lambda: tinyml.max_pool(x, *window, **out),
            "unpool": lambda: tinyml.max_unpool(y, switches, **out),
            "pool gradient": lambda: tinyml.max_pool_gradient(y, switches, **out),
            "unpool gradient": lambda: tinyml.max_unpool_gradient(x, switches, **out),
        }
        return Prepared(calls[self.operation], self._results)

    def _results(self, result: Any) -> Results:
        if self.operation != "pool":
            return (tinyml.to_numpy(result),)
        y, switches = result
        return tinyml.to_numpy(y), tinyml.to_numpy(switches.to("plane"))


class Unsupported(LookupError):
    """A library lacks an operation or layer; the message says which."""


class Network(Case):
    """A sequence of layers, which peers rebuild with the same weights."""

    @abstractmethod
    def layers(self) -> Sequence[Layer]:
        """Its layers on the selected backend, with weights from a fixed seed."""

    @abstractmethod
    def target(self) -> NDArray[Any]:
        """Gradient at the output, or a class for every pixel, for the backward pass."""


@dataclass(frozen=True)
class Convolution(Network):
    """`Conv2D` with square kernels: forward, or the gradients of x and w.

    Half a kernel is padded, so that the stride alone makes the output smaller than the input.
    """

    shape: tuple[int, int, int, int]
    filters: int
    size: int = 3
    stride: int = 1
    groups: int = 1
    operation: str = "conv"

    tolerance: ClassVar[float] = 1e-5

    def __str__(self) -> str:
        stride = f"/{self.stride}" * (self.stride > 1)
        groups = f" in {self.groups} groups" * (self.groups > 1)
        window = f"{self.size}x{self.size}{stride}"
        return f"{self.operation} {_joined(self.shape)} {window} to {self.filters}{groups}"

    @property
    def size_in_bytes(self) -> int:
        """Input, output and weights; for the gradients, input and weights twice."""
        cells, output = math.prod(self.shape), math.prod(self.output_shape)
        weights = self.filters * self.shape[1] // self.groups * self.size**2
        passes = 2 if self.operation == "conv gradient" else 1
        return 4 * (passes * (cells + weights) + output)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the output."""
        height, width = (-(-length // self.stride) for length in self.shape[2:])
        return self.shape[0], self.filters, height, width

    def layers(self) -> list[Conv2D]:
        """One layer without a bias."""
        window = (self.size, self.stride, self.size // 2)
        options: dict[str, Any] = {"groups": self.groups, "bias": False, "rng": 0}
        return [Conv2D("conv", self.shape[1:], self.filters, *window, **options)]

    def target(self) -> NDArray[np.float32]:
        """Gradient with respect to the output."""
        return values(self.output_shape, 2)

    def prepare(self) -> Prepared:
        """Build the layer; the gradients start from one forward pass."""
        (layer,), x = self.layers(), tinyml.asarray(values(self.shape))
        if self.operation == "conv":
            return Prepared(lambda: layer(x), lambda y: (tinyml.to_numpy(y),))
        gradient = tinyml.asarray(self.target())
        layer(x)

        def backward() -> tuple[Any, Any]:
            layer.zero_gradients()
            return layer.backward(gradient), layer.weight.gradient

        return Prepared(backward, lambda both: tuple(map(tinyml.to_numpy, both)))


@dataclass(frozen=True)
class Model(Network):
    """A network of `tinyml.models`: inference, or a training step with a class for every output.

    Results are the logits, or the loss and the gradients of all parameters.
    """

    name: str
    shape: tuple[int, int, int, int]
    operation: str
    classes: int

    #: Large, since rounding decides which of two nearly equal values of a window is its maximum.
    #: The error of a network with one wrong layer is about 1.
    tolerance: ClassVar[float] = 3e-2

    def __str__(self) -> str:
        return f"{self.group} {_joined(self.shape)}"

    @property
    def group(self) -> str:
        """Name of the network, and the operation."""
        return f"{self.name} {self.operation}"

    @abstractmethod
    def model(self) -> Sequential:
        """Build the network with weights from a fixed seed."""

    def layers(self) -> Sequence[Layer]:
        """All layers of the network."""
        return self.model().layers

    def prepare(self) -> Prepared:
        """Build the network; a training step is `Learner.step` with SGD and momentum."""
        model, x = self.model(), tinyml.asarray(values(self.shape))
        if self.operation == "inference":
            model.eval()
            return Prepared(lambda: model(x), lambda logits: (tinyml.to_numpy(logits),))
        target = tinyml.asarray(self.target())
        learner = Learner(model, SoftmaxCrossEntropy(), SGD(LEARNING_RATE, 0.9))

        def step() -> tuple[float, list[Any]]:
            return learner.step(x, target), [p.gradient for p in model.parameters]

        return Prepared(step, lambda r: (np.array(r[0], np.float32), *map(tinyml.to_numpy, r[1])))


@dataclass(frozen=True)
class SegNet(Model):
    """`tinyml.models.segnet`, as in the demo or as SegNet-Basic."""

    depth: int
    channels: int

    def model(self) -> Sequential:
        """Build the network with weights from a fixed seed."""
        return segnet(self.shape[1:], self.classes, depth=self.depth, channels=self.channels, rng=0)

    def target(self) -> NDArray[np.int64]:
        """A class for every pixel."""
        shape = (self.shape[0], *self.shape[2:])
        return np.random.default_rng(1).integers(0, self.classes, shape)


@dataclass(frozen=True)
class LeNet(Model):
    """`tinyml.models.lenet`."""

    def model(self) -> Sequential:
        """Build the network with weights from a fixed seed."""
        return lenet(self.shape[1:], self.classes, rng=0)

    def target(self) -> NDArray[np.int64]:
        """A class for every image."""
        return np.random.default_rng(1).integers(0, self.classes, self.shape[:1])


def _joined(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


#: Poolings of the table; each operation of `OPERATIONS` runs on each.
POOLINGS = (
    Pooling((8, 64, 224, 224)),
    Pooling((8, 128, 112, 112)),
    Pooling((8, 256, 56, 56)),
    Pooling((8, 512, 28, 28)),
    Pooling((1, 64, 112, 112)),
    Pooling((1, 1, 4, 4)),
    Pooling((8, 64, 112, 112), size=3, stride=2, padding=1),
    Pooling((8, 64, 32768)),
    Pooling((2, 32, 64, 64, 64)),
    Pooling((1, 1, 128, 256, 256)),
)

#: Convolutions of 3×3 with stride 1 in VGG16, U-Net and SegNet, from large images to small ones.
CONVOLUTIONS = (
    Convolution((1, 64, 360, 480), 64),
    Convolution((8, 64, 112, 112), 64),
    Convolution((1, 64, 180, 240), 64),
    Convolution((1, 256, 56, 56), 256),
    Convolution((1, 512, 28, 28), 512),
)
#: Other windows: of ResNet (1×1, stride 2, its first layer), depthwise, and 5×5.
OTHER_CONVOLUTIONS = (
    Convolution((1, 256, 56, 56), 64, size=1),
    Convolution((1, 128, 56, 56), 128, stride=2),
    Convolution((1, 3, 224, 224), 64, size=7, stride=2),
    Convolution((1, 128, 112, 112), 128, groups=128),
    Convolution((1, 64, 56, 56), 64, size=5),
)
#: More layers of the networks: VGG16's first, second and last one, and U-Net's last 3×3.
MORE_CONVOLUTIONS = (
    Convolution((1, 3, 224, 224), 64),
    Convolution((1, 64, 224, 224), 64),
    Convolution((1, 512, 14, 14), 512),
    Convolution((8, 256, 28, 28), 256),
    Convolution((1, 128, 256, 256), 64),
)

SEGNET_INFERENCE = SegNet("segnet-basic", (1, 3, 360, 480), "inference", 11, 4, 64)
SEGNET_STEP = replace(SEGNET_INFERENCE, operation="training step")
DEMO_STEP = SegNet("segnet-demo", (8, 1, 64, 64), "training step", classes=2, depth=3, channels=16)
LENET_STEP = LeNet("lenet", (64, 1, 28, 28), "training step", classes=10)

CASES: tuple[Case, ...] = (
    *(replace(pooling, operation=operation) for pooling in POOLINGS for operation in OPERATIONS),
    *(
        replace(convolution, operation=operation)
        for convolution in (*CONVOLUTIONS, *OTHER_CONVOLUTIONS, *MORE_CONVOLUTIONS)
        for operation in ("conv", "conv gradient")
    ),
    SegNet("segnet-demo", (1, 1, 512, 256), "inference", classes=2, depth=3, channels=16),
    DEMO_STEP,
    SEGNET_INFERENCE,
    SEGNET_STEP,
    LENET_STEP,
)


def chosen(text: str) -> tuple[Case, ...]:
    """Cases of the table whose names have every word of ``text``.

    A word that starts with a letter matches at the start of a word, so that "pool" does not match
    "unpool"; others match anywhere.
    """
    patterns = [re.compile(r"\b" * word[0].isalpha() + re.escape(word)) for word in text.split()]
    return tuple(case for case in CASES if all(p.search(str(case)) for p in patterns))


class Reference(NumpyBackend):
    """The generic kernels of pooling and convolution; every result is compared with theirs."""

    name = "reference"

    max_pool = Backend.max_pool
    max_unpool = Backend.max_unpool
    max_unpool_gradient = Backend.max_unpool_gradient
    run_in_order = Backend.run_in_order


def reference(case: Case) -> Results:
    """Expected results of the case."""
    with tinyml.use_backend(Reference()):
        run, results = case.prepare()
        return results(run())


def _norm(array: NDArray[Any]) -> float:
    return float(np.linalg.norm(array.ravel().astype(np.float64)))


def difference(found: Results, expected: Results, tolerance: float) -> str:
    """Say where results differ from the expected ones; empty if they do not."""
    for a, b in zip(found, expected, strict=True):
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return f"{a.dtype} {a.shape}, expected {b.dtype} {b.shape}"
        differ = ~((a == b) | ((a != a) & (b != b)))
        if not differ.any():
            continue
        error = np.inf  # an index is right or wrong
        if b.dtype.kind == "f":
            error = _norm(a - b) / max(_norm(b), 1e-300)
        if not error <= tolerance:
            where = tuple(map(int, np.argwhere(differ)[0]))
            return (
                f"{np.count_nonzero(differ):,} of {differ.size:,} values differ, the first at "
                f"{where}: {a[where]}, expected {b[where]}; error {error:.2g}, at most "
                f"{tolerance:g} is allowed"
            )
    return ""
