"""PyTorch's calls of the cases: contiguous tensors, and channels last."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tinyml.bench.cases import LEARNING_RATE, Case, Convolution, Pooling, Prepared, Run
from tinyml.bench.cases import SegNet as SegNetCase
from tinyml.bench.cases import values as numbers
from tinyml.bench.measure import Contender, Timer, wall_clock
from tinyml.bench.results import PEER, Timing
from tinyml.bench.torch_network import torch_network
from tinyml_backends import use_backend

#: The reverse of contiguous, by the number of spatial axes; one axis has none.
CHANNELS_LAST = {2: "channels_last", 3: "channels_last_3d"}


class PyTorch:
    """The peer "torch": with int64 indices, and gradients by ``torch.autograd.grad``."""

    name = "torch"

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.version = torch.__version__

    def describe(self) -> dict[str, Any]:
        """Version and threads, for the environment line."""
        return {"version": self.version, "threads": self.torch.get_num_threads()}

    def contenders(self, case: Case, places: set[str]) -> Iterator[Contender]:
        """Both memory formats on the CPU, and on the GPU where tinyml runs there.

        Raises
        ------
        LookupError
            If PyTorch has no such operation.
        """
        if isinstance(case, Pooling) and case.overlaps and "unpool" in case.operation:
            raise LookupError("its unpooling is undefined where windows overlap")
        devices = {"cpu": "cpu"}
        if "gpu" in places and self.torch.cuda.is_available():
            self.torch.backends.cudnn.allow_tf32 = False  # float32 is what all others compute
            devices["gpu"] = "cuda"
        ndim = case.ndim if isinstance(case, Pooling) else 2
        for place in sorted(places & set(devices)):
            for form in ("contiguous_format", *filter(None, [CHANNELS_LAST.get(ndim)])):
                name = "torch" + " cuda" * (place == "gpu")
                if form in CHANNELS_LAST.values():
                    name += f" {form}"
                timer: Timer = wall_clock if place == "cpu" else self._events
                prepared = self._prepare(case, devices[place], getattr(self.torch, form))
                yield Contender(Timing(name, PEER, self.name, place), prepared, timer)

    def _prepare(self, case: Case, device: str, form: Any) -> Prepared:
        def tensor(array: Any) -> Any:
            made = self.torch.from_numpy(array).to(device)
            return made.contiguous(memory_format=form) if made.ndim > 3 else made

        if isinstance(case, Pooling):
            run = self._pooling(case, tensor)
        elif isinstance(case, Convolution):
            run = self._convolution(case, tensor, device, form)
        elif isinstance(case, SegNetCase):
            run = self._segnet(case, tensor, device, form)
        else:
            raise LookupError(f"it does not know {type(case).__name__}")
        return Prepared(run, _results)

    def _pooling(self, case: Pooling, tensor: Callable[[Any], Any]) -> Run:
        torch, functional = self.torch, self.torch.nn.functional
        max_pool = getattr(functional, f"max_pool{case.ndim}d")
        window = (case.size, case.stride, case.padding)
        x = tensor(numbers(case.shape)).requires_grad_()
        y, indices = (a.detach() for a in max_pool(x, *window, return_indices=True))
        source, shape = y.clone().requires_grad_(), list(case.shape[2:])
        per_axis = [[number] * case.ndim for number in (case.stride, case.padding)]
        # in 2-D and 3-D without the checks that the public functions do in Python
        unpool: Run = {
            1: lambda: functional.max_unpool1d(source, indices, *window, output_size=shape),
            2: lambda: torch.ops.aten.max_unpool2d(source, indices, shape),
            3: lambda: torch.ops.aten.max_unpool3d(source, indices, shape, *per_axis),
        }[case.ndim]
        if case.operation == "pool":
            return self._without_graph(partial(max_pool, x, *window, return_indices=True))
        if case.operation == "unpool":
            return self._without_graph(unpool)
        if case.operation == "pool gradient":
            pooled = max_pool(x, *window, return_indices=True)[0]
            return partial(self._grad, pooled, (x,), y)
        return partial(self._grad, unpool(), (source,), x.detach())

    def _convolution(
        self, case: Convolution, tensor: Callable[[Any], Any], device: str, form: Any
    ) -> Run:
        with use_backend("numpy"):
            model = torch_network([case.layer()]).to(device).to(memory_format=form)
        x = tensor(numbers(case.shape)).requires_grad_()
        if case.operation == "conv":
            return self._without_graph(partial(model, x))
        return partial(self._grad, model(x), (x, *model.parameters()), tensor(case.gradient()))

    def _segnet(
        self, case: SegNetCase, tensor: Callable[[Any], Any], device: str, form: Any
    ) -> Run:
        torch = self.torch
        with use_backend("numpy"):
            model = torch_network(case.model().layers).to(device).to(memory_format=form)
        x = tensor(numbers(case.shape))
        if case.operation == "inference":
            return self._without_graph(partial(model.eval(), x))
        target = torch.from_numpy(case.target()).to(device)
        optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=0.9)

        def step() -> tuple[Any, ...]:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), target)
            loss.backward()
            optimizer.step()
            loss.item()  # our step returns a number too
            return loss, *(p.grad for p in model.parameters())

        return step

    def _without_graph(self, function: Run) -> Run:
        no_grad = self.torch.no_grad

        def call() -> Any:
            with no_grad():
                return function()

        return call

    def _grad(self, result: Any, arguments: tuple[Any, ...], weights: Any) -> Any:
        return self.torch.autograd.grad(result, arguments, weights, retain_graph=True)

    def _events(self, run: Run, repeats: int) -> float:
        """Mean seconds between two CUDA events."""
        event = partial(self.torch.cuda.Event, enable_timing=True)
        start, stop = event(), event()
        start.record()
        for _ in range(repeats):
            run()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) / 1e3 / repeats


def _results(result: Any) -> tuple[Any, ...]:
    tensors = result if isinstance(result, tuple) else (result,)
    return tuple(tensor.detach().cpu().numpy() for tensor in tensors)
