"""Times the pooling family on a GPU by CUDA events, beside a copy from device to device.

python benchmarks/gpu.py --cases 224 --rounds 21
"""

import math
import statistics
from typing import Any

import click
import numpy as np

import tinyml
from cases import CASES, OPERATIONS, Case, Run, ours
from tinyml_backends import Backend, BackendUnavailableError

#: The copy is of at least so many bytes, so that no cache holds it.
COPY_BYTES = 1 << 28
#: Calls between two events.
CALLS = 10


@click.command()
@click.option("--device", default=0, show_default=True, help="Number of the CUDA device.")
@click.option("--cases", default="", help="Only cases whose name contains this, e.g. 224.")
@click.option("--rounds", default=11, show_default=True, help="Timed calls of each operation.")
def main(device: int, cases: str, rounds: int) -> None:
    """Milliseconds, GB/s and the share of the copy's GB/s, medians; every result is checked.

    GB/s count the bytes that an operation cannot do without: input, output and winners, each once.
    """
    try:
        tinyml.set_backend(f"cupy:{device}")
    except BackendUnavailableError as error:
        raise click.ClickException(str(error)) from None
    for line in report(tinyml.current_backend(), CASES, cases, rounds):
        click.echo(line)


def report(backend: Backend, all_cases: tuple[Case, ...], cases: str, rounds: int) -> Any:
    """Lines of the table, as they are measured."""
    cupy: Any = backend.xp
    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    yield f"{name}, CUDA {runtime.runtimeGetVersion()}, CuPy {cupy.__version__}, float32"
    copied = copy_speed(cupy, rounds)
    yield f"copy from device to device: {copied:.0f} GB/s"
    yield f"{'case':<28} {'operation':<16} {'ms':>9} {'GB/s':>7} {'of copy':>8}"
    for case in all_cases:
        if cases not in str(case):
            continue
        for operation in OPERATIONS:
            call = ours(case, operation)
            check(case, operation, call())
            milliseconds = median_ms(cupy, call, rounds)
            speed = least_bytes(case, operation) / milliseconds / 1e6
            yield (
                f"{case!s:<28} {operation:<16} {milliseconds:9.4f} {speed:7.0f} "
                f"{speed / copied:8.0%}"
            )


def check(case: Case, operation: str, result: Any) -> None:
    """Compare with NumPy's result."""
    with tinyml.use_backend("numpy"):
        expected = ours(case, operation)()
    np.testing.assert_array_equal(tinyml.to_numpy(result), expected)


def least_bytes(case: Case, operation: str) -> int:
    """Bytes of input, output and winners."""
    pooled = [(n + 2 * case.padding - case.size) // case.stride + 1 for n in case.shape[2:]]
    windows = math.prod(case.shape[:2]) * math.prod(pooled)
    gathers = operation == "unpool gradient"  # reads one cell of each window
    cells = windows if gathers else math.prod(case.shape)
    return 4 * cells + 5 * windows


def copy_speed(cupy: Any, rounds: int) -> float:
    """GB/s, read and written, of a copy from device to device."""
    source, target = cupy.zeros(COPY_BYTES, np.uint8), cupy.empty(COPY_BYTES, np.uint8)

    def copy() -> None:
        target[...] = source

    return 2 * COPY_BYTES / median_ms(cupy, copy, rounds) / 1e6


def median_ms(cupy: Any, call: Run, rounds: int) -> float:
    """Median milliseconds of a call between CUDA events; the first calls warm up.

    The GPU is given something to do first, so that the calls are queued before it comes to them:
    otherwise the time would be Python's.
    """
    taken = []
    busy = cupy.zeros(COPY_BYTES, np.uint8)
    for number in range(rounds + 3):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        for _ in range(8):
            busy.fill(0)
        start.record()
        for _ in range(CALLS):
            call()
        stop.record()
        stop.synchronize()
        if number >= 3:
            taken.append(cupy.cuda.get_elapsed_time(start, stop) / CALLS)
    return float(statistics.median(taken))


if __name__ == "__main__":
    main()
