"""How far the CPU backends are ahead of PyTorch, and how near to the speed of copying memory.

python benchmarks/cpu_targets.py --backend numba --rounds 15

Ratios are PyTorch's time over tinyml's: medians of calls that take turns, and their geometric mean
over the shapes. "Better" is the faster of PyTorch's two layouts at each shape. Every result is
compared before it is timed.
"""

import os
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import numpy as np
import torch

import tinyml
from cases import CASES, OPERATIONS, Case, Run, ours, pytorch
from compare import interleaved

#: What is asked of each backend, at least; microseconds at most.
TARGETS: dict[str, dict[str, float]] = {
    "numba": {
        "pool, contiguous": 18,
        "pool, better": 2,
        "unpool, better": 2,
        "pool gradient, better": 2,
        "unpool gradient, better": 1,
        "3x3/2 pad 1 pool, contiguous": 7,
        "share of copying, pool": 0.85,
        "share of copying, unpool": 0.60,
        "microseconds of a call": 5,
    },
    "numpy": {
        "pool, contiguous": 4,
        "pool, better": 0.5,
        "unpool, better": 1,
        "pool gradient, better": 0.8,
        "unpool gradient, better": 0.5,
        "share of copying, pool": 0.25,
        "share of copying, unpool": 0.25,
        "microseconds of a call": 20,
    },
}


@click.command()
@click.option("--backend", default="numba", type=click.Choice(sorted(TARGETS)), show_default=True)
@click.option("--rounds", default=15, show_default=True, help="Timed calls of each library.")
def main(backend: str, rounds: int) -> None:
    """Print every ratio, and the targets with what was measured."""
    tinyml.set_backend(backend)
    click.echo(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs; tinyml "
        f"{tinyml.__version__} on {backend}; NumPy {np.__version__}; "
        f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    click.echo(f"{'case':<28} {'operation':<16} {'tinyml':>9} {'contiguous':>11} {'last':>11}")
    ratios: dict[str, list[float]] = {}
    pairs = [case for case in CASES if (case.size, case.stride) == (2, 2)]
    for case in pairs:
        for operation in OPERATIONS:
            contiguous, better = compared(case, operation, rounds)
            ratios.setdefault(f"{operation}, contiguous", []).append(contiguous)
            ratios.setdefault(f"{operation}, better", []).append(better)
    for case in (case for case in CASES if case not in pairs):
        name = str(case).partition(" ")[2]
        ratios[f"{name} pool, contiguous"] = [compared(case, "pool", rounds)[0]]
    measured = {name: statistics.geometric_mean(values) for name, values in ratios.items()}
    measured |= shares(pairs[0], rounds)
    measured["microseconds of a call"] = call_overhead()
    click.echo(f"\n{'target':<32} {'asked':>8} {'measured':>9}")
    for name, asked in TARGETS[backend].items():
        value = measured[name]
        met = value <= asked if name.startswith("micro") else value >= asked
        click.echo(f"{name:<32} {asked:8.2f} {value:9.2f} {'' if met else '  missed'}")


def compared(case: Case, operation: str, rounds: int) -> tuple[float, float]:
    """PyTorch's time, contiguous and in its better layout, over tinyml's."""
    calls = (
        ours(case, operation),
        pytorch(case, operation),
        pytorch(case, operation, channels_last=True),
    )
    expected = calls[1]().detach().numpy()
    np.testing.assert_array_equal(tinyml.to_numpy(calls[0]()), expected)
    np.testing.assert_array_equal(calls[2]().detach().numpy(), expected)
    mine, contiguous, last = interleaved(calls, rounds)
    click.echo(
        f"{case!s:<28} {operation:<16} {mine * 1e3:6.2f} ms {contiguous * 1e3:6.2f} "
        f"{contiguous / mine:4.1f} {last * 1e3:6.2f} {last / mine:4.1f}"
    )
    return contiguous / mine, min(contiguous, last) / mine


def shares(case: Case, rounds: int) -> dict[str, float]:
    """Bytes moved per second into given arrays, over those of copying the input."""
    x = case.input()
    y, switches = tinyml.max_pool(x, case.size, case.stride, case.padding)
    values, winners, unpooled = y.copy(), switches.winners.copy(), np.zeros_like(x)
    warm = np.zeros_like(x)
    copies = copying(x, warm)
    calls: dict[str, Run] = {
        **copies,
        "pool": lambda: tinyml.max_pool(x, 2, out=(values, winners)),
        "unpool": lambda: tinyml.max_unpool(y, switches, out=unpooled),
    }
    expected = tinyml.max_unpool(y, switches)
    values[...], winners[...] = 0, 0
    for call in calls.values():
        call()
    np.testing.assert_array_equal(values, y)
    np.testing.assert_array_equal(winners, switches.winners)
    np.testing.assert_array_equal(unpooled, expected)
    np.testing.assert_array_equal(warm, x)
    seconds = dict(zip(calls, interleaved(tuple(calls.values()), 2 * rounds), strict=True))
    speed = 2 * x.nbytes / min(seconds[name] for name in copies)
    click.echo(f"\ncopying: {', '.join(f'{n} {seconds[n] * 1e3:.2f} ms' for n in copies)}")
    moved = x.nbytes + y.nbytes + winners.nbytes
    for name in ("pool", "unpool"):
        click.echo(f"{name} with out=: {seconds[name] * 1e3:.2f} ms, {moved >> 20} MiB moved")
    return {
        f"share of copying, {name}": moved / seconds[name] / speed for name in ("pool", "unpool")
    }


def copying(x: Any, warm: Any) -> dict[str, Run]:
    """Ways to copy an array into another in two threads."""
    threads, half = ThreadPoolExecutor(2), x.size // 2
    to, of = warm.reshape(-1), x.reshape(-1)
    parts = ((to[:half], of[:half]), (to[half:], of[half:]))

    def by(copy: Any) -> Run:
        return lambda: list(threads.map(lambda part: copy(*part), parts))

    ways = {"np.copyto": by(np.copyto)}
    try:
        import numba
    except ImportError:
        return ways

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
    def loop(to: Any, of: Any) -> None:
        for i in range(len(to)):
            to[i] = of[i]

    return {**ways, "Numba": by(loop)}


def call_overhead() -> float:
    """Microseconds of a pooling of 1×1×4×4, all checks included: the best of many series."""
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    y, _ = tinyml.max_pool(x, 2)
    assert y.tolist() == [[[[5, 7], [13, 15]]]]
    series = []
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(2000):
            tinyml.max_pool(x, 2)
        series.append((time.perf_counter() - start) / 2000)
    return min(series) * 1e6


if __name__ == "__main__":
    main()
