"""Networks as JSON: each layer by its class and the arguments of its constructor."""

import inspect
from collections.abc import Iterable
from math import isfinite
from typing import Any

import numpy as np

from tinyml import layers as own
from tinyml.checkpoint.names import paths
from tinyml.core.number import Number
from tinyml.graph import Graph
from tinyml.layers.base import Layer
from tinyml.net import Sequential
from tinyml_backends import CheckpointError

#: Networks whose structure is saved, not the arguments of their constructor.
_NETWORKS = {"Graph": Graph, "Sequential": Sequential}
_OWN: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (*_NETWORKS.values(), *(getattr(own, name) for name in own.__all__))
    if isinstance(kind, type) and issubclass(kind, Layer) and kind is not Layer
}
#: The user's own layers.
_registered: dict[str, type[Layer]] = {}


def register(kind: type[Layer]) -> None:
    """Make a user's layer known by its name; see `tinyml.register_layer`."""
    known = _known((kind,))
    if known.get(kind.__name__) is not kind:
        raise ValueError(f"{kind.__name__} is the name of a layer of tinyml; choose another one")
    _registered[kind.__name__] = kind


def _known(others: Iterable[type[Layer]]) -> dict[str, type[Layer]]:
    """Classes by their names; those of tinyml cannot be replaced."""
    kinds = list(others)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Layer)):
            raise TypeError(f"layer is {kind!r}; it must be a class of layers")
    return _registered | {kind.__name__: kind for kind in kinds} | _OWN


# -- to JSON -------------------------------------------------------------------------------------


def describe(model: Layer) -> dict[str, Any]:
    """Configuration of a network, from which `build` makes it again.

    Raises
    ------
    CheckpointError
        If an argument of a layer is nothing that JSON can hold, or a layer has the name of one of
        tinyml's.
    """
    try:
        return _Describer(model).layer(model)
    except RecursionError:
        raise CheckpointError(f"{model!r} or an argument in it is nested too deeply") from None


class _Describer:
    def __init__(self, model: Layer) -> None:
        self.path_of = {id(layer): path for path, layer in paths(model).items()}
        self.described: set[int] = set()

    def layer(self, layer: Layer) -> dict[str, Any]:
        """A layer, or its path if it was described before."""
        path = self.path_of.get(id(layer))
        if id(layer) in self.described:
            return {"at": path}
        self.described.add(id(layer))
        kind = type(layer)
        if kind.__name__ in _OWN and _OWN[kind.__name__] is not kind:
            raise CheckpointError(
                f"{layer!r} has a class of the user that is named as one of tinyml; rename it"
            )
        if kind in _NETWORKS.values():
            return self._tail(layer, path, self._network(layer))  # type: ignore[arg-type]
        return self._tail(layer, path, self._arguments(layer))

    def _tail(self, layer: Layer, path: str | None, described: dict[str, Any]) -> dict[str, Any]:
        where = {} if path is None else {"path": path}
        mode = {} if layer.training else {"eval": True}
        return {"class": type(layer).__name__, **where, **mode, **described}

    def _network(self, graph: Graph) -> dict[str, Any]:
        chosen = graph.output if graph.output is not graph.nodes[-1] else None
        return {
            "name": graph.name,
            "inputs": [None if node.dim is None else list(node.dim) for node in graph.inputs],
            "steps": [
                {"layer": self.layer(layer), "reads": list(numbers)}
                for layer, numbers in graph.steps
            ],
            "output": None if chosen is None else chosen.number,
        }

    def _arguments(self, layer: Layer) -> dict[str, Any]:
        positional, options = layer.given
        named = _named(type(layer), positional, options)
        rest = named.pop("*", ())
        for name in _parameters(type(layer)):
            if isinstance(getattr(type(layer), name, None), Number):
                named[name] = getattr(layer, name)  # it may have been set since
        values = {
            name: self._value(layer, name, value) for name, value in named.items() if name != "rng"
        }
        more = {"rest": [self._value(layer, "*", value) for value in rest]} if rest else {}
        return {"arguments": values, **more}

    def _value(self, layer: Layer, name: str, value: Any) -> Any:
        """An argument; what JSON lacks is a dict with the key of its type."""
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
            value = value.item()
        kind = type(value)  # an object of a subclass, such as an enum, would not be the same again
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if isfinite(value) else {"float": str(value)}
        if kind is list:
            return [self._value(layer, name, v) for v in value]
        if kind is tuple:
            return {"tuple": [self._value(layer, name, v) for v in value]}
        if kind is dict and all(type(key) is str for key in value):
            return {"dict": {key: self._value(layer, name, v) for key, v in value.items()}}
        if isinstance(value, Layer):
            return {"layer": self.layer(value)}
        said = " ".join(repr(value).split())
        raise CheckpointError(
            f"{layer!r}: {name} is {said if len(said) <= 80 else said[:77] + '...'}; a checkpoint "
            "can hold plain numbers, strings, lists, tuples, dicts with str keys, and layers"
        )


