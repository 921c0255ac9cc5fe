"""``tinyml bench``."""

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

import tinyml
from tinyml.bench import plot as chart
from tinyml.bench import tables
from tinyml.bench.cases import chosen
from tinyml.bench.environment import environment, line
from tinyml.bench.peers import load
from tinyml.bench.results import Report
from tinyml.bench.runner import run
from tinyml.cli.outputs import PICTURES, Failure, check_output
from tinyml.progress import Progress
from tinyml_backends import Backend, resolve

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("bench")
@click.option(
    "--backends",
    metavar="NAMES",
    help="Backends of tinyml, for example numpy,numba; by default the selected one.",
)
@click.option(
    "--peers",
    metavar="NAMES",
    help="Other libraries to time in turns: torch,onnxruntime,opencv,ncnn.",
)
@click.option(
    "--cases",
    default="",
    metavar="TEXT",
    help="Only cases whose name has every word of TEXT; --list shows the names.",
)
@click.option("--list", "listed", is_flag=True, help="List the chosen cases and exit.")
@click.option(
    "--rounds", default=15, show_default=True, type=click.IntRange(7), help="Samples in each case."
)
@click.option(
    "--budget",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds after which a case ends, if it has had 7 rounds.",
)
@click.option(
    "--reuse",
    is_flag=True,
    help="Time pooling also with results written to existing arrays (out=), as in networks.",
)
@click.option("--json", "output", type=FILE, help="Write everything, all samples included.")
@click.option("--plot", type=FILE, help="Draw a bar chart: png, pdf, svg or jpg.")
@click.option(
    "--compare",
    "old",
    type=FILE,
    help="List what got slower since the run that wrote FILE with --json.",
)
def command(
    backends: str | None,
    peers: str | None,
    cases: str,
    listed: bool,
    output: Path | None,
    plot: Path | None,
    old: Path | None,
    **options: Any,
) -> None:
    """Time tinyml and other libraries in turns; every result is checked.

    For example: tinyml bench --backends numpy,numba --peers torch --cases "unpool 224"

    A case is named by its operation, the shape of its input (samples × channels × height × width,
    fewer or more axes in one and three dimensions), and the window's size / stride; "3x3 to 64" is
    a convolution with 64 filters. A plain run takes about five minutes on one backend, and as long
    again for each further library; --cases shortens it.

    In each case the libraries take turns, so that they run under the same conditions. A line gives
    the median and the least time of one call; the speed in GB/s, where input, output and winners
    (of a convolution, weights) count once; and that speed as a share of the speed of copying
    memory, measured in the same turns. "vs torch" is PyTorch's time over tinyml's: above 1, tinyml
    is faster. PyTorch is timed contiguous and channels last, and the faster one counts. On a GPU,
    CUDA events measure, and memory is copied from device to device.

    A result that differs from that of the plain NumPy kernels is an ERROR line instead of a time.
    With --compare a time got slower if its median is above the old one and the interquartile
    ranges of both runs do not overlap.

    Ctrl-C ends the run; what was measured is still printed, written and drawn.

    Exits with 1 if a result was wrong or a time got slower, with 2 if an argument is invalid, and
    with 130 after Ctrl-C.
    """
    table = chosen(cases)
    if not table:
        raise Failure(f"no case has all words of {cases!r}; `tinyml bench --list` shows the names")
    if listed:
        click.echo("\n".join(map(str, table)))
        return
    try:
        ours = _backends(backends)
        _check_files(output, plot, old)
        before = Report.read(old) if old else None
        if before and not {m.case for m in before.measured} & set(map(str, table)):
            raise ValueError(f"{old} has none of the chosen cases")
        others = [load(name) for name in _names("--peers", peers)] if peers else []
    except (ValueError, tinyml.BackendUnavailableError) as error:
        raise Failure(str(error)) from error

    report, columns = Report(environment(ours, others)), [peer.name for peer in others]
    title = line(report.environment)
    click.echo(title)
    click.echo(tables.header(columns))
    try:
        with Progress(total=len(table), unit="case", leave=False) as progress:
            for measured in run(report, table, ours, others, **options):
                with Progress.external_write_mode(file=sys.stdout):
                    click.echo("\n".join(tables.rows(measured, columns)))
                progress.update()
    finally:  # also if the lines cannot be printed
        written = list(_write(report, title, output, plot))
    for text in (*tables.means(report), *tables.disturbance(report), *written):
        click.echo(text)

    code = int(bool(report.errors))
    if not report.complete:
        click.echo(f"interrupted after {len(report.measured)} cases", err=True)
        code = 130
    if before:
        lines, slower = tables.comparison(before, report, str(old))
        click.echo("\n".join(lines))
        code = code or int(slower)
    sys.exit(code)


def _backends(text: str | None) -> list[Backend]:
    if text is None:
        return [tinyml.current_backend()]
    found = [resolve(name) for name in _names("--backends", text)]
    if len({backend.name for backend in found}) < len(found):
        raise ValueError(f"--backends is {text!r}; two of these are one backend, name it once")
    return found


def _names(option: str, text: str) -> list[str]:
    """Names between commas, each once."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError(f"{option} is {text!r}; it must be names between commas")
    return list(dict.fromkeys(names))


def _check_files(output: Path | None, plot: Path | None, old: Path | None) -> None:
    if output:
        check_output("--json", output, [old], "the file to compare with")
    if plot:
        if find_spec("matplotlib") is None:
            raise ValueError("--plot needs matplotlib; run: python3 -m pip install matplotlib")
        check_output("--plot", plot, [old], "the file to compare with", PICTURES)
        if output and plot.resolve() == output.resolve():
            raise ValueError(f"--plot and --json are both {plot}; name two files")


def _write(report: Report, title: str, output: Path | None, plot: Path | None) -> Iterator[str]:
    """Write the files, and tell which."""
    writers: list[tuple[Path | None, Callable[[Path], None]]] = [
        (output, report.write),
        (plot, lambda path: chart.draw(path, report, title)),
    ]
    for path, write in writers:
        if path is None or (path == plot and not any(m.timings for m in report.measured)):
            continue
        try:
            write(path)
        except OSError as error:  # a full disk
            raise Failure(f"{path} cannot be written: {error}") from error
        yield f"written: {path}"
