"""Time of ``import tinyml`` and of ``import numpy``: medians of processes that take turns.

Run ``python benchmarks/import_time.py``.
"""

import statistics
import subprocess
import sys
import time

import click

MODULES = ("numpy", "tinyml")


def seconds(module: str) -> float:
    """Seconds that a new process takes to import the module and exit."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


@click.command()
@click.option("--rounds", default=15, show_default=True, help="Processes for each module.")
def main(rounds: int) -> None:
    """Print milliseconds of processes that import NumPy and tinyml, and the difference."""
    times: dict[str, list[float]] = {module: [] for module in MODULES}
    for _ in range(rounds):
        for module in MODULES:
            times[module].append(seconds(module) * 1e3)
    numpy, ours = (statistics.median(times[module]) for module in MODULES)
    click.echo(f"numpy {numpy:.0f} ms, tinyml {ours:.0f} ms: {ours - numpy:+.0f} ms")


if __name__ == "__main__":
    main()
