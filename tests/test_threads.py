"""The pool of workers and its scheduler, alone and under the CPU backends."""

import gc
import os
import signal
import threading
import time
import weakref
from queue import SimpleQueue

import numpy as np
import pytest

from conftest import peer
from tinyml_backends import threads

pytestmark = pytest.mark.host

AFFINITY = getattr(os, "sched_getaffinity", None)


@pytest.fixture(autouse=True)
def own_pool(monkeypatch):
    """Three threads, and a pool of workers for this test only."""
    monkeypatch.setattr(threads, "_workers", [])
    monkeypatch.setattr(threads, "_jobs", SimpleQueue())
    monkeypatch.setattr(threads, "_placed", None)
    monkeypatch.setattr(threads, "thread_count", lambda: 3)


@pytest.fixture(params=["sleep", "spin"])
def spin(request):
    """Without spinning, and with it: with the compiled function if Numba is installed."""
    if request.param == "sleep":
        return None
    peer("numba")
    from tinyml_backends.numba_backend.scheduling import spin

    return spin


def in_main_thread():
    return threading.current_thread() is threading.main_thread()


def together(work, spin=None):
    """Run two chunks, one in the caller and one in a worker at the same time."""
    meeting = threading.Barrier(2)

    def meet(chunk):
        meeting.wait(10)
        work(chunk)

    threads.run(meet, [0, 1], 2, spin)


class TestCount:
    def test_the_variable(self, monkeypatch):
        for text, count in (("3", 3), ("1", 1)):
            monkeypatch.setenv("TINYML_NUM_THREADS", text)
            assert threads.configured_threads.__wrapped__() == count
        monkeypatch.delenv("TINYML_NUM_THREADS")
        assert threads.configured_threads.__wrapped__() >= 1
        for text in ("0", "two", "-1"):
            monkeypatch.setenv("TINYML_NUM_THREADS", text)
            with pytest.raises(ValueError, match=f"TINYML_NUM_THREADS is '{text}'"):
                threads.configured_threads.__wrapped__()

    def test_no_more_threads_than_asked_for(self):
        for count in (1, 2, 3):
            seen = set()

            def work(chunk, seen=seen):
                seen.add(threading.current_thread())
                time.sleep(0.001)

            threads.run(work, range(30), count)
            assert len(seen) == count
            assert len(threads._workers) == count - 1


class TestChunks:
    @pytest.mark.parametrize("count", [0, 1, 2, 3, 47, 1000])
    def test_each_chunk_is_worked_on_once(self, count, spin):
        for _ in range(20):
            times = [0] * count

            def work(chunk, times=times):
                times[chunk] += 1

            threads.run(work, range(count), spin=spin)
            assert times == [1] * count

    def test_callers_at_once(self, spin):
        wrong = []

        def call():
            for count in range(2, 100):
                done = []
                threads.run(done.append, range(count), spin=spin)
                if sorted(done) != list(range(count)):
                    wrong.append(count)

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
        assert not any(caller.is_alive() for caller in callers)
        assert not wrong

    def test_work_may_run_chunks_of_its_own(self, spin):
        done = []

        def outer(chunk):
            threads.run(lambda inner: done.append((chunk, inner)), range(7), spin=spin)

        threads.run(outer, range(9), spin=spin)
        assert sorted(done) == [(i, j) for i in range(9) for j in range(7)]

    def test_the_caller_waits_for_what_a_worker_has_begun(self, spin):
        done = []

        def work(chunk):
            if not in_main_thread():
                time.sleep(0.1)
            done.append(chunk)

        together(work, spin)
        assert sorted(done) == [0, 1]

    def test_workers_are_daemons_and_are_reused(self):
        together(lambda chunk: None)
        (worker,) = threads._workers
        assert worker.daemon  # so that a process can end
        for _ in range(20):
            together(lambda chunk: None)
        assert threads._workers == [worker]


