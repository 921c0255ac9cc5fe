"""A training that is saved, killed and resumed ends with the bits of one that never stopped."""

import copy
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import settings

import tinyml
from support.compare import assert_same_bits
from tinyml import CheckpointError
from tinyml.callbacks import Callback
from tinyml.checkpoint import file, read
from tinyml.checkpoint.callbacks import KeepBest, KeepLast
from tinyml.checkpoint.training import resume, save_training
from tinyml.clipping import Clipped
from tinyml.layers import BatchNorm2D, Conv2D, Dropout
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.metrics import Confusion
from tinyml.net import Sequential
from tinyml.optims import SGD, Adagrad, Adam, AdamW, ParameterGroups, RMSprop
from tinyml.schedules import Cosine

OPTIMIZERS = {
    "SGD": lambda model: SGD(0.05, 0.9),
    "Adam": lambda model: Adam(Cosine(0.01, steps=40)),
    "RMSprop": lambda model: RMSprop(0.01, momentum=0.5),
    "Adagrad": lambda model: Adagrad(0.05),
    "groups": lambda model: Clipped(
        ParameterGroups(AdamW(0.01), [(model.layers[0].parameters, SGD(0.1, 0.9))]), norm=1.0
    ),
}


def new_learner(optimizer="Adam", seed=0):
    """Batch norm has buffers; the two dropouts share a generator."""
    rng = np.random.default_rng(seed)
    model = Sequential(
        [
            Conv2D("conv1", (2, 4, 4), 4, 3, padding=1, rng=0),
            BatchNorm2D("norm", (4, 4, 4)),
            Dropout("dropout1", 0.3, rng=rng),
            Dropout("dropout2", 0.1, rng=rng),
            Conv2D("conv2", (4, 4, 4), 3, 1, rng=2),
        ]
    )
    return Learner(model, SoftmaxCrossEntropy(), OPTIMIZERS[optimizer](model))


def data(n=22):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 2, 4, 4), np.float32), rng.integers(0, 3, (n, 4, 4))


class Halve(Callback):
    """Changes a number of the optimizer, which must be saved too."""

    def on_epoch_end(self, learner, epoch):
        learner.optimizer.momentum *= 0.5


class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, learner):
        if len(learner.history["loss"]) == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def path(tmp_path):
    return tmp_path / "last.safetensors"


def assert_same(backend, one, other):
    assert one.history == other.history
    assert one.position == other.position
    for a, b in zip(
        (*one.model.parameters, *one.model.buffers),
        (*other.model.parameters, *other.model.buffers),
        strict=True,
    ):
        assert_same_bits(backend.to_numpy(a.tensor), backend.to_numpy(b.tensor))


@pytest.mark.parametrize("step", [1, 6, 7, 15])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_same_bits(backend, optimizer, step, path):
    extra = [Halve()] if optimizer == "SGD" else []
    train, options = data(), {"epochs": 3, "batch_size": 4, "seed": 5}
    whole = new_learner(optimizer)
    whole.fit(train, train, callbacks=extra, **options)
    first = new_learner(optimizer)
    with pytest.raises(KeyboardInterrupt):
        first.fit(train, train, callbacks=[*extra, StopAt(step), KeepLast(path)], **options)
    second = new_learner(optimizer, seed=99)
    start = resume(second, path)
    assert second.history == first.history
    second.fit(train, train, callbacks=extra, start=start, **options)
    assert_same(backend, second, whole)
    # both go on, and dropout's generator is still shared
    second.step(*train)
    whole.step(*train)
    assert_same(backend, second, whole)


def test_a_file_of_a_training_is_a_model_too(backend, path):
    learner = new_learner()
    learner.fit(data(), callbacks=[KeepLast(path, info={"task": "x"})])
    loaded = tinyml.load(path).eval()
    x = backend.asarray(data()[0])
    assert_same_bits(backend.to_numpy(loaded(x)), backend.to_numpy(learner.model.eval()(x)))
    assert read(path).info == {"task": "x"}
    new_learner().model.load_weights(path)


