"""Threads that help a caller, and where they run."""

import os
import threading

import pytest

from tinyml_backends import helpers

pytestmark = pytest.mark.host


@pytest.fixture(autouse=True)
def own_helpers(monkeypatch):
    """Helpers of this test alone."""
    monkeypatch.setattr(helpers, "_helpers", [])
    monkeypatch.setattr(helpers, "_calls", type(helpers._calls)())
    monkeypatch.setattr(helpers, "_placed", None)


def ask_and_wait(times):
    """The threads that ran so many calls, which meet, so that each has one of its own."""
    meeting, seen = threading.Barrier(times + 1), []

    def call():
        seen.append(threading.current_thread())
        meeting.wait(10)

    helpers.ask(call, times)
    meeting.wait(10)
    return seen


def test_how_many_threads(monkeypatch):
    for text, count in (("3", 3), ("1", 1)):
        monkeypatch.setenv("TINYML_NUM_THREADS", text)
        assert helpers.configured_threads.__wrapped__() == count
    monkeypatch.delenv("TINYML_NUM_THREADS")
    assert helpers.configured_threads.__wrapped__() >= 1
    for text in ("0", "two", "-1"):
        monkeypatch.setenv("TINYML_NUM_THREADS", text)
        with pytest.raises(ValueError, match=f"TINYML_NUM_THREADS is '{text}'"):
            helpers.configured_threads.__wrapped__()


def test_helpers_are_made_once():
    first = ask_and_wait(2)
    assert len(set(first)) == 2
    assert threading.current_thread() not in first
    for _ in range(20):
        assert set(ask_and_wait(2)) <= set(first)
    assert len(set(ask_and_wait(4))) == 4
    assert all(helper.daemon for helper in helpers._helpers)  # they keep no process from its end


needs_placing = pytest.mark.skipif(
    helpers._processor() is None or len(os.sched_getaffinity(0)) < 2,
    reason="threads cannot be placed here, or there is one processor",
)


@needs_placing
@pytest.mark.parametrize("times", [1, 3])
def test_helpers_keep_off_the_processor_of_the_caller(monkeypatch, times):
    allowed = os.sched_getaffinity(0)
    for here in sorted(allowed)[:2]:
        monkeypatch.setattr(helpers, "_processor", lambda here=here: lambda: here)
        for helper in ask_and_wait(times):
            assert os.sched_getaffinity(helper.native_id) == allowed - {here}
    assert os.sched_getaffinity(0) == allowed  # the caller's own are untouched
    for helper in ask_and_wait(times + 1):  # one of them is new
        assert os.sched_getaffinity(helper.native_id) == allowed - {here}


@needs_placing
def test_the_processor_of_the_caller_is_found(monkeypatch):
    seen = {}

    def look(processor):
        os.sched_setaffinity(0, {processor})  # of this thread alone
        ask_and_wait(1)
        seen[processor] = helpers._placed

    for processor in os.sched_getaffinity(0):
        thread = threading.Thread(target=look, args=(processor,))
        thread.start()
        thread.join()
    assert all(placed == (processor, {processor}) for processor, placed in seen.items())
    assert len(seen) >= 2


@needs_placing
def test_helpers_stay_where_the_caller_may_run(monkeypatch):
    """Also when it may run on fewer processors than before, and stays on the same."""
    affinity = os.sched_getaffinity
    allowed = affinity(0)
    here = min(allowed)
    monkeypatch.setattr(helpers, "_processor", lambda: lambda: here)
    for now in (allowed, {here}, allowed):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, now=now: now)
        (helper,) = ask_and_wait(1)
        assert affinity(helper.native_id) == (now - {here} or {here})


@needs_placing
def test_helpers_are_placed_only_when_something_has_changed(monkeypatch):
    here = min(os.sched_getaffinity(0))
    monkeypatch.setattr(helpers, "_processor", lambda: lambda: here)
    ask_and_wait(1)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: pytest.fail("it is there already"))
    ask_and_wait(1)


def refuse(*_):
    raise PermissionError("not in this sandbox")


@pytest.mark.parametrize("name", ["sched_setaffinity", "sched_getaffinity"])
def test_a_refusal_to_place_them_is_no_failure(monkeypatch, name):
    if not hasattr(os, name):
        pytest.skip("threads cannot be placed here")
    monkeypatch.setattr(os, name, refuse)
    assert len(set(ask_and_wait(2))) == 2


def test_where_threads_cannot_be_placed(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.setattr(helpers, "_processor", helpers._processor.__wrapped__)
    assert helpers._processor() is None
    assert len(set(ask_and_wait(2))) == 2


def test_a_helper_outlives_an_error(monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    (helper,) = ask_and_wait(1)
    helpers.ask(lambda: 1 // 0, 1)
    assert ask_and_wait(1) == [helper]
    assert [report.exc_type for report in reported] == [ZeroDivisionError]
    assert reported[0].thread is helper


def test_where_no_thread_can_be_started(monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    ask_and_wait(1)
    monkeypatch.setattr(threading.Thread, "start", start)
    helpers.ask(pytest.fail, 0)
    assert len(helpers._helpers) == 1
    called = threading.Semaphore(0)
    helpers.ask(called.release, 3)
    assert called.acquire(timeout=10)
    assert not called.acquire(timeout=0.1)  # nobody else is there


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_none(monkeypatch):
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    monkeypatch.setattr(helpers, "configured_threads", lambda: 3)
    ask_and_wait(2)
    child = os.fork()
    if child == 0:
        os._exit(0 if helpers.thread_count() == 1 and not helpers._helpers else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert helpers.thread_count() == 3
