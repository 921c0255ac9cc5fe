"""Run `cpu_targets.py` of several checkouts of tinyml in turns, and compare what it measures.

python benchmarks/compare_commits.py ../before . ../before --backend numba --runs 7

The others are compared with the first checkout. If that is given again, its second series of runs
shows how much two series of one commit differ. Each run is a process of its own, which imports the
checkout's own `cpu_targets.py`; only its `values_of_a_run` and the table it prints are used.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import geometric_mean, median

import click

#: Program of a run: it prints the table of times, and its last line holds the ratios.
RUN = """
import json, sys
from pathlib import Path
import tinyml
from cpu_targets import values_of_a_run
checkout, backend, rounds, settle = sys.argv[1:]
if not Path(tinyml.__file__).resolve().is_relative_to(checkout):
    sys.exit(f"tinyml was imported from {tinyml.__file__}, not from {checkout}")
print(json.dumps(values_of_a_run(backend, int(rounds), int(settle) / 1000)))
"""
#: Variables that make OpenBLAS use another kernel than the one it would choose for this machine.
REMOVED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


@click.command()
@click.argument("checkouts", nargs=-1, required=True, type=click.Path(True, path_type=Path))
@click.option(
    "--backend", default="numba", type=click.Choice(["numba", "numpy"]), show_default=True
)
@click.option(
    "--runs", default=7, type=click.IntRange(1), help="Runs of each checkout.", show_default=True
)
@click.option("--rounds", default=15, help="As in cpu_targets.py.", show_default=True)
@click.option("--settle", default=10, help="As in cpu_targets.py.", show_default=True)
def main(checkouts: tuple[Path, ...], backend: str, runs: int, rounds: int, settle: int) -> None:
    """Print the median of each value, and that median divided by the one of the first checkout."""
    done: list[list[dict[str, float]]] = []
    for number in range(1, runs + 1):
        done.append([])
        for checkout in checkouts:
            start = time.perf_counter()
            done[-1].append(values_of(checkout.resolve(), backend, rounds, settle))
            seconds = time.perf_counter() - start
            click.echo(f"run {number} of {runs}: {checkout}, {seconds:.0f} s", err=True)
    click.echo("\n".join(f"[{n}] {checkout}" for n, checkout in enumerate(checkouts, 1)))
    click.echo(f"{backend}: median of {runs} runs ×quotient of medians (least–greatest of one run)")
    for name in done[0][0]:
        first, *others = zip(*([values[name] for values in run] for run in done), strict=True)
        text = f"{name:<32}{median(first):8.3f}"
        for other in others:
            each = [after / before for before, after in zip(first, other, strict=True)]
            quotient = median(other) / median(first)
            text += f"{median(other):10.3f} ×{quotient:.3f} ({min(each):.2f}–{max(each):.2f})"
        click.echo(text)


def values_of(checkout: Path, backend: str, rounds: int, settle: int) -> dict[str, float]:
    """Ratios of a run in a new process, and the backend's own times in milliseconds."""
    paths = [checkout, checkout / "backends", checkout / "benchmarks"]
    variables = {name: value for name, value in os.environ.items() if name not in REMOVED}
    variables["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    program = [sys.executable, "-c", RUN, str(checkout), backend, str(rounds), str(settle)]
    run = subprocess.run(program, env=variables, cwd=checkout, stdout=subprocess.PIPE, text=True)
    lines = run.stdout.splitlines()
    if run.returncode or lines[-1] == "null":
        raise click.ClickException(f"the run of {checkout} failed\n{run.stdout}")
    return dict(json.loads(lines[-1])) | milliseconds(lines, backend)


def milliseconds(lines: list[str], backend: str) -> dict[str, float]:
    """Geometric means of the backend's median times over the shapes of each operation."""
    operation, times = "", dict[str, list[float]]()
    for line in lines:
        if line[:1].isalpha():
            operation = re.split(r" \d", line)[0] + (" 3x3/2" if " 3x3/2" in line else "")
        elif match := re.match(rf"  ({backend}(?: out=)?)\s+([\d.]+) ", line):
            times.setdefault(f"ms, {operation}, {match[1]}", []).append(float(match[2]))
    return {name: geometric_mean(each) for name, each in times.items()}


if __name__ == "__main__":
    main()
