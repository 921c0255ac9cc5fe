"""Callbacks of `Learner.fit`: what is done after steps and epochs of a training.

What `EarlyStop` and `CSVLog` do depends only on the learner's history. So a training that is
interrupted and goes on does the same as one that is not.
"""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tinyml.history import best_epoch, check_mode, epoch_rows
from tinyml_backends.arguments import integer

if TYPE_CHECKING:
    from tinyml.learner import Learner

#: A user's function, called as ``function(learner, epoch)`` at the end of each epoch.
Function: TypeAlias = Callable[[Any, int], object]


class Callback:
    """Base class; every method does nothing, and a subclass defines those that it needs.

    A method reads ``learner.model``, ``optimizer``, ``history`` and ``position``, and may call
    ``learner.stop()``. An error that it raises ends the training.

    Examples
    --------
    >>> from tinyml.callbacks import Callback
    >>> class FewSteps(Callback):
    ...     def on_step_end(self, learner):
    ...         if len(learner.history["loss"]) == 100:
    ...             learner.stop()
    """

    def on_fit_begin(self, learner: "Learner") -> None:
        """Called before the first step; the history is empty unless a training goes on."""

    def on_step_end(self, learner: "Learner") -> None:
        """Called after each step; the loss is ``learner.history["loss"][-1]``."""

    def on_epoch_end(self, learner: "Learner", epoch: int) -> None:
        """Called after each epoch, the first of which is 1, and its validation."""

    def on_fit_end(self, learner: "Learner") -> None:
        """Called at the end, also after an error or Ctrl-C; the last callback comes first."""


class OfFunction(Callback):
    """Calls ``function(learner, epoch)`` at the end of each epoch."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def on_epoch_end(self, learner: "Learner", epoch: int) -> None:
        """Call the function."""
        self.function(learner, epoch)


def as_callbacks(callbacks: Iterable[Callback | Function]) -> list[Callback]:
    """Return callbacks, made of functions where they are functions.

    Raises
    ------
    TypeError
        If one is neither.
    """
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks is {callbacks!r}; it must be a list of callbacks")
    result = []
    for callback in callbacks:
        if isinstance(callback, type):
            raise TypeError(f"callbacks holds the class {callback.__name__}; it must be called")
        if not isinstance(callback, Callback):
            if not callable(callback):
                raise TypeError(
                    f"callbacks holds {callback!r}; it must hold Callbacks, or functions of "
                    "(learner, epoch)"
                )
            callback = OfFunction(callback)
        result.append(callback)
    return result


class EarlyStop(Callback):
    """Ends a training when there was no better epoch for some time.

    Parameters
    ----------
    patience : int
        Epochs without a better value after which the training ends; at least 1.
    monitor : str
        The value, a name in the results of the validation; as of `tinyml.history.best_epoch`.
    mode : "min", "max" or None
        Whether smaller or larger is better; None means smaller if ``monitor`` is "loss", else
        larger.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.callbacks import EarlyStop
    >>> from tinyml.layers import Linear
    >>> from tinyml.learner import Learner
    >>> from tinyml.losses import MSE
    >>> from tinyml.optims import SGD
    >>> learner = Learner(Linear("linear", 1, 1, rng=0), MSE(), SGD(1e-30))
    >>> data = np.ones((4, 1), np.float32), np.ones((4, 1), np.float32)
    >>> history = learner.fit(data, data, epochs=100, callbacks=[EarlyStop(patience=3)])
    >>> len(history["validation"])
    4
    """

    def __init__(self, patience: int, monitor: str = "loss", *, mode: str | None = None) -> None:
        check_mode(mode)
        self.patience = integer("patience", patience, 1)
        self.monitor = monitor
        self.mode = mode

    def on_fit_begin(self, learner: "Learner") -> None:
        """Stop a training that goes on although it has been stopped."""
        epochs = len(learner.history["steps"])
        if epochs - best_epoch(learner.history, self.monitor, self.mode) >= self.patience:
            learner.stop()

    def on_epoch_end(self, learner: "Learner", epoch: int) -> None:
        """Stop if the best epoch is long ago."""
        self.on_fit_begin(learner)


class CSVLog(Callback):
    """Writes a table with a row for each epoch: epoch, steps, loss, and those of the validation.

    The columns are those of `tinyml.history.epoch_rows`. The file is opened and replaced at the
    beginning of a training; one that goes on writes its earlier epochs again. Each row is in the
    file when its epoch ends.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    OSError
        By ``fit``, before the first step, if the file cannot be written.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from tinyml.callbacks import CSVLog
    >>> from tinyml.layers import Linear
    >>> from tinyml.learner import Learner
    >>> from tinyml.losses import MSE
    >>> from tinyml.optims import SGD
    >>> learner = Learner(Linear("linear", 1, 1, rng=0), MSE(), SGD(0.1))
    >>> data = np.ones((4, 1), np.float32), np.ones((4, 1), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "log.csv")
    ...     history = learner.fit(data, data, epochs=2, callbacks=[CSVLog(path)])
    ...     print(path.read_text().splitlines()[0])
    epoch,steps,loss,validation_loss
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: Any = None
        self._writer: csv.DictWriter[str] | None = None

    def on_fit_begin(self, learner: "Learner") -> None:
        """Open the file, and write the epochs that there were before."""
        self._file = self.path.open("w", newline="", encoding="utf-8")
        self._writer = None
        self._write(epoch_rows(learner.history))

    def on_epoch_end(self, learner: "Learner", epoch: int) -> None:
        """Write the epoch."""
        self._write(epoch_rows(learner.history)[-1:])

    def on_fit_end(self, learner: "Learner") -> None:
        """Close the file."""
        self._file.close()

    def _write(self, rows: list[dict[str, float]]) -> None:
        if rows and self._writer is None:
            self._writer = csv.DictWriter(
                self._file, list(rows[0]), extrasaction="ignore", lineterminator="\n"
            )
            self._writer.writeheader()
        for row in rows:
            assert self._writer is not None
            self._writer.writerow(row)
        self._file.flush()
