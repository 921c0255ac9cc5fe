"""The table of convolutions: the time of the fastest other library over tinyml's, and the targets.

Run ``python benchmarks/convolution_table.py``; ``--rows`` runs a part of it. The cases are timed in
turns and checked as by `tinyml bench`, with every other library that is installed. Progress and all
times go to standard error, the table to standard output. OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE are
removed from the environment first.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import tabulate

from tinyml.bench import measure, tables
from tinyml.bench.cases import (
    CONVOLUTIONS,
    DEMO_STEP,
    LENET_STEP,
    OTHER_CONVOLUTIONS,
    SEGNET_INFERENCE,
    SEGNET_STEP,
    Case,
)
from tinyml.bench.environment import VARIABLES, environment, line
from tinyml.bench.load import MUCH
from tinyml.bench.measure import FEWEST_ROUNDS
from tinyml.bench.peers import PEERS, Peer, load
from tinyml.bench.results import BACKEND, Report
from tinyml.bench.runner import run
from tinyml_backends import Backend, resolve


@dataclass(frozen=True)
class Row:
    """Cases with a target for the geometric mean of their ratios, and one for the least of them."""

    title: str
    cases: tuple[Case, ...]
    mean: dict[str, float]
    """By backend."""
    least: dict[str, float] = field(default_factory=dict)


def gradients(cases: tuple[Any, ...]) -> tuple[Case, ...]:
    return tuple(replace(case, operation="conv gradient") for case in cases)


BOTH = {"numba": 1.3, "numpy": 0.9}
ROWS = {
    "3x3": Row("3×3 stride 1", CONVOLUTIONS, {"numba": 1.4, "numpy": 0.9}, {"numba": 1.05}),
    "other": Row(
        "1×1, 3×3/2, 7×7/2, depthwise 3×3, 5×5",
        OTHER_CONVOLUTIONS,
        {"numba": 0.9, "numpy": 0.5},
        {"numba": 0.6},
    ),
    "gradients": Row("both gradients, 3×3 stride 1", gradients(CONVOLUTIONS), BOTH),
    "other-gradients": Row("both gradients, the others", gradients(OTHER_CONVOLUTIONS), BOTH),
    "inference": Row("SegNet-Basic, inference", (SEGNET_INFERENCE,), {"numba": 1.4, "numpy": 0.8}),
    "step": Row("SegNet-Basic, training step", (SEGNET_STEP,), BOTH),
    "demo": Row("demo, training step", (DEMO_STEP,), {"numba": 1.0, "numpy": 0.6}),
    "lenet": Row("LeNet, training step", (LENET_STEP,), {"numba": 1.0, "numpy": 0.6}),
    "memory": Row("memory of SegNet's second training step", (), {"numba": 1.0, "numpy": 1.0}),
}


def ratios_of(
    row: Row, report: Report, backends: list[Backend], peers: list[Peer], repeats: int
) -> dict[str, dict[str, float]]:
    """Time of the fastest other library over ours: by backend, then by case."""
    found: dict[str, dict[str, float]] = {backend.name: {} for backend in backends}
    for measured in run(report, row.cases, backends, peers, rounds=repeats, budget=float("inf")):
        click.echo("\n".join(tables.rows(measured, [peer.name for peer in peers])), err=True)
        for timing in measured.timings:
            ratios = measured.ratios(timing).values()
            if timing.kind == BACKEND and ratios:
                found[timing.name][measured.case] = min(ratios)
    return found


def memory_ratios(backends: list[Backend]) -> dict[str, dict[str, float]]:
    """Peak memory of PyTorch over ours, each measured by memory.py in a process of its own."""
    theirs = megabytes("pytorch", os.environ.copy())
    return {
        backend.name: {
            "segnet 4x3x224x224": theirs
            / megabytes("tinyml", {**os.environ, "TINYML_BACKEND": backend.name})
        }
        for backend in backends
    }


def megabytes(library: str, variables: dict[str, str]) -> float:
    command = [sys.executable, str(Path(__file__).with_name("memory.py")), "--library", library]
    output = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
    click.echo(f"{variables.get('TINYML_BACKEND', ''):<6} {output.stdout}", nl=False, err=True)
    return float(output.stdout.split()[1])


def cells(row: Row, backend: str, ratios: dict[str, float], others: float) -> Iterator[str]:
    """The targets, and what was measured; "MISSED" where it is below them.

    A row in which ``others``, the share of the CPUs that other programs used, is too large, is
    marked as disturbed: it shows nothing.
    """
    wanted = f"≥ {row.mean[backend]:.2f}"
    if backend in row.least:
        wanted += f", each ≥ {row.least[backend]:.2f}"
    yield wanted
    if len(ratios) < max(1, len(row.cases)):
        yield "not measured"
        return
    mean, least = statistics.geometric_mean(ratios.values()), min(ratios.values())
    text = f"{mean:.2f}" + f", least {least:.2f}" * (len(ratios) > 1)
    met = mean >= row.mean[backend] and least >= row.least.get(backend, 0.0)
    yield text + " MISSED" * (not met) + " disturbed" * (others > MUCH)


def installed_peers() -> Iterator[Peer]:
    """All other libraries; one that is not installed is named on standard error."""
    for name in PEERS:
        try:
            yield load(name)
        except ValueError as error:
            click.echo(f"left out: {error}", err=True)


def without_forced_kernels() -> None:
    """Start again without the variables that force a kernel of OpenBLAS, if they are set."""
    forced = [name for name in VARIABLES if name in os.environ]
    if forced:
        print(f"started again without {' and '.join(forced)}", file=sys.stderr, flush=True)
        kept = {name: value for name, value in os.environ.items() if name not in forced}
        os.execve(sys.executable, [sys.executable, *sys.argv], kept)


def names(text: str, known: dict[str, Any], option: str) -> list[str]:
    chosen = [name.strip() for name in text.split(",")]
    wrong = [name for name in chosen if name not in known]
    if wrong:
        raise click.UsageError(
            f"{option} has {wrong[0]!r}; known are {', '.join(known)}, with commas between them"
        )
    return list(dict.fromkeys(chosen))


@click.command()
@click.option("--rows", default=",".join(ROWS), show_default=True, help="Rows to run.")
@click.option("--backends", default="numba,numpy", show_default=True)
@click.option(
    "--repeats", default=7, type=click.IntRange(FEWEST_ROUNDS), show_default=True, help="Samples."
)
@click.option(
    "--settle",
    default=30,
    type=click.IntRange(0),
    show_default=True,
    help="Milliseconds of the break before each sample, in which threads stop to spin-wait.",
)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path))
def main(rows: str, backends: str, repeats: int, settle: int, output: Path | None) -> None:
    """Print the table; exit with 1 if a result was wrong."""
    chosen = names(rows, ROWS, "--rows")
    ours = [resolve(name) for name in names(backends, BOTH, "--backends")]
    measure.SETTLED_SECONDS = settle / 1000
    peers = list(installed_peers())
    report = Report(environment(ours, peers))
    click.echo(line(report.environment))
    table, kept = [], {}
    for name in chosen:
        row, start = ROWS[name], time.perf_counter()
        if row.cases:
            kept[name] = ratios_of(row, report, ours, peers, repeats)
        else:
            kept[name] = memory_ratios(ours)
        cases = set(map(str, row.cases))
        others = max((m.others or 0.0 for m in report.measured if m.case in cases), default=0.0)
        texts = [text for b in ours for text in cells(row, b.name, kept[name][b.name], others)]
        click.echo(f"{name}: {texts}, {time.perf_counter() - start:.0f} s", err=True)
        table.append([row.title, *texts])
        if not report.complete:
            break
    head = ["fastest other library / tinyml"]
    head += [text for b in ours for text in (f"{b.name}, target", b.name)]
    click.echo(tabulate.tabulate(table, head, tablefmt="github", disable_numparse=True))
    click.echo("\n".join(tables.disturbance(report)), err=True)
    if output:
        milliseconds = {
            m.case: {t.name: 1e3 * t.median for t in m.timings} for m in report.measured
        }
        content = {"environment": report.environment, "rows": kept, "milliseconds": milliseconds}
        output.write_text(json.dumps(content, indent=1) + "\n")
    sys.exit(bool(report.errors))


if __name__ == "__main__":
    without_forced_kernels()
    main()
