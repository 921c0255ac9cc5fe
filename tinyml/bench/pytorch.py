"""PyTorch's calls of the cases: contiguous tensors, and channels last."""

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

from tinyml.bench.cases import (
    LEARNING_RATE,
    Case,
    Network,
    Pooling,
    Prepared,
    Run,
    Unsupported,
    values,
)
from tinyml.bench.measure import BUSY_BYTES, Contender, Timer, cuda_events, wall_clock
from tinyml.bench.results import PEER, Timing
from tinyml.bench.torch_network import torch_network
from tinyml_backends import use_backend

#: Memory formats by the number of spatial axes.
FORMATS = {
    1: ["contiguous_format"],
    2: ["contiguous_format", "channels_last"],
    3: ["contiguous_format", "channels_last_3d"],
}
#: Function that copies an array to a tensor, on a contender's device and in its memory format.
MakeTensor = Callable[[Any], Any]


class PyTorch:
    """The peer "torch": with int64 indices, and gradients by ``torch.autograd.grad``."""

    name = "torch"

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def describe(self) -> dict[str, Any]:
        """Version and threads, for the environment line."""
        return {"version": self.torch.__version__, "threads": self.torch.get_num_threads()}

    def contenders(self, case: Case, places: set[str]) -> Iterator[Contender]:
        """Both memory formats on the CPU, and on the GPU where tinyml runs there.

        Raises
        ------
        Unsupported
            If PyTorch has no such operation.
        """
        if isinstance(case, Pooling) and case.overlaps and "unpool" in case.operation:
            raise Unsupported("its unpooling is undefined where windows overlap")
        for place in sorted(places):
            if place == "gpu" and not self.torch.cuda.is_available():
                continue
            device, timer = ("cuda", self._events()) if place == "gpu" else ("cpu", wall_clock)
            for form in FORMATS[len(case.shape) - 2]:
                name = "torch cuda" if place == "gpu" else "torch"
                if form != "contiguous_format":
                    name += f" {form}"
                run = self._run(case, device, getattr(self.torch, form))
                timing = Timing(name, PEER, self.name, place)
                yield Contender(timing, Prepared(run, _results), timer)

    def _events(self) -> Timer:
        torch = self.torch
        torch.backends.cudnn.allow_tf32 = False  # all others compute in float32
        events = SimpleNamespace(
            Event=partial(torch.cuda.Event, enable_timing=True),
            get_elapsed_time=lambda start, stop: start.elapsed_time(stop),
        )
        busy = torch.zeros(BUSY_BYTES, dtype=torch.uint8, device="cuda")
        return partial(cuda_events, events, busy)

    def _run(self, case: Case, device: str, form: Any) -> Run:
        def tensor(array: Any) -> Any:
            made = self.torch.from_numpy(array).to(device)
            return made.contiguous(memory_format=form) if made.ndim > 3 else made

        if isinstance(case, Pooling):
            return self._pooling(case, tensor(values(case.shape)).requires_grad_())
        if isinstance(case, Network):
            with use_backend("numpy"):
                network = torch_network(case.layers()).to(device, memory_format=form)
            return self._network(case, network, tensor)
        raise Unsupported(f"it does not know {type(case).__name__}")

    def _pooling(self, case: Pooling, x: Any) -> Run:
        torch, functional = self.torch, self.torch.nn.functional
        window = (case.size, case.stride, case.padding)
        max_pool = getattr(functional, f"max_pool{case.ndim}d")
        pool = partial(max_pool, x, *window, return_indices=True)
        y, indices = (a.detach() for a in pool())
        source, shape = y.clone().requires_grad_(), list(case.shape[2:])
        per_axis = [[number] * case.ndim for number in (case.stride, case.padding)]
        # in 2-D and 3-D, without the checks that PyTorch's public functions make in Python
        unpool: Run = {
            1: lambda: functional.max_unpool1d(source, indices, *window, output_size=shape),
            2: lambda: torch.ops.aten.max_unpool2d(source, indices, shape),
            3: lambda: torch.ops.aten.max_unpool3d(source, indices, shape, *per_axis),
        }[case.ndim]
        if case.operation == "pool":
            return self._without_graph(pool)
        if case.operation == "unpool":
            return self._without_graph(unpool)
        if case.operation == "pool gradient":
            return self._gradient(pool()[0], (x,), y)
        return self._gradient(unpool(), (source,), x.detach())

    def _network(self, case: Network, network: Any, tensor: MakeTensor) -> Run:
        torch, x = self.torch, tensor(values(case.shape))
        if case.operation in ("conv", "inference"):
            return self._without_graph(partial(network.eval(), x))
        target = tensor(case.target())
        if case.operation == "conv gradient":
            x.requires_grad_()
            return self._gradient(network(x), (x, *network.parameters()), target)
        optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, momentum=0.9)

        def step() -> tuple[Any, ...]:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(x), target)
            loss.backward()
            optimizer.step()
            loss.item()  # our step returns a number too
            return loss, *(p.grad for p in network.parameters())

        return step

    def _without_graph(self, function: Run) -> Run:
        no_grad = self.torch.no_grad

        def call() -> Any:
            with no_grad():
                return function()

        return call

    def _gradient(self, result: Any, arguments: tuple[Any, ...], weights: Any) -> Run:
        return partial(self.torch.autograd.grad, result, arguments, weights, retain_graph=True)


def _results(result: Any) -> tuple[Any, ...]:
    tensors = result if isinstance(result, tuple) else (result,)
    return tuple(tensor.detach().cpu().numpy() for tensor in tensors)