@pytest.mark.skipif(
    threads._current_cpu() is None or len(AFFINITY(0)) < 2,
    reason="threads cannot be placed here, or there is one CPU",
)
class TestPlacement:
    def worker_cpus(self, monkeypatch, cpu):
        """CPUs on which each worker may run after a call whose caller runs on ``cpu``."""
        monkeypatch.setattr(threads, "_current_cpu", lambda: lambda: cpu)
        together(lambda chunk: None)
        return [AFFINITY(worker.native_id) for worker in threads._workers]

    def test_workers_keep_off_the_cpu_of_the_caller(self, monkeypatch):
        allowed = AFFINITY(0)
        for cpu in sorted(allowed)[:2]:
            assert self.worker_cpus(monkeypatch, cpu) == [allowed - {cpu}]
        threads._start(2)
        assert self.worker_cpus(monkeypatch, cpu) == [allowed - {cpu}] * 2
        assert AFFINITY(0) == allowed  # the affinity of the caller does not change

    def test_workers_stay_where_the_caller_may_run(self, monkeypatch):
        allowed = AFFINITY(0)
        cpu = min(allowed)
        for now in (allowed, {cpu}, allowed):
            monkeypatch.setattr(os, "sched_getaffinity", lambda _, now=now: now)
            assert self.worker_cpus(monkeypatch, cpu) == [now - {cpu} or {cpu}]

    def test_workers_are_placed_only_when_something_has_changed(self, monkeypatch):
        cpu = min(AFFINITY(0))
        self.worker_cpus(monkeypatch, cpu)
        monkeypatch.setattr(os, "sched_setaffinity", lambda *_: pytest.fail("nothing has changed"))
        self.worker_cpus(monkeypatch, cpu)

    def test_the_cpu_of_the_caller_is_found(self):
        seen = {}

        def look(cpu):
            os.sched_setaffinity(0, {cpu})  # of this thread alone
            seen[cpu] = threads._current_cpu()()

        for cpu in AFFINITY(0):
            thread = threading.Thread(target=look, args=(cpu,))
            thread.start()
            thread.join()
        assert all(cpu == found for cpu, found in seen.items())
        assert len(seen) >= 2

    @pytest.mark.parametrize("name", ["sched_setaffinity", "sched_getaffinity"])
    def test_a_refusal_is_no_error(self, monkeypatch, name):
        def refuse(*_):
            raise PermissionError("not in this sandbox")

        monkeypatch.setattr(os, name, refuse)
        together(lambda chunk: None)


