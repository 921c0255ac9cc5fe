"""Small cases for the benchmark runner, and a backend with planted faults."""

from click.testing import CliRunner

import tinyml
from tinyml.bench import cases, measure, runner
from tinyml.bench.cases import Convolution, LeNet, Pooling, SegNet
from tinyml.cli import main
from tinyml_backends import registry
from tinyml_backends.numpy_backend import NumpyBackend

SMALL = (
    Pooling((2, 3, 8, 6), "pool"),
    Pooling((2, 3, 8, 6), "unpool"),
    Pooling((2, 3, 8, 6), "pool gradient"),
    Pooling((2, 3, 8, 6), "unpool gradient"),
    Pooling((2, 3, 9, 7), "pool", size=3, stride=2, padding=1),
    Pooling((2, 3, 9, 7), "unpool", size=3, stride=2, padding=1),
    Pooling((2, 3, 9, 7), "pool gradient", size=3, stride=2, padding=1),
    *(Pooling((2, 3, 9), operation) for operation in cases.OPERATIONS),
    *(Pooling((2, 3, 4, 5, 6), operation) for operation in cases.OPERATIONS),
    Convolution((2, 3, 8, 6), 4),
    Convolution((2, 3, 8, 6), 4, operation="conv gradient"),
    Convolution((2, 4, 9, 7), 6, size=5, stride=2, groups=2),
    Convolution((2, 4, 9, 7), 6, size=5, stride=2, groups=2, operation="conv gradient"),
    LeNet("lenet", (2, 1, 8, 8), "training step", classes=10),
    SegNet("segnet-small", (1, 3, 20, 26), "inference", classes=3, depth=2, channels=4),
    SegNet("segnet-small", (2, 3, 20, 26), "training step", classes=3, depth=2, channels=4),
)


def make_quick(monkeypatch):
    """Small cases without breaks; the test's registered backends are removed after it."""
    monkeypatch.setattr(cases, "CASES", SMALL)
    monkeypatch.setattr(measure, "SAMPLE_SECONDS", 1e-5)
    monkeypatch.setattr(runner, "watch", lambda: lambda: None)
    monkeypatch.setattr(measure, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_made", dict(registry._made))


def bench(*arguments):
    return CliRunner().invoke(main, ["bench", "--rounds", "7", *map(str, arguments)])


def refused(*arguments):
    """Error message of a run that refuses its arguments."""
    result = bench(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    return result.stderr.splitlines()[-1].removeprefix("Error: ")


class Planted(NumpyBackend):
    """Pools as NumPy does, and unpools with a planted fault."""

    name = "planted"
    calls = 0

    def max_unpool(self, *arguments, out=None):
        type(self).calls += 1
        return self.fault(super().max_unpool(*arguments, out=out))


def plant(monkeypatch, fault):
    monkeypatch.setattr(Planted, "fault", lambda self, right: fault(right), raising=False)
    monkeypatch.setattr(Planted, "calls", 0)
    tinyml.register_backend("planted", Planted)
