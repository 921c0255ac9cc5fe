"""`Learner`, which trains a model in batches, evaluates it and predicts with it."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

from tinyml.batches import (
    Batch,
    Data,
    Epochs,
    batches_of,
    check_data,
    check_train,
    counted,
    grouped,
    iterated,
    shares,
)
from tinyml.callbacks import Callback, Function, as_callbacks
from tinyml.core.parameter import moved
from tinyml.interrupts import Interrupts
from tinyml.layers.base import Layer
from tinyml.metrics import Metric, named
from tinyml.optims import Optimizer
from tinyml.progress import Progress
from tinyml.training import Position, Snapshot, check_owner, eval_mode, total_gradient
from tinyml_backends import owner_of, resolve
from tinyml_backends.arguments import generator, integer
from tinyml_backends.arrays import Array

Metrics = Iterable[Metric] | Mapping[str, Metric]


class Loss(Protocol):
    """What a learner minimises."""

    def forward(self, output: Array, target: Array) -> float:
        """Loss of a batch."""

    def backward(self) -> Array:
        """Gradient of the last forward pass with respect to the output."""


class Learner:
    """Fits a model to data.

    Batches are moved to the model's device, so that NumPy data can train a model on a GPU.

    Parameters
    ----------
    model : Layer
        A network, or any layer.
    loss : object with ``forward(output, target)`` and ``backward()``
    optimizer : object with ``update(parameters)`` and ``learning_rate``
        A new optimizer starts afresh, also on a model that another one has trained.

    Attributes
    ----------
    history : dict
        What the last call of `fit` returned or, if it was interrupted, had so far. "loss": the loss
        of each step. "steps": how many steps were done at the end of each epoch. "validation", if
        there is validation data: what `evaluate` returned after each epoch.
    position : Position or None
        Where the last call of `fit` stands after its last whole step; None before the first call.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.data import load_digits
    >>> from tinyml.learner import Learner
    >>> from tinyml.losses import SoftmaxCrossEntropy
    >>> from tinyml.models import segnet
    >>> from tinyml.optims import Adam
    >>> images = load_digits().images[:64, None] / np.float32(16)
    >>> is_ink = (images[:, 0] > 0.5).astype(int)
    >>> model = segnet((1, 8, 8), n_classes=2, depth=2, channels=4)
    >>> learner = Learner(model, SoftmaxCrossEntropy(), Adam(0.01))
    >>> history = learner.fit((images, is_ink), epochs=4, batch_size=16)
    >>> len(history["loss"]), history["loss"][-1] < history["loss"][0]
    (16, True)
    >>> learner.predict(images).shape
    (64, 2, 8, 8)
    """

    def __init__(self, model: Layer, loss: Loss, optimizer: Optimizer) -> None:
        _check_object("model", model, ("forward", "backward", "walk"), "a layer or a network")
        _check_object("loss", loss, ("forward", "backward"), "a loss such as SoftmaxCrossEntropy()")
        _check_object("optimizer", optimizer, ("update",), "an optimizer such as Adam()")
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.history: dict[str, list[Any]] = {}
        self.position: Position | None = None
        self._stopped = False

    def __repr__(self) -> str:
        return f"Learner({self.model!r}, {self.loss!r}, {self.optimizer!r})"

    def fit(
        self,
        train: Data | Epochs,
        validation: Data | None = None,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        seed: int = 0,
        accumulate: int = 1,
        metrics: Metrics = (),
        callbacks: Iterable[Callback | Function] = (),
        start: Position | None = None,
    ) -> dict[str, list[Any]]:
        """Train, with a progress bar where the output is a terminal.

        A second call goes on with the weights of the model and with the state of the optimizer, and
        begins a new `history`; what an earlier call returned does not change. Ctrl-C keeps the
        model, history and position of the last whole step, ends the callbacks, and raises
        KeyboardInterrupt.

        Parameters
        ----------
        train : (x, y), iterable of (x, y) batches, or object with ``epoch(rng)``
            A pair of arrays is shuffled again for each epoch and split into batches; the batches of
            an iterable are used in its order. ``epoch`` is called at the beginning of each epoch
            with a generator of its own, and returns an iterable.
        validation : (x, y) or iterable of (x, y) batches, optional
            Evaluated after each epoch.
        epochs, batch_size, seed : int
            ``seed`` is that of the shuffling: the same seed gives the same order on every backend.
        accumulate : int
            Batches of a step. Their losses and gradients are weighted by the targets that the loss
            counts, so that a step is that of one batch as large as all of them.
        metrics : iterable of metrics, or dict of name to metric
            As of `evaluate`, for ``validation``.
        callbacks : iterable of Callback or function
            Called in this order; a function is called as ``function(learner, epoch)`` at the end of
            each epoch.
        start : Position, optional
            Where to go on, with the `history` that the learner has; the other arguments must be
            those of the call that was interrupted.

        Returns
        -------
        dict
            The attribute ``history``.

        Raises
        ------
        ValueError
            If there is nothing to train on, ``x`` and ``y`` do not have the same length, there are
            metrics and no validation data, or the history is not that of ``start``.
        FloatingPointError
            If the loss or a gradient is not finite. Weights and running statistics stay as they
            were before that step.
        """
        integer("epochs", epochs, 1)
        integer("accumulate", accumulate, 1)
        check_train(train, batch_size)
        if validation is not None:
            check_data("validation", validation, batch_size)
        chosen = named(metrics)
        if chosen and validation is None:
            raise ValueError("metrics are of the validation data, and validation is None; give it")
        called = as_callbacks(callbacks)
        rng = generator(integer("seed", seed, 0))
        if start is None:
            start = Position(1, 0, dict(rng.bit_generator.state))
            self.history = {"loss": [], "steps": []}
        elif not isinstance(start, Position):
            raise TypeError(f"start is {start!r}; it must be a Position, as learner.position is")
        elif len(self.history.get("steps", ())) != start.epoch - 1:
            raise ValueError(
                f"start is in epoch {start.epoch}; learner.history must be that of the "
                f"{start.epoch - 1} epochs before, set it first"
            )
        rng.bit_generator.state = start.rng
        self.position, self._stopped = start, False
        with ExitStack() as stack:
            for callback in called:
                callback.on_fit_begin(self)
                stack.callback(callback.on_fit_end, self)
            while self.position.epoch <= epochs and not self._stopped:
                epoch, skipped = self.position.epoch, self.position.batches
                batches, count = batches_of(train, batch_size, rng)
                label = f"epoch {epoch}/{epochs}" if epochs > 1 else "training"
                with (
                    iterated(batches) as iterator,
                    Progress(total=count, initial=skipped, desc=label, unit="step") as bar,
                ):
                    self._epoch(islice(iterator, skipped, None), accumulate, called, bar)
                if self._stopped:
                    break
                result = None
                if validation is not None:
                    result = self.evaluate(validation, batch_size=batch_size, metrics=chosen)
                with Interrupts():
                    self.history["steps"].append(len(self.history["loss"]))
                    if result is not None:
                        self.history.setdefault("validation", []).append(result)
                    self.position = Position(epoch + 1, 0, dict(rng.bit_generator.state))
                for callback in called:
                    callback.on_epoch_end(self, epoch)
        return self.history

    def stop(self) -> None:
        """Let `fit` return after the step or epoch at whose end a callback calls this."""
        self._stopped = True

    def _epoch(
        self, batches: Iterator[Batch], accumulate: int, callbacks: list[Callback], bar: Progress
    ) -> None:
        """Train on the batches, until the end or `stop`."""
        assert self.position is not None
        images, start = 0, time.perf_counter()
        for group in grouped(batches, accumulate):
            with Interrupts() as interrupts:
                loss = self._step(group, interrupts)
                self.history["loss"].append(loss)
                done = self.position.batches + len(group)
                self.position = replace(self.position, batches=done)
            images += sum(len(x) for x, _ in group)
            speed = images / (time.perf_counter() - start)
            bar.set_postfix_str(f"loss {loss:.4f}, {speed:.0f} images/s", refresh=False)
            bar.update(len(group))
            for callback in callbacks:
                callback.on_step_end(self)
            if self._stopped:
                return
        if not self.position.batches:
            raise ValueError(
                f"train has no batch in epoch {self.position.epoch}; it must be (x, y) or an "
                "iterable that can be run through once for each epoch, such as a list"
            )

    def step(self, x: Array, y: Array) -> float:
        """Train on one batch and return its loss before the step.

        Ctrl-C leaves the model as it was before the step, or as it is after it.

        Raises
        ------
        ValueError
            If the batch is empty.
        FloatingPointError
            If the loss or a gradient is not finite. Weights and running statistics stay as they
            were.
        """
        with Interrupts() as interrupts:
            return self._step([(x, y)], interrupts)

    def _step(self, batches: list[Batch], interrupts: Interrupts) -> float:
        """One step on all batches; the mean loss of their targets."""
        if any(len(x) == 0 for x, _ in batches):
            raise ValueError("a batch has no samples; leave empty batches out")
        layers = list(self.model.walk())
        check_owner(layers)
        with self.model.scope():
            parameters = self.model.train().parameters
            before = Snapshot(self.model, layers)
            for parameter in parameters:
                parameter.zero_gradient()
            try:
                with interrupts.allowed():
                    weights = shares(self.loss, batches)
                    pairs = zip(batches, weights, strict=True)
                    terms = [self._add_gradients(*batch, share) for batch, share in pairs]
                    self._check_finite("gradient", total_gradient(parameters))
            except BaseException:
                before.restore()
                self.model.forget()
                raise
            self.optimizer.update(parameters)
        return sum(terms)

    def _add_gradients(self, x: Array, y: Array, share: float) -> float:
        """Add the gradients of a batch, times ``share``, and return so much of its loss."""
        loss = self.loss.forward(self.model(self._on_device(x)), self._on_device(y))
        if not math.isfinite(loss):
            self._check_batch(x=x, y=y)
        self._check_finite("loss", loss)
        gradient = self.loss.backward()
        self.model.backward(gradient if share == 1 else gradient * share)
        return loss * share

    def _check_batch(self, **arrays: Array) -> None:
        """Tell data that is not finite apart from a training that diverges."""
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not bool(owner_of(array).xp.isfinite(array).all()):
                step = len(self.history.get("loss", ())) + 1
                raise FloatingPointError(
                    f"{name} of step {step} holds NaN or infinity, so its loss is not finite; the "
                    "model keeps the weights it had before that step. Remove such samples"
                )

    def _check_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the {name} is {value} at step {len(self.history.get('loss', ())) + 1} with "
                f"learning rate {self.optimizer.learning_rate}; the model keeps the weights it had "
                "before that step. Try a smaller learning rate"
            )

    def evaluate(
        self, data: Data, *, batch_size: int = 32, metrics: Metrics = ()
    ) -> dict[str, Any]:
        """Mean loss, accuracy and metrics over data, without training on it.

        The model runs in eval mode; the mode of each layer is restored afterwards.

        Parameters
        ----------
        data : (x, y) or iterable of (x, y) batches
        batch_size : int
        metrics : iterable of metrics, or dict of name to metric
            From `tinyml.metrics`, or your own. They are reset before, so that afterwards they hold
            the counts of this data.

        Returns
        -------
        dict
            "loss", the mean over all targets; "accuracy", the fraction of targets for whose
            class the output is largest; and the value of each metric under its name. Targets that
            the loss ignores do not count. There is no "accuracy" if the targets have the output's
            shape, and are thus no classes.
        """
        check_data("data", data, batch_size)
        chosen = named(metrics)
        with self.model.scope(), eval_mode(self.model):
            for metric in chosen.values():
                metric.reset()
            mean = self._evaluate(data, batch_size, chosen)
        return mean | {name: metric.value() for name, metric in chosen.items()}

    def _evaluate(
        self, data: Data, batch_size: int, metrics: Mapping[str, Metric]
    ) -> dict[str, Any]:
        loss = right = targets = 0.0
        with iterated(batches_of(data, batch_size, None)[0]) as batches:
            for x, y in batches:
                output, target = self.model(self._on_device(x)), self._on_device(y)
                counts = counted(self.loss, target)
                count = int(counts.sum())
                loss += self.loss.forward(output, target) * count
                has_classes = target.shape != output.shape
                if has_classes:
                    right += int(((output.argmax(1) == target) & counts).sum())
                targets += count
                for metric in metrics.values():
                    metric.update(output, target)
        if not targets:
            raise ValueError("data has no target that counts; it must be (x, y) or batches of them")
        mean = {"loss": loss / targets}
        return mean | {"accuracy": right / targets} if has_classes else mean

    def predict(self, x: Array, *, batch_size: int = 32) -> Array:
        """Output of the model for each sample, on the device of ``x``.

        The model runs in eval mode; the mode of each layer is restored afterwards.
        """
        integer("batch_size", batch_size, 1)
        home = owner_of(x)
        with eval_mode(self.model):
            outputs = [
                _moved(self.model(self._on_device(x[start : start + batch_size])), home.device(x))
                for start in range(0, max(1, len(x)), batch_size)
            ]
        with home.scope(x):
            return home.xp.concatenate(outputs)

    def _on_device(self, array: Array) -> Array:
        """``array`` on the model's device."""
        return _moved(array, self.model.device)


def _moved(array: Array, place: str) -> Array:
    """``array`` on the device named ``place``; the same object if it is there already."""
    if owner_of(array).device(array) == place:
        return array
    return moved(array, resolve(place))


def _check_object(name: str, value: object, methods: tuple[str, ...], wanted: str) -> None:
    if isinstance(value, type):
        raise TypeError(f"{name} is the class {value.__name__}; it must be an object: call it")
    if not all(callable(getattr(value, method, None)) for method in methods):
        raise TypeError(f"{name} is {value!r}; it must be {wanted}")