def test_where_threads_cannot_be_placed(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.setattr(threads, "_current_cpu", threads._current_cpu.__wrapped__)
    assert threads._current_cpu() is None
    together(lambda chunk: None)


class TestDivide:
    @pytest.mark.parametrize("items", [0, 1, 2, 3, 7, 100, 3001])
    @pytest.mark.parametrize("count", [1, 2, 3, 16])
    def test_chunks_cover_all_items_and_the_last_is_the_smallest(self, items, count):
        chunks = threads.divide(items, count, 5)
        assert [i for chunk in chunks for i in range(items)[chunk]] == list(range(items))
        lengths = [chunk.stop - chunk.start for chunk in chunks]
        assert len(lengths) <= count
        assert all(length == lengths[0] for length in lengths[:-1])
        if items > 100 and count > 1:
            assert 0.5 < lengths[-1] / lengths[0] < 0.8


class TestContext:
    def test_the_error_state_of_the_caller_holds_in_workers(self):
        found = []
        with np.errstate(over="raise", invalid="ignore"):
            together(lambda chunk: found.append((in_main_thread(), np.geterr())))
        assert {in_caller for in_caller, _ in found} == {True, False}
        assert all((e["over"], e["invalid"]) == ("raise", "ignore") for _, e in found)
        together(lambda chunk: found.append(np.geterr()))
        assert found[-1]["over"] == found[-2]["over"] == np.geterr()["over"] != "raise"


class TestErrors:
    @pytest.mark.parametrize("where", [True, False], ids=["caller", "worker"])
    @pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
    def test_an_error_is_raised_when_all_begun_chunks_are_finished(self, kind, where, spin):
        """After an error no further chunk begins."""
        begun, meeting = [], threading.Barrier(2)

        def work(chunk):
            begun.append(chunk)
            meeting.wait(10)
            if in_main_thread() == where:
                raise kind("of one chunk")
            time.sleep(0.1)
            finished.append(chunk)

        finished = []
        with pytest.raises(kind, match="of one chunk"):
            threads.run(work, range(50), 2, spin)
        assert len(begun) == 2
        assert len(finished) == 1
        together(lambda chunk: None, spin)  # the worker still works
        assert len(threads._workers) == 1

    @pytest.mark.parametrize("where", [True, False], ids=["caller", "worker"])
    def test_the_first_of_two_errors_is_raised(self, where):
        def work(chunk):
            if in_main_thread() != where:
                time.sleep(0.1)
            raise ValueError("first" if in_main_thread() == where else "second")

        with pytest.raises(ValueError, match="first"):
            together(work)

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
    def test_interrupts_do_not_end_the_wait_for_a_worker(self, spin):
        """The first interrupt does not, nor do those that come while the caller then waits."""
        finished = []

        def interrupt(*_):
            raise KeyboardInterrupt

        def work(chunk):
            if not in_main_thread():
                time.sleep(0.3)
                finished.append(chunk)

        handler = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
            with pytest.raises(KeyboardInterrupt):
                together(work, spin)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
        assert len(finished) == 1

    def test_no_array_is_held_afterwards(self, spin):
        def call(fails):
            x = np.zeros(1 << 16)

            def work(chunk):
                x[chunk] = 1
                if fails and chunk == 7:
                    raise ZeroDivisionError

            try:
                threads.run(work, range(9), spin=spin)
            except ZeroDivisionError:
                assert fails
            return weakref.ref(x)

        gc.collect()
        gc.disable()  # no reference cycle may hold it either
        try:
            for number in range(100):
                assert call(fails=number % 2)() is None
        finally:
            gc.enable()

    def test_a_late_worker_finds_neither_chunks_nor_arrays(self, monkeypatch):
        monkeypatch.setattr(threads, "_start", lambda count: count)  # no worker takes the jobs

        def call():
            x, seen = np.zeros(5), []
            threads.run(lambda i: seen.append(x[i]), range(5))
            assert len(seen) == 5
            return weakref.ref(x)

        assert call()() is None
        assert threads._jobs.qsize() == 2
        assert threads._jobs.get().work_in_worker() is None


def test_a_compiled_spin_sees_that_the_flag_has_changed(monkeypatch):
    """The compiler must not assume that the flag stays as it is, as nothing in `spin` sets it."""
    peer("numba")
    from numba import njit

    from tinyml_backends.numba_backend import scheduling

    if scheduling.spin is None:
        pytest.skip("no sched_yield here")
    monkeypatch.setattr(scheduling, "LOOKS", 1 << 24)  # seconds
    spin, flag = njit(nogil=True)(scheduling._spin), np.zeros(1, np.int64)
    spin(flag, 1)  # compiled
    timer = threading.Timer(0.1, flag.fill, (1,))
    begin = time.monotonic()
    timer.start()
    spin(flag, 0)
    assert 0.05 < time.monotonic() - begin < 2
    timer.join()


class TestNoThreads:
    @pytest.mark.parametrize("started", [0, 1])
    def test_where_no_more_threads_can_be_started(self, monkeypatch, started):
        start = threading.Thread.start

        def refuse(thread):
            if len(threads._workers) >= started:
                raise RuntimeError("can't start new thread")
            start(thread)

        class Counted(SimpleQueue):
            def put(self, job):
                given.append(job)
                super().put(job)

        done, given = [], []
        monkeypatch.setattr(threads, "_jobs", Counted())
        monkeypatch.setattr(threading.Thread, "start", refuse)
        threads.run(done.append, range(9))
        assert sorted(done) == list(range(9))
        assert len(threads._workers) == started
        assert len(given) == started  # no more jobs than workers

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_forked_child_runs_serially(self, monkeypatch):
        monkeypatch.undo()
        monkeypatch.setattr(threads, "configured_threads", lambda: 3)
        together(lambda chunk: None)
        with threads._lock:  # a child must not wait for a lock of its parent
            child = os.fork()
            if child == 0:
                seen = []
                threads.run_in_order(lambda i: threading.current_thread(), range(9), seen.append)
                alone = seen == [threading.current_thread()] * 9
                os._exit(0 if threads.thread_count() == 1 and alone else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert threads.thread_count() == 3


class TestInOrder:
    def test_results_are_collected_in_order_and_few_are_held(self):
        held, most, collected = [], [], []

        def work(chunk):
            time.sleep(0.001 * (chunk % 3))
            held.append(chunk)
            most.append(len(held))
            return chunk * chunk

        def collect(result):
            held.pop()
            collected.append(result)

        threads.run_in_order(work, range(60), collect)
        assert collected == [i * i for i in range(60)]
        assert max(most) < 15
        with pytest.raises(ZeroDivisionError):
            threads.run_in_order(lambda i: 1 // i, range(9), collect)
