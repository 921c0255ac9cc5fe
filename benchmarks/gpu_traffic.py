"""Launches, bytes, waits and computed time of training and inference on a GPU, without a GPU.

Run ``python benchmarks/gpu_traffic.py [CASE] [--json FILE] [--compare FILE]``. A case runs on the
emulated CuPy of ``tests/emulation``, which tells what is launched and does not compute large
results. For each layer, and in total, the table has launches, bytes read and written, and a
computed time on an NVIDIA H100. Nothing here is measured.

The model, for each launch: the largest of

- its bytes over 2.85 TB/s (85 % of the 3.35 TB/s of the H100 SXM's data sheet). An array that is
  read counts at 5.5 TB/s if it was written before by a launch, and no more than 50 MB (the L2 of
  the data sheet) have moved since;
- the operations of a matrix product over 50 TFLOP/s (of 67 for float32 without tensor cores).

To this comes 4 µs for each launch. Bytes of the kernels of tinyml are those of their arguments,
each array once: what a neighbour reads again is taken to hit a cache. CuPy's own operations:

- an elementwise function, a copy, ``fill`` or a reduction is one launch that reads its arguments
  and writes its result (``cupy/_core/_kernel.pyx``, ``_reduction.pyx``); reductions of several
  kernels (CUB) count as one. Indexing with arrays counts as one launch;
- ``matmul`` of two matrices is one call of cuBLAS, and copies an operand that is neither C- nor
  Fortran-contiguous. With more axes, it copies all operands that are not C-contiguous. If it has to
  broadcast, three kernels for each axis of the batch make arrays of pointers
  (``cupy/_core/_routines_linalg.pyx``, ``dot`` and ``matmul``, of CuPy 14);
- a product of cuBLAS reads and writes each array once, and is one launch.

Left out: instructions (a kernel may be limited by them instead, see docs/gpu.md), how many thread
blocks fill the card, the shape of a matrix product, work that overlaps, and the time of Python. The
peak of the memory counts arrays, without what CuPy's pool keeps and without cuBLAS' workspace.
"""

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import tinyml
from emulation.backend import EmulatedCupyBackend
from emulation.observed import observed
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import lenet, segnet
from tinyml.net import Sequential
from tinyml.optims import Adam

MEMORY, CACHE = 2.85e12, 5.5e12
CACHE_BYTES = 50e6
FLOPS = 50e12
LAUNCH = 4e-6

#: Kernels that read what they write, and may have found written before.
IN_PLACE = ("adam", "sgd", "claim_cells", "winners_from_indices")


@dataclass
class Count:
    """What one layer, or all, moved."""

    launches: int = 0
    read: int = 0
    written: int = 0
    seconds: float = 0.0
    waits: int = 0
    to_device: int = 0
    to_host: int = 0
    kernels: dict[str, float] = field(default_factory=dict)

    def add(self, other: "Count") -> None:
        """Add another count."""
        for name in ("launches", "read", "written", "seconds", "waits", "to_device", "to_host"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, seconds in other.kernels.items():
            self.kernels[name] = self.kernels.get(name, 0) + seconds


class Counter:
    """An `emulation.observed.Observer` that counts under the label that is set."""

    lazy = True

    def __init__(self) -> None:
        self.counts: dict[str, Count] = {}
        self.label = "learner"
        self.memory = self.peak = 0
        self._moved = 0
        self._written: dict[int, int] = {}

    @property
    def total(self) -> Count:
        """The sum over all labels."""
        total = Count()
        for count in self.counts.values():
            total.add(count)
        return total

    @property
    def here(self) -> Count:
        """The count of the current label."""
        return self.counts.setdefault(self.label, Count())

    def launched(self, name: str, parameters: Sequence[Any], args: Sequence[Any]) -> None:
        """A kernel of tinyml."""
        pointers = [(p, a) for p, a in zip(parameters, args, strict=True) if p.pointer]
        inputs = [a for p, a in pointers if p.constant]
        outputs = [a for p, a in pointers if not p.constant]
        kind = name.partition("<")[0]
        if kind in IN_PLACE:
            inputs += outputs
        self._launch(kind, inputs, outputs)

    def called(self, name: str, arrays: Sequence[Any], results: Sequence[Any]) -> None:
        """An operation of CuPy."""
        self._launch(f"cupy {name}", arrays, results)

    def multiplied(self, name: str, arrays: Sequence[Any], shape: tuple[int, ...]) -> None:
        """A matrix product, with the copies of `matmul`."""
        *operands, result = arrays
        if name == "matmul":
            axes = max(a.ndim for a in operands)
            for a in operands:
                is_plain = a.flags.c_contiguous or (axes <= 2 and a.flags.f_contiguous)
                if not is_plain:
                    self._launch("cupy copy", [a], [a])
            if axes > 2 and any(prod(a.shape[:-2]) != shape[0] for a in operands):
                for _ in range(3 * (axes - 2)):
                    self._launch("cupy pointers", [], [])
        self._launch("cublas", operands, [result], operations=2 * prod(shape))

    def copied(self, direction: str, nbytes: int) -> None:
        """A copy between host and device."""
        if direction == "to host":
            self.here.to_host += nbytes
        else:
            self.here.to_device += nbytes

    def waited(self) -> None:
        """A wait of the host."""
        self.here.waits += 1

    def allocated(self, nbytes: int) -> None:
        """Memory of CuPy comes in multiples of 512 bytes."""
        rounded = -(-abs(nbytes) // 512) * 512
        self.memory += rounded if nbytes > 0 else -rounded
        self.peak = max(self.peak, self.memory)

    def _launch(
        self, name: str, inputs: Sequence[Any], outputs: Sequence[Any], operations: int = 0
    ) -> None:
        seconds, read = 0.0, 0
        for array in {(a.data.ptr, a.nbytes): a for a in inputs}.values():
            written = self._written.get(id(array._memory))
            is_cached = written is not None and self._moved - written <= CACHE_BYTES
            seconds += array.nbytes / (CACHE if is_cached else MEMORY)
            read += array.nbytes
        written_now = sum(a.nbytes for a in outputs)
        seconds += written_now / MEMORY
        for array in outputs:
            self._written[id(array._memory)] = self._moved
        self._moved += read + written_now
        seconds = max(seconds, operations / FLOPS) + LAUNCH
        self.here.add(Count(1, read, written_now, seconds, kernels={name: seconds}))

    @contextmanager
    def labelled(self, label: str) -> Iterator[None]:
        """Context that counts under a label."""
        before, self.label = self.label, label
        try:
            yield
        finally:
            self.label = before

    def watch(self, owner: Any, method: str, label: str) -> None:
        """Count what a method of an object does under a label."""
        call = getattr(owner, method)

        def watched(*args: Any, **kwargs: Any) -> Any:
            with self.labelled(label):
                return call(*args, **kwargs)

        setattr(owner, method, watched)


def _watch_layers(counter: Counter, model: Sequential) -> None:
    for layer in model.layers:
        for method in ("forward", "backward"):
            counter.watch(layer, method, f"{layer.name} {method}")


def _step(model: Sequential, x: Any, y: Any, counter: Counter) -> Callable[[], object]:
    learner = Learner(model.to("cupy-emulated"), SoftmaxCrossEntropy(), Adam(1e-3))
    _watch_layers(counter, model)
    for method in ("forward", "backward"):
        counter.watch(learner.loss, method, f"loss {method}")
    counter.watch(learner.optimizer, "update", "optimizer")
    return lambda: learner.step(x, y)


def _segnet(samples: int = 8, side: tuple[int, int] = (360, 480)) -> Any:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, 3, *side), np.float32)
    return segnet((3, *side), 11), x, rng.integers(0, 11, (samples, *side))


