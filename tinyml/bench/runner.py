"""Runs the chosen cases: contenders are prepared, checked, timed in turns, and checked again."""

from collections.abc import Iterator

from tinyml.bench.cases import Case, Results, Unsupported, difference, reference
from tinyml.bench.load import watch
from tinyml.bench.measure import Contender, contenders_of, copies, measure, place_of
from tinyml.bench.peers import Peer
from tinyml.bench.results import BACKEND, COPY, Measured, Report
from tinyml_backends import Backend

#: Allowed relative error of a peer's results: it may add in another order.
PEER_TOLERANCE = 1e-6
#: Cases of fewer bytes are not compared with a copy: they take the time of a call, not of memory.
LEAST_COPIED = 1 << 20


def run(
    report: Report,
    cases: tuple[Case, ...],
    backends: list[Backend],
    peers: list[Peer],
    *,
    rounds: int,
    budget: float,
    reuse: bool = False,
) -> Iterator[Measured]:
    """Measure the cases; add each to the report, and yield it, when it is done.

    An interrupt ends the run: what was measured stays, and ``report.complete`` is False.
    """
    for case in cases:
        measured = Measured(str(case), case.group, case.size_in_bytes)
        try:
            expected = reference(case)
            contenders = [
                contender
                for contender in _prepared(measured, case, backends, peers, reuse)
                if _is_right(measured, case, contender, expected)
            ]
            others = watch()
            report.complete = measure(contenders, rounds, budget)
            measured.others = others()
            for contender in contenders:
                if not _is_right(measured, case, contender, expected):
                    contender.timing.seconds.clear()
        except KeyboardInterrupt:
            report.complete, contenders = False, []
        measured.timings = [c.timing for c in contenders if c.timing.seconds]
        if measured.timings or measured.errors:
            report.measured.append(measured)
            yield measured
        if not report.complete:
            return


def _prepared(
    measured: Measured, case: Case, backends: list[Backend], peers: list[Peer], reuse: bool
) -> Iterator[Contender]:
    """All contenders; a failure is recorded as an error of the case, and the others are timed."""
    places = {place_of(backend): backend for backend in backends}
    sources = [(backend.name, contenders_of(backend, case, reuse=reuse)) for backend in backends]
    sources += [(peer.name, peer.contenders(case, set(places))) for peer in peers]
    for name, contenders in sources:
        try:
            yield from contenders
        except Unsupported as reason:
            measured.left_out.append(f"{name}: {reason}")
        except Exception as error:  # a compiler or a driver can raise anything
            measured.errors.append(f"{name}: {type(error).__name__}: {error}")
    size = case.size_in_bytes
    if size is not None and size >= LEAST_COPIED:
        for backend in places.values():
            yield from copies(backend, size)


def _is_right(measured: Measured, case: Case, contender: Contender, expected: Results) -> bool:
    """Call once and compare; a wrong result is recorded as an error of the case."""
    name, kind = contender.timing.name, contender.timing.kind
    if kind == COPY:
        return True
    tolerance = case.tolerance if kind == BACKEND else max(case.tolerance, PEER_TOLERANCE)
    try:
        with contender.scope():
            found = contender.prepared.results(contender.prepared.run())
        error = difference(found, expected, tolerance)
        wrong = error and f"wrong result: {error}"
    except Exception as raised:
        wrong = f"{type(raised).__name__}: {raised}"
    if wrong:
        measured.errors.append(f"{name}: {wrong}")
    return not wrong