@pytest.mark.host
def test_the_best_is_kept(tmp_path):
    learner, train = new_learner(), data()
    paths = tmp_path / "best.safetensors", tmp_path / "last.safetensors"
    scores = iter([0.5, 0.9, 0.2])

    class Fixed:
        name = "score"

        def reset(self):
            pass

        def update(self, output, target):
            pass

        def value(self):
            return next(scores)

    kept = []
    learner.fit(
        train,
        train,
        epochs=3,
        metrics=[Fixed()],
        callbacks=[
            lambda learner, epoch: kept.append(learner.model.layers[0].weight.tensor.copy()),
            KeepBest(paths[0], "score", info={"a": 1}),
            KeepLast(paths[1]),
        ],
    )
    assert_same_bits(tinyml.load(paths[0]).layers[0].weight.tensor, kept[1])
    assert_same_bits(tinyml.load(paths[1]).layers[0].weight.tensor, kept[2])
    assert read(paths[0]).info == {"a": 1}


@pytest.mark.host
def test_every_so_many_steps(path):
    seen = []

    class Look(Callback):
        def on_step_end(self, learner):
            seen.append(path.exists() and len(read(path).extra["training.history.loss"]))

    new_learner().fit(data(), batch_size=4, callbacks=[KeepLast(path, every=2), Look()])
    assert seen == [False, 2, 2, 4, 4, 6]


@pytest.mark.host
@pytest.mark.parametrize("first", ["best", "last", "neither"])
def test_interrupted_at_the_end_of_an_epoch(tmp_path, monkeypatch, first):
    """While a file is written, or before: what is lacking is written at the end of the training."""
    best, last = tmp_path / "best.safetensors", tmp_path / "last.safetensors"
    waiting = [f"{first}.safetensors"]

    def replace(source, target):
        if waiting == [target.name] and learner.history["steps"]:
            waiting.clear()
            raise KeyboardInterrupt
        rename(source, target)

    class Stop(Callback):
        def on_epoch_end(self, learner, epoch):
            raise KeyboardInterrupt

    rename = os.replace
    monkeypatch.setattr(os, "replace", replace)
    learner = new_learner()
    stop = [Stop()] if first == "neither" else []
    with pytest.raises(KeyboardInterrupt):
        learner.fit(data(), data(), callbacks=[*stop, KeepBest(best), KeepLast(last)])
    assert sorted(os.listdir(tmp_path)) == ["best.safetensors", "last.safetensors"]
    assert resume(new_learner(), last) == learner.position
    assert learner.position.epoch == 2
    assert_same_bits(tinyml.load(best).parameters[0].tensor, learner.model.parameters[0].tensor)


@pytest.mark.host
def test_a_history_of_any_length_and_any_values(path):
    class Own:
        name = "own"

        def reset(self):
            pass

        def update(self, output, target):
            pass

        def value(self):
            return np.float32(0.1)

    learner = new_learner()
    learner.fit(data(), data(), epochs=2, batch_size=20, metrics=[Own(), Confusion()])
    history, epochs = learner.history, 50_000
    history["loss"] *= epochs // 2
    history["steps"] = list(range(2, 2 * epochs + 1, 2))
    last = history["validation"][-1]
    history["validation"] = [{**last, "confusion": [], "loss": float(n)} for n in range(epochs)]
    history["note"] = ["a", 1]
    learner.position = replace(learner.position, epoch=epochs + 1)
    save_training(learner, path)
    second = new_learner()
    resume(second, path)
    assert second.history == history
    assert type(second.history["steps"][0]) is int


SCRIPT = """
import sys
sys.path[:0] = sys.argv[2:]
from test_resume import *
from pathlib import Path
path = Path(sys.argv[1])
learner = new_learner()
start = resume(learner, path) if path.exists() else None
print("ready", flush=True)
callbacks = [KeepLast(path, every=1)]
learner.fit(data(), epochs=40, batch_size=4, seed=5, callbacks=callbacks, start=start)
print("done", flush=True)
"""