def segnet_step(counter: Counter) -> Callable[[], object]:
    """A step of SegNet (64 channels, depth 3, 11 classes) on 8 images of 360×480, with Adam."""
    model, x, y = _segnet()
    return _step(model, x, y, counter)


def segnet_inference(counter: Counter) -> Callable[[], object]:
    """Inference of the same network."""
    model, x, _ = _segnet()
    model.to("cupy-emulated").eval()
    _watch_layers(counter, model)
    given = tinyml.asarray(x)
    return lambda: model(given)


def lenet_step(counter: Counter) -> Callable[[], object]:
    """A step of LeNet on 64 digits of 28×28, with Adam."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 1, 28, 28), np.float32)
    return _step(lenet((1, 28, 28), 10), x, rng.integers(0, 10, 64), counter)


CASES = {
    "segnet-step": segnet_step,
    "segnet-inference": segnet_inference,
    "lenet-step": lenet_step,
}


def count(case: str) -> Counter:
    """Counts of the second call of a case: the first one makes the state of the optimizer."""
    counter = Counter()
    tinyml.register_backend("cupy-emulated", EmulatedCupyBackend)
    with tinyml.use_backend("cupy-emulated"), observed(counter), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # values were not computed
        run = CASES[case](counter)
        run()
        counter.counts.clear()
        counter.peak = counter.memory
        result = run()
        del result
    return counter


def figures(counter: Counter) -> dict[str, Any]:
    """All counts as plain data."""
    total = counter.total
    layers = {label: asdict(of_layer) for label, of_layer in counter.counts.items()}
    return {"total": {**asdict(total), "peak_memory": counter.peak}, "layers": layers}


def table(found: dict[str, Any], before: dict[str, Any] | None) -> str:
    """The figures as text, beside those of another run."""
    lines = [f"{'':28}{'launches':>9}{'read MB':>9}{'written':>9}{'waits':>6}{'ms':>9}"]
    rows = {**found["layers"], "total": found["total"]}
    for label, row in rows.items():
        line = (
            f"{label:28}{row['launches']:9}{row['read'] / 1e6:9.1f}{row['written'] / 1e6:9.1f}"
            f"{row['waits']:6}{row['seconds'] * 1e3:9.3f}"
        )
        old = {} if before is None else {**before["layers"], "total": before["total"]}.get(label)
        if old:
            line += f"   before: {old['launches']} launches, {old['seconds'] * 1e3:.3f} ms"
        lines.append(line)
    total = found["total"]
    lines.append(
        f"peak of device memory {total['peak_memory'] / 1e9:.2f} GB; copied to the device "
        f"{total['to_device']} bytes, to the host {total['to_host']}"
    )
    slowest = sorted(total["kernels"].items(), key=lambda item: -item[1])[:12]
    lines.append("by kernel, ms: " + ", ".join(f"{n} {1e3 * s:.2f}" for n, s in slowest))
    return "\n".join(lines)


@click.command(help=__doc__)
@click.argument("case", type=click.Choice(list(CASES)), default="segnet-step")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures.")
@click.option("--compare", type=click.Path(exists=True, path_type=Path), help="An older file.")
def main(case: str, json_file: Path | None, compare: Path | None) -> None:
    """Print the figures of a case."""
    found = figures(count(case))
    before = None if compare is None else json.loads(compare.read_text("utf-8"))
    click.echo(table(found, before))
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1), "utf-8")


if __name__ == "__main__":
    main()
