"""Callbacks of Learner.fit, and what its history is made into."""

import csv
import math

import numpy as np
import pytest

from tinyml.callbacks import Callback, CSVLog, EarlyStop
from tinyml.history import best_epoch, epoch_rows, plot_history
from tinyml.layers import Linear
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.metrics import Confusion, IoU
from tinyml.net import Sequential
from tinyml.optims import SGD


def data(backend, n=20):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 3)).astype(np.float32)
    return backend.asarray(x), backend.asarray(x.argmax(1))


def learner(rate=0.1):
    return Learner(Sequential([Linear("l", 3, 3, rng=0)]), SoftmaxCrossEntropy(), SGD(rate))


class Noted(Callback):
    """Notes the calls, with the steps that were done."""

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def on_fit_begin(self, learner):
        self.calls.append((self.name, "begin", len(learner.history["loss"])))

    def on_step_end(self, learner):
        self.calls.append((self.name, "step", len(learner.history["loss"])))

    def on_epoch_end(self, learner, epoch):
        assert learner.position.epoch == epoch + 1
        assert len(learner.history["validation"]) == len(learner.history["steps"]) == epoch
        self.calls.append((self.name, f"epoch {epoch}", len(learner.history["loss"])))

    def on_fit_end(self, learner):
        self.calls.append((self.name, "end", len(learner.history["loss"])))


