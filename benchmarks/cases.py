"""The one table of benchmark cases, and what each operation runs on every library."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinyml

Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A pooling of float32 images, channels first."""

    shape: tuple[int, int, int, int]
    size: int = 2
    stride: int = 2
    padding: int = 0

    def __str__(self) -> str:
        window = f"{self.size}x{self.size}/{self.stride}" + (
            f" pad {self.padding}" if self.padding else ""
        )
        return f"{'x'.join(map(str, self.shape))} {window}"

    def input(self) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        """Fixed random values."""
        return np.random.default_rng(0).standard_normal(self.shape, dtype=np.float32)


CASES = (
    Case((8, 64, 224, 224)),
    Case((8, 128, 112, 112)),
    Case((8, 256, 56, 56)),
    Case((8, 512, 28, 28)),
    Case((1, 64, 112, 112)),
    Case((8, 64, 112, 112), size=3, stride=2, padding=1),
)

OPERATIONS = ("pool", "unpool", "pool gradient", "unpool gradient")


def ours(case: Case, operation: str) -> Run:
    """A call of the operation on the selected backend."""
    x = tinyml.asarray(case.input())
    y, switches = tinyml.max_pool(x, case.size, case.stride, case.padding)
    calls: dict[str, Run] = {
        "pool": lambda: tinyml.max_pool(x, case.size, case.stride, case.padding)[0],
        "unpool": lambda: tinyml.max_unpool(y, switches),
        "pool gradient": lambda: tinyml.max_pool_gradient(y, switches),
        "unpool gradient": lambda: tinyml.max_unpool_gradient(x, switches),
    }
    return calls[operation]


def pytorch(case: Case, operation: str, *, channels_last: bool = False) -> Run:
    """The same call on PyTorch's CPU tensors, with indices: contiguous, or channels last."""
    import torch

    form = torch.channels_last if channels_last else torch.contiguous_format
    functional = torch.nn.functional
    window = (case.size, case.stride, case.padding)
    x = torch.from_numpy(case.input()).contiguous(memory_format=form).requires_grad_()
    with torch.no_grad():
        y, indices = functional.max_pool2d(x, *window, return_indices=True)
    source = y.clone().requires_grad_()
    shape = list(case.shape[2:])

    def unpool() -> Any:
        return torch.ops.aten.max_unpool2d(source, indices, shape)

    def without_graph(function: Run) -> Run:
        def call() -> Any:
            with torch.no_grad():
                return function()

        return call

    def gradient(function: Run, argument: Any, weights: Any) -> Run:
        result = function()
        return lambda: torch.autograd.grad(result, argument, weights, retain_graph=True)[0]

    def pool() -> Any:
        return functional.max_pool2d(x, *window, return_indices=True)[0]

    calls: dict[str, Callable[[], Run]] = {
        "pool": lambda: without_graph(pool),
        "unpool": lambda: without_graph(unpool),
        "pool gradient": lambda: gradient(pool, x, y),
        "unpool gradient": lambda: gradient(unpool, source, x.detach()),
    }
    return calls[operation]()
