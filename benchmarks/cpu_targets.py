"""Time the CPU backends relative to PyTorch and to copying memory.

python benchmarks/cpu_targets.py --backend numba --runs 7

The cases are timed and checked as by `tinyml bench`. Ratios are PyTorch's time over tinyml's,
geometric means over the shapes; "better" is the faster of PyTorch's two layouts at each shape. The
speed of a shared machine changes from minute to minute, so everything is measured in several runs,
and medians are compared with the targets. Each run is a process of its own: a process reuses memory
that earlier runs released, which is faster than new memory from the system.
"""

import statistics
import time
from contextlib import suppress
from multiprocessing import get_context

import click
import numpy as np

import tinyml
from tinyml.bench import measure, tables
from tinyml.bench.cases import CASES, Pooling
from tinyml.bench.environment import environment, line
from tinyml.bench.peers import load
from tinyml.bench.results import Measured, Report
from tinyml.bench.runner import run

#: Lower limits for each backend; for microseconds, upper limits.
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

OVERLAPPING = Pooling((8, 64, 112, 112), "pool", size=3, stride=2, padding=1)
#: All operations on images that are tiled by windows, the largest image first.
TILED = tuple(
    case
    for case in CASES
    if isinstance(case, Pooling) and case.ndim == 2 and not case.overlaps and case.shape[1] > 1
)


@click.command()
@click.option("--backend", default="numba", type=click.Choice(sorted(TARGETS)), show_default=True)
@click.option(
    "--runs",
    default=7,
    type=click.IntRange(1),
    show_default=True,
    help="A run takes about a minute.",
)
@click.option("--rounds", default=15, show_default=True, help="Samples of each case in a run.")
@click.option(
    "--settle",
    default=round(1000 * measure.SETTLED_SECONDS),
    show_default=True,
    help="Milliseconds of a break before each sample, and as many of calls that are not timed. "
    "With 0 the caches hold another library's arrays, and PyTorch's threads, which spin-wait "
    "after their work, occupy a CPU.",
)
def main(backend: str, runs: int, rounds: int, settle: int) -> None:
    """Print all times, and the measured values next to their targets."""
    complete: list[dict[str, float]] = []
    with get_context("spawn").Pool(1, maxtasksperchild=1) as process, suppress(KeyboardInterrupt):
        while len(complete) < runs:
            values = process.apply(values_of_a_run, (backend, rounds, settle / 1000))
            if values is None:
                break
            complete.append(values)
            click.echo(f"run {len(complete)} of {runs}\n")
    if not complete:
        raise click.ClickException("the first run was interrupted")
    click.echo(f"{'value':<32} {'target':>8} {'median':>8}   of {len(complete)} runs")
    for name, target in TARGETS[backend].items():
        each = [values[name] for values in complete]
        median = statistics.median(each)
        met = median <= target if name.startswith("micro") else median >= target
        listed = " ".join(f"{value:.2f}" for value in each)
        click.echo(f"{name:<32} {target:8.2f} {median:8.2f}   {'' if met else 'MISSED  '}{listed}")


def values_of_a_run(backend: str, rounds: int, settle: float) -> dict[str, float] | None:
    """Measure the values that have targets; None if the run was interrupted."""
    measure.SETTLED_SECONDS = settle
    tinyml.set_backend(backend)
    torch, chosen = load("torch"), tinyml.current_backend()
    report = Report(environment([chosen], [torch]))
    click.echo(line(report.environment))
    click.echo(tables.header(["torch"]))
    ratios: dict[str, list[float]] = {}
    cases = (*TILED, OVERLAPPING)
    for measured in run(report, cases, [chosen], [torch], rounds=rounds, budget=60, reuse=True):
        click.echo("\n".join(tables.rows(measured, ["torch"])))
    click.echo("\n".join(tables.disturbance(report)))
    if report.errors:
        raise click.ClickException("a result was wrong")
    named = {measured.case: measured for measured in report.measured}
    if len(named) < len(cases):
        return None
    for case in cases:
        contiguous, better = ratios_of(named[str(case)], backend)
        name = case.operation if case in TILED else "3x3/2 pad 1 pool"
        ratios.setdefault(f"{name}, contiguous", []).append(contiguous)
        ratios.setdefault(f"{name}, better", []).append(better)
    values = {name: statistics.geometric_mean(each) for name, each in ratios.items()}
    for case in TILED[:2]:
        share = share_of_copying(named[str(case)], f"{backend} out=")
        values[f"share of copying, {case.operation}"] = share
    values["microseconds of a call"] = call_overhead()
    return values


def ratios_of(measured: Measured, backend: str) -> tuple[float, float]:
    """PyTorch's time over tinyml's: of the contiguous layout, and of the faster layout."""
    timing = next(timing for timing in measured.timings if timing.name == backend)
    return measured.ratios_to_forms(timing)["torch"], measured.ratios(timing)["torch"]


def share_of_copying(measured: Measured, name: str) -> float:
    """Speed of a call that writes to existing arrays, as a share of the speed of a copy."""
    timing = next(timing for timing in measured.timings if timing.name == name)
    share = measured.share(timing)
    assert share is not None, "the largest shape is copied too"
    return share


def call_overhead() -> float:
    """Microseconds of a call that pools 1×1×4×4, checks included: the least mean of 20 series."""
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
