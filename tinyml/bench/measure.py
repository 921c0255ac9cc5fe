"""How contenders are timed: in turns, each by the clock of the place where it runs."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np

import tinyml
from tinyml.bench.cases import Case, Pooling, Prepared, Run, values
from tinyml_backends import Backend
from tinyml_backends.threads import thread_count

Scope = Callable[[], AbstractContextManager[Any]]
#: Seconds of one of so many calls.
Timer = Callable[[Run, int], float]

#: Rounds that every case gets, however long it takes.
FEWEST_ROUNDS = 7
#: Short calls are repeated until they take so many seconds, and the mean is one sample.
SAMPLE_SECONDS = 2e-4
MOST_REPEATS = 1000
#: Seconds of a break after which the threads of another library sleep, and of a run behind it.
SETTLED_SECONDS = 0.01

#: What a GPU does before calls are timed: a millisecond's work, while Python queues some dozens.
BUSY_BYTES, BUSY_FILLS = 1 << 28, 8
#: The calls of a sample must be queued by then.
MOST_REPEATS_ON_GPU = 10

#: Of a contender: a backend of tinyml, a peer, or copying memory.
OURS, PEER, COPY = "backend", "peer", "copy"


@dataclass
class Contender:
    """Somebody who runs a case, and the times it took."""

    name: str
    kind: str
    """One of `OURS`, `PEER` and `COPY`."""
    library: str
    """What its fastest form counts for: "numba", "torch", "copy"."""
    prepared: Prepared
    timer: Timer
    place: str = "cpu"
    """Ratios are taken between contenders of one place: "cpu" or "gpu"."""
    scope: Scope = nullcontext
    """What a call runs in, entered outside the timed span."""
    exact: bool = True
    """Whether its sums are in our order, so that equal bits can be asked for."""
    repeats: int = 1
    seconds: list[float] = field(default_factory=list)


def wall_clock(run: Run, repeats: int) -> float:
    """Mean seconds of calls on the CPU."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def cuda_events(cuda: Any, busy: Any, run: Run, repeats: int) -> float:
    """Mean seconds of calls between two events on the current stream of ``cupy.cuda``.

    The GPU is given ``busy`` to fill first, so that calls are queued before it comes to them: the
    time would be Python's otherwise.
    """
    start, stop = cuda.Event(), cuda.Event()
    for _ in range(BUSY_FILLS):
        busy.fill(0)
    start.record()
    for _ in range(repeats):
        run()
    stop.record()
    stop.synchronize()
    return float(cuda.get_elapsed_time(start, stop)) / 1e3 / repeats


def contenders_of(backend: Backend, case: Case, *, reuse: bool = False) -> Iterator[Contender]:
    """The backend's calls of the case; with ``reuse`` also those that write into given arrays."""
    timer, place, scope = _clock(backend)
    with scope():
        forms = {backend.name: case.prepare()}
        if reuse and isinstance(case, Pooling):
            forms[f"{backend.name} out="] = case.prepare(reuse=True)
    for name, prepared in forms.items():
        yield Contender(name, OURS, backend.name, prepared, timer, place, scope)


def copies(backend: Backend, size_in_bytes: int) -> Iterator[Contender]:
    """Ways to move so many bytes, half of them read and half written, where the backend runs."""
    source = values((size_in_bytes // 8,))
    timer, place, scope = _clock(backend)
    if place == "cpu":
        target, ways = host_copies(source)
    else:
        with scope():
            of = tinyml.asarray(source)
            target = 0 * of
            ways = {"copy on the device": partial(target.__setitem__, ..., of)}
    for name, run in ways.items():
        prepared = Prepared(run, lambda _: (tinyml.to_numpy(target),))
        yield Contender(name, COPY, "copy", prepared, timer, place, scope)


def place_of(backend: Backend) -> str:
    """Return "gpu" for a backend whose array module has a ``cuda``, whose events time it."""
    return "gpu" if hasattr(backend.xp, "cuda") else "cpu"


def _clock(backend: Backend) -> tuple[Timer, str, Scope]:
    if place_of(backend) == "cpu":
        return wall_clock, "cpu", partial(tinyml.use_backend, backend)
    cuda = backend.xp.cuda
    device = backend.device(backend.asarray([0])).partition(":")[2]
    scope = partial(_on_device, backend, cuda.Device(int(device or 0)))
    with scope():
        busy = backend.xp.zeros(BUSY_BYTES, np.uint8)
    return partial(cuda_events, cuda, busy), "gpu", scope


@contextmanager
def _on_device(backend: Backend, device: AbstractContextManager[Any]) -> Iterator[None]:
    with tinyml.use_backend(backend), device:
        yield


def host_copies(source: Any) -> tuple[Any, dict[str, Run]]:
    """A warm array, and ways to copy into it: `numpy.copyto` in threads, and a loop of Numba."""
    target = np.zeros_like(source)
    count = max(2, thread_count())
    parts = list(zip(*(np.array_split(a, count) for a in (target, source)), strict=True))
    threads = _copying_threads(count)
    ways: dict[str, Run] = {
        "copy by np.copyto": lambda: list(threads.map(lambda part: np.copyto(*part), parts))
    }
    if find_spec("numba"):
        ways["copy by Numba"] = partial(_numba_copy(), target, source)
    return target, ways


@cache
def _copying_threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count)


@cache
def _numba_copy() -> Any:
    import numba

    @numba.njit(parallel=True)  # type: ignore[untyped-decorator,unused-ignore]
    def copy(to: Any, of: Any) -> None:
        for i in numba.prange(len(to)):
            to[i] = of[i]

    return copy


def measure(contenders: list[Contender], rounds: int, budget: float) -> bool:
    """Time contenders in turns, so that all see the same machine; False after an interrupt.

    After `FEWEST_ROUNDS` a case ends when it has taken ``budget`` seconds. Before each sample there
    is a break: OpenMP's threads, on which PyTorch runs, spin for some milliseconds after their work
    and would take a processor from whoever comes next. Then the contender runs unmeasured for a
    while, until its memory is in the caches as far as it fits.
    """
    begin = time.perf_counter()
    try:
        for contender in contenders:
            once = min(_sample(contender, 1) for _ in range(2))
            wanted = math.ceil(SAMPLE_SECONDS / max(once, 1e-9))
            most = MOST_REPEATS if contender.place == "cpu" else MOST_REPEATS_ON_GPU
            contender.repeats = min(most, max(1, wanted))
        for number in range(rounds):
            if number >= FEWEST_ROUNDS and time.perf_counter() - begin > budget:
                break
            for contender in contenders:
                _settle(contender)
                contender.seconds.append(_sample(contender, contender.repeats))
    except KeyboardInterrupt:
        complete = min(len(contender.seconds) for contender in contenders)
        for contender in contenders:  # a round that is cut off would compare unlike moments
            del contender.seconds[complete:]
        return False
    return True


def _settle(contender: Contender) -> None:
    time.sleep(SETTLED_SECONDS)
    start = time.perf_counter()
    while time.perf_counter() - start < SETTLED_SECONDS:
        _sample(contender, contender.repeats)


def _sample(contender: Contender, repeats: int) -> float:
    with contender.scope():
        return contender.timer(contender.prepared.run, repeats)
