"""Time contenders in turns: on the CPU with its clock, on a GPU with CUDA events."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np

import tinyml
from tinyml.bench.cases import Case, Pooling, Prepared, Run, values
from tinyml.bench.results import BACKEND, COPY, Timing
from tinyml_backends import Backend
from tinyml_backends.threads import thread_count

Scope = Callable[[], AbstractContextManager[Any]]
#: Mean seconds of a number of calls.
Timer = Callable[[Run, int], float]

#: Every case has at least as many rounds, even if they take longer than its budget.
FEWEST_ROUNDS = 7
#: Short calls are repeated until they take this long, and their mean is one sample.
SAMPLE_SECONDS = 2e-4
MOST_REPEATS = 1000
#: Seconds of the break before a sample, and as long again of calls that are not measured.
SETTLED_SECONDS = 0.01
#: Calls that take longer pass through the caches several times, and need no calls before them.
LONG_SECONDS = 0.2

#: Before calls are timed, filling an array keeps the GPU busy for about a millisecond. In that time
#: Python can queue some dozens of calls.
BUSY_BYTES, BUSY_FILLS = 1 << 28, 8
#: The calls of a sample must be queued in that time.
MOST_REPEATS_ON_GPU = 10


@dataclass
class Contender:
    """A call of a case by one library, and its times."""

    timing: Timing
    prepared: Prepared
    timer: Timer
    scope: Scope = nullcontext
    """Context of a sample, entered before its clock starts."""
    repeats: int = 1
    long: bool = False
    """Whether a call takes more than `LONG_SECONDS`."""


def wall_clock(run: Run, repeats: int) -> float:
    """Mean seconds of calls on the CPU."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def cuda_events(cuda: Any, busy: Any, run: Run, repeats: int) -> float:
    """Mean seconds of calls between two events on the current stream.

    ``cuda`` has the names of ``cupy.cuda``, and ``busy`` is an array of `BUSY_BYTES` on the GPU,
    which is filled first, so that all calls are queued before the first one starts. Otherwise the
    result would be the time that Python takes to queue them.
    """
    start, stop = cuda.Event(), cuda.Event()
    for _ in range(BUSY_FILLS):
        busy[:] = 0
    start.record()
    for _ in range(repeats):
        run()
    stop.record()
    stop.synchronize()
    return float(cuda.get_elapsed_time(start, stop)) / 1e3 / repeats


def contenders_of(backend: Backend, case: Case, *, reuse: bool = False) -> Iterator[Contender]:
    """The backend's calls of the case; with ``reuse`` also one that writes to existing arrays."""
    timer, place, scope = _clock(backend)
    with scope():
        forms = {backend.name: case.prepare()}
        if reuse and isinstance(case, Pooling):
            forms[f"{backend.name} out="] = case.prepare(reuse=True)
    for name, prepared in forms.items():
        yield Contender(Timing(name, BACKEND, backend.name, place), prepared, timer, scope)


def copies(backend: Backend, size_in_bytes: int) -> Iterator[Contender]:
    """Ways to copy memory where the backend runs; half of the bytes are read, half written."""
    timer, place, scope = _clock(backend)
    with scope():
        source = tinyml.asarray(values((size_in_bytes // 8,)))
        target = 0 * source
    on_device = {"copy on the device": partial(target.__setitem__, ..., source)}
    for name, run in (on_device if place == "gpu" else host_copies(target, source)).items():
        yield Contender(Timing(name, COPY, "copy", place), Prepared(run, tuple), timer, scope)


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


def host_copies(target: Any, source: Any) -> dict[str, Run]:
    """Ways to copy on the CPU: `numpy.copyto` in threads, and a loop of Numba."""
    count = max(2, thread_count())
    chunks = [np.array_split(a, count) for a in (target, source)]
    copy = partial(_copying_threads(count).map, np.copyto, *chunks)
    ways: dict[str, Run] = {"copy by np.copyto": lambda: list(copy())}
    if find_spec("numba"):
        ways["copy by Numba"] = partial(_numba_copy(), target, source)
    return ways


@cache
def _copying_threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count)


@cache
def _numba_copy() -> Any:
    import numba

    @numba.njit(parallel=True)  # type: ignore[untyped-decorator,unused-ignore]
    def copy(target: Any, source: Any) -> None:
        for i in numba.prange(len(target)):
            target[i] = source[i]

    return copy


def measure(contenders: list[Contender], rounds: int, budget: float) -> bool:
    """Time contenders in turns, so that all run under the same conditions.

    Returns False after an interrupt.

    After `FEWEST_ROUNDS` a case ends when it has taken ``budget`` seconds. Before each sample there
    is a break: PyTorch's OpenMP threads spin-wait for some milliseconds after their work and would
    take a CPU from the next contender. Calls that are not measured follow, until the contender's
    memory is in the caches as far as it fits; not where one takes more than `LONG_SECONDS`.
    """
    begin = time.perf_counter()
    try:
        for contender in contenders:
            once = min(_sample(contender, 1) for _ in range(2))
            contender.long = once > LONG_SECONDS
            most = MOST_REPEATS if contender.timing.place == "cpu" else MOST_REPEATS_ON_GPU
            contender.repeats = min(most, math.ceil(SAMPLE_SECONDS / max(once, 1e-9)))
        for number in range(rounds):
            if number >= FEWEST_ROUNDS and time.perf_counter() - begin > budget:
                break
            for contender in contenders:
                time.sleep(SETTLED_SECONDS)
                start = time.perf_counter()
                while not contender.long and time.perf_counter() - start < SETTLED_SECONDS:
                    _sample(contender, contender.repeats)
                contender.timing.seconds.append(_sample(contender, contender.repeats))
    except KeyboardInterrupt:
        complete = min(len(contender.timing.seconds) for contender in contenders)
        for contender in contenders:  # only whole rounds compare times of the same moments
            del contender.timing.seconds[complete:]
        return False
    return True


def _sample(contender: Contender, repeats: int) -> float:
    with contender.scope():
        return contender.timer(contender.prepared.run, repeats)