@pytest.mark.host
def test_killed_at_random_moments(path):
    """Killed and resumed again and again, until it has come to its end."""
    whole = new_learner()
    whole.fit(data(), epochs=40, batch_size=4, seed=5)
    rng, kills = random.Random(0), 0
    for _ in range(10 if settings().max_examples >= 1000 else 1):
        path.unlink(missing_ok=True)
        ended = False
        while not ended:
            run = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, path, *sys.path],
                stdout=subprocess.PIPE,
                env={**os.environ, "TINYML_BACKEND": "numpy"},
            )
            assert run.stdout.readline().strip() == b"ready"
            time.sleep(rng.uniform(0.1, 0.5))
            run.send_signal(signal.SIGKILL)
            run.wait()
            ended = run.stdout.read().strip() == b"done"
            run.stdout.close()
            kills += 1
        second = new_learner()
        resume(second, path)
        assert second.history == whole.history
        for a, b in zip(second.model.parameters, whole.model.parameters, strict=True):
            assert_same_bits(a.tensor, b.tensor)
    assert kills > 1


@pytest.mark.host
class TestErrors:
    def test_before_a_training(self, path):
        with pytest.raises(ValueError, match="has not trained; call fit first"):
            save_training(new_learner(), path)

    def test_a_file_without_training(self, path):
        tinyml.save(new_learner().model, path)
        with pytest.raises(CheckpointError, match="holds a model, but no training that could go"):
            resume(new_learner(), path)

    def test_another_optimizer_or_model(self, path):
        learner = new_learner("Adam")
        learner.fit(data(), callbacks=[KeepLast(path)])
        other = new_learner("SGD")
        before = [p.tensor.copy() for p in other.model.parameters]
        with pytest.raises(CheckpointError, match="its optimizer is Adam, not the learner's"):
            resume(other, path)
        model = Sequential([Conv2D("conv1", (2, 4, 4), 3, 3, padding=1, rng=0)])
        with pytest.raises(CheckpointError, match=r"cannot be loaded"):
            resume(Learner(model, SoftmaxCrossEntropy(), Adam()), path)
        for p, tensor in zip(other.model.parameters, before, strict=True):
            assert_same_bits(p.tensor, tensor)
        assert other.position is None

    def test_a_schedule_and_a_number(self, path):
        learner = new_learner("Adam")
        learner.fit(data(), callbacks=[KeepLast(path)])
        other = new_learner("Adam")
        other.optimizer.learning_rate = 0.5
        with pytest.raises(CheckpointError, match="its Adam has the numbers betas, epsilon, w"):
            resume(other, path)
        assert other.optimizer.learning_rate == 0.5

    @pytest.mark.parametrize(
        "change",
        [
            lambda training: training["optimizers"][0]["numbers"].update(epsilon=-1),
            lambda training: training["optimizers"][0].update(steps="1"),
            lambda training: training.update(epoch=3),
            lambda training: training.update(rng={}),
            lambda training: training["generators"].update(states=[{}]),
            lambda training: training["history"].update(loss=3),
            lambda training: training["parameters"].update({"conv1.weight": [0, {}, ["third"]]}),
        ],
    )
    def test_a_state_that_is_not_valid(self, path, change):
        learner = new_learner()
        learner.fit(data(), callbacks=[KeepLast(path)])
        contents = file.read(path)
        change(contents.described["training"])
        file.write(path, contents.described, contents.tensors)
        other = new_learner(seed=1)
        before = copy.deepcopy(other)
        with pytest.raises(CheckpointError, match=r"last\.safetensors cannot be loaded"):
            resume(other, path)
        for one in (other, before):
            assert one.position is None
            one.fit(data())
        assert other.history == before.history

    def test_an_optimizer_of_the_user(self, path):
        class Own:
            learning_rate = 1.0

            def update(self, parameters):
                pass

        learner = Learner(new_learner().model, SoftmaxCrossEntropy(), Own())
        learner.fit(data())
        with pytest.raises(CheckpointError, match="only tinyml's can be saved and resumed"):
            save_training(learner, path)

    def test_a_generator_that_cannot_be_saved(self, path):
        learner = new_learner()
        learner.model.layers[2].rng = np.random.Generator(np.random.MT19937(0))
        learner.fit(data())
        with pytest.raises(CheckpointError, match="random generator of MT19937; only those of"):
            save_training(learner, path)
