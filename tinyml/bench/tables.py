"""Lines that ``tinyml bench`` prints."""

import statistics
from collections.abc import Iterator, Sequence

from tinyml.bench.environment import VARIABLES
from tinyml.bench.load import MUCH
from tinyml.bench.measure import FEWEST_ROUNDS
from tinyml.bench.results import BACKEND, COPY, Measured, Report, Timing, changes

WIDTH = 26


def header(peers: Sequence[str]) -> str:
    """Names of the columns."""
    columns = [f"{'median ms':>11} {'min ms':>10} {'GB/s':>7} {'of copy':>8}"]
    columns += [_cell(f"vs {peer}", peer) for peer in peers]
    return " " * WIDTH + " ".join(columns)


def rows(measured: Measured, peers: Sequence[str]) -> Iterator[str]:
    """One case: its name, a line for each contender, errors, and peers that were left out."""
    yield measured.case
    for timing in measured.timings:
        if timing.kind != COPY or timing is measured.fastest("copy", timing.place):
            yield _row(measured, timing, peers)
    rounds = min((len(timing.seconds) for timing in measured.timings), default=0)
    if 0 < rounds < FEWEST_ROUNDS:
        yield f"  only {rounds} rounds, then interrupted"
    if (measured.others or 0.0) > MUCH:
        yield f"  disturbed: other programs used {measured.others:.0%} of the CPUs"
    for reason in measured.left_out:
        yield f"  without {reason}"
    for error in measured.errors:
        yield f"  ERROR {error}"


def disturbance(report: Report) -> Iterator[str]:
    """Warning if other programs ran during the benchmark, so that its ratios are unreliable."""
    shares = [measured.others or 0.0 for measured in report.measured]
    disturbed = sum(share > MUCH for share in shares)
    if disturbed:
        yield (
            f"WARNING in {disturbed} of {len(shares)} cases other programs used up to "
            f"{max(shares):.0%} of the CPUs: ratios there are unreliable, since libraries whose "
            "threads wait for each other, such as PyTorch, lose most by it"
        )


def _row(measured: Measured, timing: Timing, peers: Sequence[str]) -> str:
    speed, share = measured.speed(timing), measured.share(timing)
    cells = [
        f"{timing.median * 1e3:11.4f} {min(timing.seconds) * 1e3:10.4f}",
        f"{'–' if speed is None else format(speed, '.1f'):>7}",
        f"{'–' if share is None else format(share, '.0%'):>8}",
    ]
    if timing.kind == BACKEND:
        ratios = measured.ratios(timing)
        cells += [_cell(f"{ratios[p]:.2f}×" if p in ratios else "–", p) for p in peers]
    return f"  {timing.name:<{WIDTH - 2}}{' '.join(cells)}"


def _cell(text: str, peer: str) -> str:
    return f"{text:>{len(peer) + 4}}"


def means(report: Report) -> Iterator[str]:
    """Geometric mean of the ratios to each peer, over the cases of an operation."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for measured in report.measured:
        for timing in measured.timings:
            if timing.kind == BACKEND:
                for peer, ratio in measured.ratios(timing).items():
                    found.setdefault((measured.group, timing.name, peer), []).append(ratio)
    several = {key: ratios for key, ratios in found.items() if len(ratios) > 1}
    if several:
        yield "geometric means over cases, a peer's time over tinyml's:"
    for (group, name, peer), ratios in several.items():
        mean = statistics.geometric_mean(ratios)
        yield f"  {group:<18}{name:<14} vs {peer:<12}{mean:6.2f}×  ({len(ratios)} cases)"


def comparison(old: Report, new: Report, name: str) -> tuple[list[str], bool]:
    """Lines that say what got slower than in the file ``name``, and whether anything did."""
    lines = []
    both = [key for key in old.environment if key in new.environment]  # of peers in both runs
    for key in dict.fromkeys([*both, *VARIABLES]):
        before, now = (report.environment.get(key, "unset") for report in (old, new))
        if before != now:
            lines.append(f"  not the same {key}: {before} then, {now} now")
    if list(disturbance(old)):
        lines.append("  other programs disturbed the old run")
    found = list(changes(old, new))
    slower = [change for change in found if change.slower]
    for change in slower:
        before, now = change.old.median, change.new.median
        text = f"{change.case}, {change.new.name}: {before * 1e3:.4f} ms -> {now * 1e3:.4f} ms"
        copied = "" if change.copy is None else f"; copying memory ×{change.copy:.2f}"
        lines.append(f"  SLOWER {text} (×{now / before:.2f}{copied})")
    verdict = f"{len(slower)} of {len(found)} times got slower than in {name}"
    return [f"{verdict} (median above, interquartile ranges apart)", *lines], bool(slower)
