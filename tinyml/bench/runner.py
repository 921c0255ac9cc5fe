"""Runs the chosen cases: contenders are made, checked, timed in turns, and checked again."""

from collections.abc import Iterator

from tinyml.bench.cases import Case, Results, difference, reference
from tinyml.bench.load import watch
from tinyml.bench.measure import COPY, OURS, Contender, contenders_of, copies, measure, place_of
from tinyml.bench.peers import Peer
from tinyml.bench.results import Measured, Report, Timing
from tinyml_backends import Backend

#: Relative error of sums that a peer takes in another order.
PEER_TOLERANCE = 1e-6
#: Cases of fewer bytes take as long as their calls, not as their memory.
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
    """Add each case to the report as it is measured.

    An interrupt ends the run: what was measured stays, and ``report.complete`` is False.
    """
    for case in cases:
        measured = Measured(str(case), case.group, case.size_in_bytes)
        try:
            expected = reference(case)
            contenders = [
                contender
                for contender in _made(measured, case, backends, peers, reuse)
                if contender.kind == COPY or _is_right(measured, case, contender, expected)
            ]
            others = watch()
            report.complete = measure(contenders, rounds, budget)
            measured.others = others()
            for contender in contenders:
                if contender.kind != COPY and not _is_right(measured, case, contender, expected):
                    contender.seconds.clear()
        except KeyboardInterrupt:
            report.complete, contenders = False, []
        measured.timings = [
            Timing(c.name, c.kind, c.library, c.place, c.seconds) for c in contenders if c.seconds
        ]
        if measured.timings or measured.errors:
            report.measured.append(measured)
            yield measured
        if not report.complete:
            return


def _made(
    measured: Measured, case: Case, backends: list[Backend], peers: list[Peer], reuse: bool
) -> Iterator[Contender]:
    """All contenders; one that fails is an error of the case, and the others go on."""
    for backend in backends:
        try:
            yield from contenders_of(backend, case, reuse=reuse)
        except Exception as error:  # whatever a compiler, a driver or the memory does
            measured.errors.append(f"{backend.name}: {_told(error)}")
    places = {place_of(backend): backend for backend in backends}
    for peer in peers:
        try:
            yield from peer.contenders(case, set(places))
        except LookupError as reason:
            measured.left_out.append(f"{peer.name}: {reason}")
        except Exception as error:
            measured.errors.append(f"{peer.name}: {_told(error)}")
    size = case.size_in_bytes
    if size is not None and size >= LEAST_COPIED:
        for backend in places.values():
            yield from copies(backend, size)


def _is_right(measured: Measured, case: Case, contender: Contender, expected: Results) -> bool:
    """Call once and compare; a wrong result is an error of the case."""
    tolerance = case.tolerance if contender.kind == OURS else max(case.tolerance, PEER_TOLERANCE)
    try:
        with contender.scope():
            found = contender.prepared.results(contender.prepared.run())
        wrong = difference(found, expected, tolerance)
    except Exception as error:
        measured.errors.append(f"{contender.name}: {_told(error)}")
        return False
    if wrong:
        measured.errors.append(f"{contender.name}: wrong result: {wrong}")
    return not wrong


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
