"""Trainings in checkpoints: everything that a `Learner` needs to go on with the same bits."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyml.checkpoint import file, names, write
from tinyml.clipping import Clipped
from tinyml.core.number import Number
from tinyml.core.parameter import Parameter
from tinyml.layers.base import Layer
from tinyml.optims.base import BaseOptimizer
from tinyml.optims.groups import ParameterGroups
from tinyml.schedules import Schedule
from tinyml.training import Position
from tinyml_backends import CheckpointError, owner_of
from tinyml_backends.arguments import integer

if TYPE_CHECKING:
    from tinyml.learner import Learner

#: Begin the names of tensors that belong to the training.
_STATE, _HISTORY = "training.state.", "training.history."


def save_training(
    learner: "Learner", path: str | Path, *, info: Mapping[str, Any] | None = None
) -> None:
    """Write a model, as `tinyml.save`, and the state of its training.

    Parameters
    ----------
    learner : Learner
        Has trained, or is training: this may be called by a callback.
    path, info
        As of `tinyml.save`.

    Raises
    ------
    ValueError
        If the learner has not trained.
    CheckpointError, OSError
        As of `tinyml.save`; also for an optimizer that is none of tinyml's.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from tinyml.checkpoint.training import resume, save_training
    >>> from tinyml.layers import Linear
    >>> from tinyml.learner import Learner
    >>> from tinyml.losses import MSE
    >>> from tinyml.optims import Adam
    >>> def new():
    ...     return Learner(Linear("linear", 1, 1, rng=0), MSE(), Adam(0.1))
    >>> data = np.ones((4, 1), np.float32), np.zeros((4, 1), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = new()
    ...     history = first.fit(data, epochs=3)
    ...     save_training(first, f"{folder}/last.safetensors")
    ...     second = new()
    ...     start = resume(second, f"{folder}/last.safetensors")
    >>> second.fit(data, epochs=6, start=start) == new().fit(data, epochs=6)
    True
    """
    if learner.position is None:
        raise ValueError(f"{learner!r} has not trained; call fit first")
    optimizers = list(_optimizers(learner.optimizer))
    marks = [optimizer._mark for optimizer in optimizers]
    history, extra = _packed(learner.history)
    numbers: dict[str, Any] = {}
    for name, parameter in _parameters(learner.model):
        state = {**parameter.state}
        mark = state.pop("optimizer", None)
        if mark not in marks:
            continue  # its next step starts afresh anyway
        arrays = {key: value for key, value in state.items() if hasattr(value, "dtype")}
        extra |= {f"{_STATE}{name}.{key}": value for key, value in arrays.items()}
        others = {key: value for key, value in state.items() if key not in arrays}
        numbers[name] = [marks.index(mark), others, list(arrays)]
    training = {
        "epoch": learner.position.epoch,
        "batches": learner.position.batches,
        "rng": learner.position.rng,
        "optimizers": [_describe(optimizer) for optimizer in optimizers],
        "parameters": numbers,
        "generators": _generators(learner.model),
        "history": history,
    }
    write(learner.model, path, info=info, extra=extra, training=training)


def resume(learner: "Learner", path: str | Path) -> Position:
    """Give a learner the model, optimizer's state and history of a training that was saved.

    The learner must be made as the one that was saved, with the same model and optimizer. Its next
    ``fit(…, start=position)``, with the same data and arguments, goes on to the same bits as a
    training that was never interrupted.

    Returns
    -------
    Position
        Where to go on, for ``fit(…, start=position)``.

    Raises
    ------
    CheckpointError
        If the file is damaged, holds no training, or that of another model or optimizer. The
        learner is then unchanged.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    contents = file.read(path)
    with file.errors_of(path):
        training = (contents.described or {}).get("training")
        if training is None:
            raise CheckpointError("it holds a model, but no training that could go on")
        tensors = contents.tensors
        assert contents.described is not None
        extra = {name: tensors.pop(name) for name in contents.described["extra"]}
        optimizers = list(_optimizers(learner.optimizer))
        found = [kept["class"] for kept in training["optimizers"]]
        if found != [type(optimizer).__name__ for optimizer in optimizers]:
            raise CheckpointError(f"its optimizer is {' and '.join(found)}, not the learner's")
        parameters = dict(_parameters(learner.model))
        states = {}
        for name, (number, others, keys) in training["parameters"].items():
            arrays = {key: extra[f"{_STATE}{name}.{key}"] for key in keys}
            states[name] = _state(parameters[name], optimizers[number], others, arrays)
        layers = names.paths(learner.model)
        generators = [(layers[at], key, rng) for at, key, rng in _made(training["generators"])]
        for layer, key, _ in generators:
            if not isinstance(vars(layer).get(key), np.random.Generator):
                raise CheckpointError(f"{key} of {layer!r} is no random generator")
        for optimizer, kept in zip(optimizers, training["optimizers"], strict=True):
            _restore(copy(optimizer), kept)  # an error comes before anything has changed
        history = _unpacked(training["history"], extra)
        epoch, batches = integer("epoch", training["epoch"], 1), training["batches"]
        position = Position(epoch, integer("batches", batches, 0), training["rng"])
        _generator(position.rng)
        if len(history["steps"]) != epoch - 1:
            raise CheckpointError(f"it is in epoch {epoch}, after {len(history['steps'])} epochs")
        names.assign(learner.model, tensors, strict=True, new=False)
    for layer, key, rng in generators:
        setattr(layer, key, rng)
    for name, state in states.items():
        parameters[name].state = state
    for optimizer, kept in zip(optimizers, training["optimizers"], strict=True):
        _restore(optimizer, kept)
    learner.history, learner.position = history, position
    return position


def _state(
    parameter: Parameter,
    optimizer: BaseOptimizer,
    others: Mapping[str, Any],
    arrays: "Mapping[str, np.ndarray[Any, Any]]",
) -> dict[str, Any]:
    """What an optimizer keeps for a parameter, on its device."""
    owner = owner_of(parameter.tensor)
    for key, array in arrays.items():
        if array.shape != parameter.tensor.shape:
            raise CheckpointError(
                f"its {key} of a parameter has shape {array.shape}, not {parameter.tensor.shape}"
            )
    with owner.scope(parameter.tensor):
        moved = {key: owner.asarray(array) for key, array in arrays.items()}
    return {"optimizer": optimizer._mark} | dict(others) | moved


def _packed(history: Mapping[str, Any]) -> "tuple[dict[str, Any], dict[str, Any]]":
    """A history for JSON; arrays take the place of its lists of numbers, which become long."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}

    def pack(name: str, values: list[Any]) -> Any:
        rows = values and all(isinstance(value, dict) for value in values)
        if rows and all(value.keys() == values[0].keys() for value in values):
            return {
                key: pack(f"{name}.{key}", [value[key] for value in values]) for key in values[0]
            }
        with suppress(ValueError):  # lists of several lengths
            array = np.array(values)
            if array.ndim == 1 and array.dtype.kind in "fi":
                arrays[_HISTORY + name] = array.astype(
                    np.float64 if array.dtype.kind == "f" else int
                )
                return None
        return values

    return {name: pack(name, values) for name, values in history.items()}, arrays


def _unpacked(packed: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The history that `_packed` got."""

    def unpack(name: str, values: Any) -> list[Any]:
        if values is None:
            array = arrays[_HISTORY + name]
            if array.ndim != 1:
                raise CheckpointError(f"its history of {name} has shape {array.shape}")
            return list(array.tolist())
        if isinstance(values, dict):
            columns = {key: unpack(f"{name}.{key}", value) for key, value in values.items()}
            return [
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            ]
        return list(values)

    return {name: unpack(name, values) for name, values in packed.items()}


def _parameters(model: Layer) -> Iterator[tuple[str, Parameter]]:
    for slot in names.slots(model):
        if slot.first and isinstance(slot.buffer, Parameter):
            yield slot.name, slot.buffer


def _optimizers(optimizer: object) -> Iterator[BaseOptimizer]:
    """The optimizer, or those that it consists of."""
    if isinstance(optimizer, Clipped):
        yield from _optimizers(optimizer.optimizer)
    elif isinstance(optimizer, ParameterGroups):
        for _, one in optimizer.groups:
            yield from _optimizers(one)
        yield from _optimizers(optimizer.others)
    elif isinstance(optimizer, BaseOptimizer):
        yield optimizer
    else:
        raise CheckpointError(f"optimizer is {optimizer!r}; only tinyml's can be saved and resumed")


def _describe(optimizer: BaseOptimizer) -> dict[str, Any]:
    """Class, steps and numbers of an optimizer; a schedule depends on the steps alone."""
    values = {name: getattr(optimizer, name) for name in sorted(_numbers(optimizer))}
    numbers = {name: value for name, value in values.items() if not isinstance(value, Schedule)}
    return {"class": type(optimizer).__name__, "steps": optimizer.steps, "numbers": numbers}


def _restore(optimizer: BaseOptimizer, kept: Mapping[str, Any]) -> None:
    """Set what `_describe` has kept."""
    ours, theirs = _describe(optimizer)["numbers"], kept["numbers"]
    if ours.keys() != theirs.keys():
        raise CheckpointError(
            f"its {kept['class']} has the numbers {', '.join(theirs)}, and the learner's has "
            f"{', '.join(ours)}; a schedule is not among them"
        )
    optimizer.steps = integer("steps", kept["steps"], 0)
    for name, value in theirs.items():
        setattr(optimizer, name, value)


def _numbers(optimizer: BaseOptimizer) -> set[str]:
    kind = type(optimizer)
    return {name for name in dir(kind) if isinstance(getattr(kind, name), Number)}


def _generators(model: Layer) -> dict[str, Any]:
    """States of the layers' random generators, and which attribute has which."""
    states: list[Any] = []
    numbers: dict[int, int] = {}
    places = []
    for path, layer in names.paths(model).items():
        for name, value in vars(layer).items():
            if isinstance(value, np.random.Generator):
                if id(value) not in numbers:
                    numbers[id(value)] = len(states)
                    states.append(_plain(value))
                places.append([path, name, numbers[id(value)]])
    return {"states": states, "places": places}


def _plain(rng: np.random.Generator) -> dict[str, Any]:
    state = dict(rng.bit_generator.state)
    if state["bit_generator"] not in ("PCG64", "PCG64DXSM"):
        raise CheckpointError(
            f"a layer has a random generator of {state['bit_generator']}; only those of PCG64 can "
            "be saved, as numpy.random.default_rng makes them"
        )
    return state


def _made(described: Mapping[str, Any]) -> list[tuple[str, str, np.random.Generator]]:
    """Path and attribute of each generator, made again."""
    generators = [_generator(state) for state in described["states"]]
    return [(path, name, generators[number]) for path, name, number in described["places"]]


def _generator(state: Mapping[str, Any]) -> np.random.Generator:
    kind = {"PCG64": np.random.PCG64, "PCG64DXSM": np.random.PCG64DXSM}[state["bit_generator"]]
    bits = kind()
    bits.state = dict(state)
    return np.random.Generator(bits)
