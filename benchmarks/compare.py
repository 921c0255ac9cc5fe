"""Times tinyml beside PyTorch in one run: interleaved calls, medians, every result checked.

python benchmarks/compare.py --cases 224 --rounds 15
"""

import os
import platform
import statistics
import time

import click
import numpy as np
import torch

import tinyml
from cases import CASES, OPERATIONS, Run, ours, pytorch

#: Seconds after which the threads of another library sleep.
SETTLED = 0.01


@click.command()
@click.option("--cases", default="", help="Only cases whose name contains this, e.g. 224.")
@click.option("--operations", default="", help="Only operations whose name contains this.")
@click.option("--rounds", default=11, show_default=True, help="Timed calls of each library.")
def main(cases: str, operations: str, rounds: int) -> None:
    """Ratio of PyTorch's time to tinyml's, by case and operation; above 1 tinyml is faster.

    PyTorch runs contiguous tensors with int64 indices on all its threads. Where windows overlap its
    unpooling is undefined and is left out.
    """
    click.echo(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs; tinyml "
        f"{tinyml.__version__} on {tinyml.current_backend().name}; NumPy {np.__version__}; "
        f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    click.echo(f"{'case':<28} {'operation':<16} {'tinyml ms':>9} {'PyTorch ms':>10} {'ratio':>6}")
    for case in CASES:
        for operation in OPERATIONS:
            overlapping_unpool = "unpool" in operation and case.size > case.stride
            if cases not in str(case) or operations not in operation or overlapping_unpool:
                continue
            mine, theirs = ours(case, operation), pytorch(case, operation)
            np.testing.assert_array_equal(tinyml.to_numpy(mine()), theirs().detach().numpy())
            times = interleaved((mine, theirs), rounds)
            click.echo(
                f"{case!s:<28} {operation:<16} {times[0] * 1e3:9.2f} {times[1] * 1e3:10.2f} "
                f"{times[1] / times[0]:6.2f}"
            )


def interleaved(calls: tuple[Run, ...], rounds: int) -> list[float]:
    """Median seconds of each call; the calls take turns, so that all see the same machine.

    Each runs unmeasured for a while before: OpenMP's threads, on which PyTorch runs, spin for some
    milliseconds after their work and would take a processor from whoever comes next.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            while time.perf_counter() - start < SETTLED:
                call()
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


if __name__ == "__main__":
    main()
