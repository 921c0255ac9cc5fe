"""Callbacks of `Learner.fit` that write checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyml.callbacks import Callback
from tinyml.checkpoint import save
from tinyml.checkpoint.training import save_training
from tinyml.history import best_epoch, check_mode
from tinyml.training import Position, eval_mode
from tinyml_backends.arguments import integer

if TYPE_CHECKING:
    from tinyml.learner import Learner


class _Keep(Callback):
    """Knows what is kept, so that what Ctrl-C interrupts is done at the end of the training."""

    def __init__(self) -> None:
        self._kept: Position | None = None

    def on_fit_begin(self, learner: "Learner") -> None:
        """Begin where the training begins or goes on."""
        self._kept = learner.position

    def _keep(self, learner: "Learner") -> None:
        self._kept = learner.position
        try:
            self._write(learner)
        except KeyboardInterrupt:
            self._kept = None
            raise

    def _write(self, learner: "Learner") -> None:
        raise NotImplementedError


class KeepBest(_Keep):
    """Writes the model, as `tinyml.save`, after each epoch that is better than all before.

    The file has the model in eval mode, so that it can be used at once.

    Parameters
    ----------
    path : str or Path
    monitor : str
        The value, a name in the results of the validation; as of `tinyml.history.best_epoch`.
    mode : "min", "max" or None
        Whether smaller or larger is better; None means smaller if ``monitor`` is "loss", else
        larger.
    info : mapping, optional
        As of `tinyml.save`.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from tinyml.checkpoint.callbacks import KeepBest
    >>> from tinyml.layers import Linear
    >>> from tinyml.learner import Learner
    >>> from tinyml.losses import MSE
    >>> from tinyml.optims import SGD
    >>> learner = Learner(Linear("linear", 1, 1, rng=0), MSE(), SGD(0.1))
    >>> data = np.ones((4, 1), np.float32), np.ones((4, 1), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     best = KeepBest(f"{folder}/best.safetensors")
    ...     history = learner.fit(data, data, epochs=2, callbacks=[best])
    ...     os.listdir(folder)
    ['best.safetensors']
    """

    def __init__(
        self,
        path: str | Path,
        monitor: str = "loss",
        *,
        mode: str | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_mode(mode)
        self.path = Path(path)
        self.monitor = monitor
        self.mode = mode
        self.info = info

    def on_epoch_end(self, learner: "Learner", epoch: int) -> None:
        """Write the model if this epoch is the best."""
        self._keep(learner)

    def on_fit_end(self, learner: "Learner") -> None:
        """Do the same if Ctrl-C at the end of the epoch has prevented it."""
        position = learner.position
        if position is not None and not position.batches and position is not self._kept:
            self._keep(learner)

    def _write(self, learner: "Learner") -> None:
        epochs = len(learner.history["steps"])
        if best_epoch(learner.history, self.monitor, self.mode) == epochs:
            with eval_mode(learner.model):
                save(learner.model, self.path, info=self.info)


class KeepLast(_Keep):
    """Writes model and training, for `resume`, after each epoch and at the end, also after Ctrl-C.

    Parameters
    ----------
    path : str or Path
    every : int, optional
        Write after so many steps too.
    info : mapping, optional
        As of `tinyml.save`.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from tinyml.checkpoint.callbacks import KeepLast
    >>> from tinyml.layers import Linear
    >>> from tinyml.learner import Learner
    >>> from tinyml.losses import MSE
    >>> from tinyml.optims import SGD
    >>> learner = Learner(Linear("linear", 1, 1, rng=0), MSE(), SGD(0.1))
    >>> data = np.ones((4, 1), np.float32), np.ones((4, 1), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = learner.fit(data, callbacks=[KeepLast(f"{folder}/last.safetensors")])
    ...     os.listdir(folder)
    ['last.safetensors']
    """

    def __init__(
        self,
        path: str | Path,
        *,
        every: int | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self.every = None if every is None else integer("every", every, 1)
        self.info = info

    def on_step_end(self, learner: "Learner") -> None:
        """Write, if it is time."""
        if self.every is not None and len(learner.history["loss"]) % self.every == 0:
            self._keep(learner)

    def on_epoch_end(self, learner: "Learner", epoch: int) -> None:
        """Write."""
        self._keep(learner)

    def on_fit_end(self, learner: "Learner") -> None:
        """Write what was done since the last time."""
        if learner.position is not self._kept:
            self._keep(learner)

    def _write(self, learner: "Learner") -> None:
        save_training(learner, self.path, info=self.info)