def _named(
    kind: type[Layer], positional: tuple[Any, ...], options: dict[str, Any]
) -> dict[str, Any]:
    """Arguments by name; those without one are a tuple under "*"."""
    names = _positional(kind)
    named = dict(zip(names, positional, strict=False)) | options
    rest = positional[len(names) :]
    return named | {"*": rest} if rest else named


def _positional(kind: type[Layer], *, only: bool = False) -> list[str]:
    """Parameters of a constructor that can be given without a name, or ``only`` so."""
    either = () if only else (inspect.Parameter.POSITIONAL_OR_KEYWORD,)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, *either)
    return [name for name, p in _parameters(kind).items() if p.kind in kinds]


def _parameters(kind: type[Layer]) -> dict[str, inspect.Parameter]:
    """Parameters of a constructor; `inspect.signature` of the class may be that of ``__new__``."""
    _self, *others = inspect.signature(kind.__init__).parameters.items()
    return dict(others)


# -- from JSON -----------------------------------------------------------------------------------


def build(described: object, others: Iterable[type[Layer]] = ()) -> Layer:
    """Build a network from its configuration.

    Raises
    ------
    CheckpointError
        If a class is not known, or the configuration is not valid.
    """
    return _Builder(_known(others)).layer(described)


class _Builder:
    def __init__(self, known: dict[str, type[Layer]]) -> None:
        self.known = known
        self.built: dict[str, Layer] = {}

    def layer(self, described: Any) -> Layer:
        """A layer; one that was built before if only its path is given."""
        if "at" in described:
            return self.built[described["at"]]
        name = described["class"]
        kind = self.known.get(name)
        if kind is None:
            raise CheckpointError(
                f"its layer {name!r} is not known here; call tinyml.register_layer({name}), or "
                f"load(path, layers=[{name}])"
            )
        network = _NETWORKS.get(name)
        layer = self._network(network, described) if network else self._call(kind, described)
        layer.training = not described.get("eval", False)
        if "path" in described:
            self.built[described["path"]] = layer
        return layer

    def _network(self, kind: type[Graph], described: Any) -> Graph:
        dims = (None if dim is None else tuple(dim) for dim in described["inputs"])
        graph: Graph = Layer.__new__(kind)
        Graph.__init__(graph, described["name"], *dims)
        for step in described["steps"]:
            layer = self.layer(step["layer"])
            graph.add(layer, *(graph.nodes[number] for number in step["reads"]))
        if described["output"] is not None:
            graph.output = graph.nodes[described["output"]]
        return graph

    def _call(self, kind: type[Layer], described: Any) -> Layer:
        values = {name: self._value(value) for name, value in described["arguments"].items()}
        rest = [self._value(value) for value in described.get("rest", ())]
        parameters = _parameters(kind)
        defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
        known = {"rng": None} | defaults | values
        without_name = _positional(kind, only=not rest)
        before = [known[name] for name in without_name]
        options = {name: value for name, value in values.items() if name not in without_name}
        return kind(*before, *rest, **options)

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(v) for v in value]
        if not isinstance(value, dict):
            return value
        ((key, inner),) = value.items()
        if key == "tuple":
            return tuple(self._value(v) for v in inner)
        if key == "dict":
            return {name: self._value(v) for name, v in inner.items()}
        if key == "float":
            return float(inner)
        if key == "layer":
            return self.layer(inner)
        raise CheckpointError(f"its configuration has a value of the unknown kind {key!r}")
