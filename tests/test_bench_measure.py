"""``tinyml bench``: how contenders are timed."""

import types

import numpy as np
import pytest

import tinyml
from support.bench import bench
from tinyml.bench import cases, measure
from tinyml.bench.measure import Contender, host_copies, wall_clock
from tinyml.bench.results import Timing
from tinyml_backends.numpy_backend import NumpyBackend

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("quick")]


def timing(name):
    return Timing(name, "backend", name, "cpu")


class TestMeasure:
    def test_copies_copy(self):
        target, source = np.zeros(1001), np.arange(1001.0)
        for name, run in host_copies(target, source).items():
            target[:] = 0
            run()
            assert np.array_equal(target, source), name

    def test_turns_are_taken(self):
        order = []

        def contender(name):
            def run():
                order.append(name)

            prepared = cases.Prepared(run, lambda _: ())
            return Contender(timing(name), prepared, lambda run, _: run() or 1.0)

        both = [contender("a"), contender("b")]
        assert measure.measure(both, rounds=9, budget=1e9)
        assert [len(c.timing.seconds) for c in both] == [9, 9]
        assert order[4:] == ["a", "b"] * 9

    def test_a_break_and_unmeasured_calls_precede_a_sample(self, monkeypatch):
        log = []
        monkeypatch.setattr(measure, "SETTLED_SECONDS", 0.02)
        monkeypatch.setattr(measure.time, "sleep", lambda seconds: log.append("break"))
        prepared = cases.Prepared(lambda: log.append("run"), lambda _: ())
        contender = Contender(timing("a"), prepared, wall_clock)
        measure.measure([contender], rounds=7, budget=0)
        turns = " ".join(log).split("break")
        assert len(turns) == 1 + 7
        assert all(turn.count("run") > 2 * contender.repeats for turn in turns[1:])

    def test_no_unmeasured_call_precedes_a_long_one(self, monkeypatch):
        calls = []
        monkeypatch.setattr(measure, "LONG_SECONDS", 0.0)
        monkeypatch.setattr(measure, "SETTLED_SECONDS", 1e-3)
        contender = Contender(
            timing("a"),
            cases.Prepared(lambda: None, lambda _: ()),
            lambda run, n: calls.append(n) or 1.0,
        )
        measure.measure([contender], rounds=7, budget=0)
        assert len(calls) == 2 + 7

    def test_a_long_case_gets_the_fewest_rounds(self):
        prepared = cases.Prepared(lambda: None, lambda _: ())
        contender = Contender(timing("a"), prepared, wall_clock)
        measure.measure([contender], rounds=100, budget=0)
        assert len(contender.timing.seconds) == measure.FEWEST_ROUNDS

    def test_a_gpu_is_timed_by_its_events(self):
        """With a backend on NumPy whose module has the names of ``cupy.cuda``."""
        log = []

        class Event:
            def record(self):
                log.append("record")

            def synchronize(self):
                log.append("synchronize")

        class Device:
            def __init__(self, number):
                self.number = number

            def __enter__(self):
                log.append(f"device {self.number}")

            def __exit__(self, *error):
                pass

        class Module(types.ModuleType):
            __version__ = "1.0"
            cuda = types.SimpleNamespace(
                Event=Event,
                Device=Device,
                get_elapsed_time=lambda start, stop: 5.0,
                runtime=types.SimpleNamespace(
                    getDeviceProperties=lambda number: {"name": b"GPU of the test"},
                    runtimeGetVersion=lambda: 12090,
                ),
            )

            def __getattr__(self, name):
                return getattr(np, name)

        class OnGpu(NumpyBackend):
            name = "on-gpu"
            xp = Module("like_cupy")

        tinyml.register_backend("on-gpu", OnGpu)
        result = bench("--backends", "numpy,on-gpu", "--cases", "unpool 8x6")
        assert result.exit_code == 0, result.output
        assert "on-gpu GPU GPU of the test" in result.stdout
        assert f"  {'on-gpu':<24}{5.0:11.4f}" in result.stdout
        sample = log.index("synchronize")
        assert log[sample - 3 : sample + 1] == ["device 0", "record", "record", "synchronize"]


def test_a_gpu_is_busy_until_all_calls_are_queued():
    """Otherwise the time between the events would be that of Python."""
    done = []

    class Event:
        def record(self):
            done.append("event")

        def synchronize(self):
            done.append("wait")

    cuda = types.SimpleNamespace(Event=Event, get_elapsed_time=lambda start, stop: 6.0)

    class Busy:
        def __setitem__(self, key, value):
            done.append("fill")

    seconds = measure.cuda_events(cuda, Busy(), lambda: done.append("call"), 3)
    assert done == ["fill"] * measure.BUSY_FILLS + ["event"] + ["call"] * 3 + ["event", "wait"]
    assert seconds == 2e-3
