"""ONNX Runtime's calls of the cases, on graphs built with ``onnx.helper``."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinyml.bench.cases import Case, Network, Pooling, Prepared, Unsupported, values
from tinyml.bench.measure import Contender, wall_clock
from tinyml.bench.results import PEER, Timing
from tinyml.layers import BatchNorm2D, Conv2D, Layer, MaxPool2D, MaxUnpool2D, ReLU
from tinyml_backends import use_backend

OPSET = 17
#: Every ONNX Runtime that knows the opset reads this version of the file format.
IR_VERSION = 8
PROVIDER = "CPUExecutionProvider"


class OnnxRuntime:
    """The peer "onnxruntime": forward operations on the CPU, with its own choice of threads."""

    name = "onnxruntime"

    def __init__(self) -> None:
        import onnx
        import onnxruntime

        self.onnx, self.runtime = onnx, onnxruntime

    def describe(self) -> dict[str, Any]:
        """Versions, for the environment line."""
        return {"version": self.runtime.__version__, "onnx": self.onnx.__version__}

    def contenders(self, case: Case, places: set[str]) -> Iterator[Contender]:
        """One session on the CPU.

        Raises
        ------
        Unsupported
            If ONNX has no such operation, or tinyml does not run on the CPU.
        """
        if "cpu" not in places:
            raise Unsupported("it is run on the CPU only")
        if case.operation not in ("pool", "unpool", "conv", "inference"):
            raise Unsupported("it has no gradients")
        if isinstance(case, Pooling):
            prepared = self._pooling(case)
        elif isinstance(case, Network):
            with use_backend("numpy"):
                prepared = self._network(case.layers(), values(case.shape))
        else:
            raise Unsupported(f"it does not know {type(case).__name__}")
        yield Contender(Timing(self.name, PEER, self.name, "cpu"), prepared, wall_clock)

    def _pooling(self, case: Pooling) -> Prepared:
        if case.overlaps and case.operation == "unpool":
            raise Unsupported("its unpooling is undefined where windows overlap")
        node, x = self.onnx.helper.make_node, values(case.shape)
        window = {
            "kernel_shape": [case.size] * case.ndim,
            "strides": [case.stride] * case.ndim,
            "pads": [case.padding] * 2 * case.ndim,
        }
        pool = self._session([node("MaxPool", ["x"], ["y", "i"], **window)], {"x": x}, y=1, i=7)
        if case.operation == "pool":
            area = int(np.prod(case.shape[2:]))  # its indices are flat over the whole tensor
            return Prepared(pool, lambda out: (out[0].numpy(), out[1].numpy() % area))
        pooled = {name: out.numpy() for name, out in zip("yi", pool(), strict=True)}
        pooled["shape"] = np.array(case.shape)
        unpool = node("MaxUnpool", ["y", "i", "shape"], ["z"], **window)
        return Prepared(self._session([unpool], pooled, z=1), _first)

    def _network(self, layers: Sequence[Layer], x: Any) -> Prepared:
        """Session of layers one after another.

        Raises
        ------
        Unsupported
            If a layer has no counterpart in ONNX.
        """
        node, array = self.onnx.helper.make_node, self.onnx.numpy_helper.from_array
        nodes: list[Any] = []
        constants: list[Any] = []
        value = "x"

        def constants_of(*tensors: Any) -> list[str]:
            first = len(constants)
            constants.extend(array(np.asarray(t), f"c{n}") for n, t in enumerate(tensors, first))
            return [f"c{n}" for n in range(first, len(constants))]

        for layer in layers:
            name = layer.name
            if isinstance(layer, Conv2D):
                inputs = [value, *constants_of(*(p.tensor for p in layer.parameters))]
                options = {**window_options(layer), "group": layer.groups}
                nodes.append(node("Conv", inputs, [name], **options))
            elif isinstance(layer, BatchNorm2D):
                four = (layer.scale, layer.shift, layer.running_mean, layer.running_variance)
                inputs = [value, *constants_of(*(p.tensor for p in four))]
                nodes.append(node("BatchNormalization", inputs, [name], epsilon=layer.epsilon))
            elif isinstance(layer, MaxPool2D):
                nodes.append(node("MaxPool", [value], [name, f"{name} i"], **window_options(layer)))
            elif isinstance(layer, MaxUnpool2D) and layer.pool:
                shape = np.array([len(x), *layer.out_dim])
                inputs = [value, f"{layer.pool.name} i", *constants_of(shape)]
                nodes.append(node("MaxUnpool", inputs, [name], **window_options(layer)))
            elif isinstance(layer, ReLU):
                nodes.append(node("Relu", [value], [name]))
            else:
                raise Unsupported(
                    f"layer {name!r} is a {layer.type}, which has no counterpart here"
                )
            value = name
        return Prepared(self._session(nodes, {"x": x}, constants, **{value: 1}), _first)

    def _session(
        self, nodes: list[Any], inputs: dict[str, Any], constants: Any = (), **outputs: int
    ) -> Any:
        """Call of a graph on fixed inputs.

        Outputs are given by name and ONNX element type: 1 is float32, 7 is int64.
        """
        helper, runtime = self.onnx.helper, self.runtime
        info, types = helper.make_tensor_value_info, {"float32": 1, "int64": 7}
        graph = helper.make_graph(
            nodes,
            "case",
            [info(name, types[str(a.dtype)], a.shape) for name, a in inputs.items()],
            [info(name, kind, None) for name, kind in outputs.items()],
            constants,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        session = runtime.InferenceSession(model.SerializeToString(), providers=[PROVIDER])
        of_numpy = runtime.OrtValue.ortvalue_from_numpy
        arrays = {name: of_numpy(np.ascontiguousarray(a)) for name, a in inputs.items()}
        return partial(session.run_with_ort_values, list(outputs), arrays)


def _first(out: Any) -> tuple[Any, ...]:
    return (out[0].numpy(),)


def window_options(layer: Conv2D | MaxPool2D | MaxUnpool2D) -> dict[str, Any]:
    """Attributes of a node of ONNX for the layer's window."""
    window = layer.window
    before, after = zip(*window.padding, strict=True)
    options = {"kernel_shape": window.size, "strides": window.stride, "pads": [*before, *after]}
    return options if isinstance(layer, MaxUnpool2D) else {**options, "dilations": window.dilation}