def test_the_order_of_the_calls(backend):
    calls, ours = [], learner()

    def function(of, epoch):
        assert of is ours
        calls.append(("function", f"epoch {epoch}", len(of.history["loss"])))

    callbacks = iter([Noted("a", calls), function, Noted("b", calls)])
    batch = data(backend)
    ours.fit(batch, batch, epochs=2, batch_size=10, callbacks=callbacks)
    expected = [("a", "begin", 0), ("b", "begin", 0)]
    for epoch in (1, 2):
        for step in (2 * epoch - 1, 2 * epoch):
            expected += [("a", "step", step), ("b", "step", step)]
        expected += [(name, f"epoch {epoch}", 2 * epoch) for name in ("a", "function", "b")]
    assert calls == [*expected, ("b", "end", 4), ("a", "end", 4)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_they_end_after_an_error_too(backend, error):
    calls, batch = [], data(backend)

    class Failing(Callback):
        def on_step_end(self, learner):
            raise error("here")

    class BadEnd(Callback):
        def on_fit_end(self, learner):
            raise RuntimeError("end")

    with pytest.raises(error, match="here"):
        learner().fit(batch, batch, callbacks=[Noted("a", calls), Failing()])
    assert calls == [("a", "begin", 0), ("a", "step", 1), ("a", "end", 1)]
    calls.clear()
    with pytest.raises(RuntimeError, match="end"):
        learner().fit(batch, batch, callbacks=[Noted("a", calls), BadEnd(), Failing()])
    assert calls[-1] == ("a", "end", 1)


def test_stop(backend):
    batch = data(backend)

    class Stops(Callback):
        def on_step_end(self, learner):
            if len(learner.history["loss"]) == 3:
                learner.stop()

    ours = learner()
    history = ours.fit(batch, batch, epochs=9, batch_size=10, callbacks=[Stops()])
    assert len(history["loss"]) == 3
    assert len(history["validation"]) == 1
    history = ours.fit(batch, epochs=9, callbacks=[lambda of, epoch: epoch == 2 and of.stop()])
    assert history["steps"] == [1, 2]
    assert len(ours.fit(batch, epochs=9)["steps"]) == 9  # it does not stay stopped


@pytest.mark.host
def test_wrong_callbacks():
    x, y = np.ones((2, 3), np.float32), np.array([0, 1])
    for callbacks, message in (
        ([EarlyStop], "callbacks holds the class EarlyStop; it must be called"),
        ([1], "callbacks holds 1; it must hold Callbacks, or functions of"),
        (EarlyStop(1), "callbacks is <.*>; it must be a list of callbacks"),
    ):
        with pytest.raises(TypeError, match=message):
            learner().fit((x, y), callbacks=callbacks)
    with pytest.raises(ValueError, match="patience is 0; it must be at least 1"):
        EarlyStop(0)
    with pytest.raises(ValueError, match="mode is 'least'; it must be 'min', 'max' or None"):
        EarlyStop(1, mode="least")
    message = "monitor is 'iou'; it must be one of loss, accuracy"
    with pytest.raises(ValueError, match=message):
        learner().fit((x, y), (x, y), callbacks=[EarlyStop(1, "iou")])
    with pytest.raises(ValueError, match="monitor is 'accuracy'; it must be one of loss"):
        learner().fit((x, y), callbacks=[EarlyStop(1, "accuracy")])


class Scripted(Learner):
    """Its validation returns given values."""

    def evaluate(self, data, **options):
        return self.script[len(self.history["steps"])]


@pytest.mark.host
@pytest.mark.parametrize(
    ("values", "monitor", "mode", "patience", "epochs"),
    [
        ([3, 2, 1, 1, 1, 1, 1], "loss", None, 2, 5),
        ([3, 2, 3, 1, 2, 2, 2], "loss", None, 2, 6),
        ([1, 2, 3, 2, 2, 2, 2], "iou", None, 3, 6),
        ([3, 2, 1, 1, 1, 1, 1], "iou", "min", 1, 4),
        ([1, 2, 3, 2, 2, 2, 2], "loss", "max", 1, 4),
        ([math.nan] * 7, "iou", None, 3, 3),
        ([math.nan, 1, math.nan, 2, 1, 1, 1], "iou", None, 2, 6),
        ([math.inf, math.inf, 5, 6, 6, 6, 6], "loss", None, 2, 5),
        ([7, 6, 5, 4, 3, 2, 1], "loss", None, 1, 7),
    ],
)
def test_early_stop(values, monitor, mode, patience, epochs):
    x, y = np.ones((2, 3), np.float32), np.array([0, 1])
    ours = Scripted(learner().model, SoftmaxCrossEntropy(), SGD(0.1))
    ours.script = [{monitor: float(value)} for value in values]
    stop = EarlyStop(patience, monitor, mode=mode)
    history = ours.fit((x, y), (x, y), epochs=7, callbacks=[stop])
    assert len(history["steps"]) == epochs
    if epochs < 7:  # nor does it go on later
        ours.fit((x, y), (x, y), epochs=7, callbacks=[stop], start=ours.position)
        assert len(history["steps"]) == epochs


@pytest.mark.host
def test_early_stop_without_validation():
    x, y = np.ones((2, 3), np.float32), np.array([0, 1])
    history = learner(1e-30).fit((x, y), epochs=9, callbacks=[EarlyStop(2)])
    assert len(history["steps"]) == 3


@pytest.mark.host
def test_best_epoch():
    assert best_epoch({"loss": [], "steps": []}) == 0
    history = {"loss": [1.0, 5.0, 0.0], "steps": [1, 3]}
    assert best_epoch(history) == 1
    assert best_epoch(history, mode="max") == 2
    with pytest.raises(ValueError, match="monitor is 'steps'; it must be one of loss"):
        best_epoch(history, "steps")


def test_csv_log(backend, tmp_path):
    path, batch, ours = tmp_path / "log.csv", data(backend), learner()
    log = CSVLog(path)

    def look(learner, epoch):
        assert len(path.read_text().splitlines()) == epoch + 1

    metrics = [IoU(), Confusion()]
    options = {"batch_size": 10, "metrics": metrics, "callbacks": [log, look]}
    history = ours.fit(batch, batch, epochs=3, **options)
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    columns = ["validation_loss", "validation_accuracy", "validation_iou"]  # no matrix
    assert header == ["epoch", "steps", "loss", *columns]
    for epoch, row in enumerate(rows, 1):
        losses = history["loss"][2 * epoch - 2 : 2 * epoch]
        result = [history["validation"][epoch - 1][c.removeprefix("validation_")] for c in columns]
        assert [float(value) for value in row] == [epoch, 2 * epoch, sum(losses) / 2, *result]

    whole = path.read_text()
    path.unlink()
    ours.fit(batch, batch, epochs=3, start=ours.position, **options)
    assert path.read_text() == whole  # a training that goes on has the same table


@pytest.mark.host
def test_the_log_is_closed_and_a_wrong_path_is_found_before_training(tmp_path):
    x, y = np.ones((2, 3), np.float32), np.array([0, 1])
    ours, log = learner(), CSVLog(tmp_path / "log.csv")

    def interrupt(learner, epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ours.fit((x, y), epochs=9, callbacks=[log, interrupt])
    assert log._file.closed
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    before = ours.model.parameters[0].tensor.copy()
    for path in (tmp_path, tmp_path / "missing" / "log.csv"):
        with pytest.raises(OSError, match=r"missing|log|[Dd]irectory"):
            ours.fit((x, y), callbacks=[CSVLog(str(path))])
    assert (ours.model.parameters[0].tensor == before).all()


@pytest.mark.host
def test_rows_of_an_epoch():
    assert epoch_rows({}) == []
    history = {"loss": [1.0, 3.0, 5.0], "steps": [2], "validation": [{"a": 1, "b": [1]}]}
    assert epoch_rows(history) == [{"epoch": 1, "steps": 2, "loss": 2.0, "validation_a": 1}]


@pytest.mark.host
@pytest.mark.parametrize("validated", [False, True, "loss only"])
@pytest.mark.parametrize("epochs", [0, 1, 40])
def test_plot(tmp_path, validated, epochs):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    count = max(1, 10 * epochs)
    history = {"loss": list(2 ** -np.linspace(0, 5, count) + rng.random(count) / 9)}
    history["steps"] = [10 * (epoch + 1) for epoch in range(epochs)]
    if validated and epochs:
        only = {"loss": 1.0} if validated == "loss only" else {"loss": 1.0, "iou": 0.5, "f1": 0.6}
        history["validation"] = [only for _ in range(epochs)]
    plot_history(history, tmp_path / "history.png")
    wide = validated is True and epochs > 0
    with image.open(tmp_path / "history.png") as picture:
        assert picture.size == (1100 if wide else 600, 420)


@pytest.mark.host
def test_plot_errors(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="history has no step; there is nothing to draw"):
        plot_history({"loss": [], "steps": []}, tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"[Ff]ormat 'xyz' is not supported"):
        plot_history({"loss": [1.0, -1.0], "steps": []}, tmp_path / "a.xyz")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plot_history needs matplotlib; .*pip install"):
        plot_history({"loss": [1.0], "steps": [1]}, tmp_path / "a.png")
