"""ONNX Runtime's calls of the cases, on graphs built with onnx's helper."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tinyml.bench.cases import Case, Convolution, Pooling, Prepared, SegNet, values
from tinyml.bench.measure import PEER, Contender, wall_clock
from tinyml.layers import BatchNorm2D, Conv2D, MaxPool2D, MaxUnpool2D
from tinyml_backends import use_backend

OPSET = 17
#: Understood by every ONNX Runtime that understands the opset.
IR_VERSION = 8


class OnnxRuntime:
    """The peer "onnxruntime": forward operations on the CPU, with its own choice of threads."""

    name = "onnxruntime"

    def __init__(self) -> None:
        import onnx
        import onnxruntime

        self.onnx, self.runtime = onnx, onnxruntime

    def describe(self) -> dict[str, Any]:
        """What the environment line says of it."""
        return {"version": self.runtime.__version__, "onnx": self.onnx.__version__}

    def contenders(self, case: Case, places: set[str]) -> Iterator[Contender]:
        """One session on the CPU.

        Raises
        ------
        LookupError
            If ONNX has no such operation.
        """
        if "cpu" not in places:
            raise LookupError("it is run on the CPU only")
        if isinstance(case, Pooling):
            prepared = self._pooling(case)
        elif isinstance(case, Convolution) and case.operation == "conv":
            prepared = self._convolution(case)
        elif isinstance(case, SegNet) and case.operation == "inference":
            prepared = self._segnet(case)
        else:
            raise LookupError("it has no gradients")
        yield Contender(self.name, PEER, self.name, prepared, wall_clock, exact=False)

    def _pooling(self, case: Pooling) -> Prepared:
        if case.operation not in ("pool", "unpool"):
            raise LookupError("it has no gradients")
        if case.overlaps and case.operation == "unpool":
            raise LookupError("its unpooling is undefined where windows overlap")
        node, x = self.onnx.helper.make_node, values(case.shape)
        window = {
            "kernel_shape": [case.size] * case.ndim,
            "strides": [case.stride] * case.ndim,
            "pads": [case.padding] * 2 * case.ndim,
        }
        pool = self._session([node("MaxPool", ["x"], ["y", "i"], **window)], {"x": x}, y=1, i=7)
        if case.operation == "pool":
            area = int(np.prod(case.shape[2:]))  # its indices count through the whole tensor
            return Prepared(pool, lambda out: (out[0].numpy(), out[1].numpy() % area))
        pooled = {name: out.numpy() for name, out in zip("yi", pool(), strict=True)}
        pooled["shape"] = np.array(case.shape)
        unpool = node("MaxUnpool", ["y", "i", "shape"], ["z"], **window)
        return Prepared(self._session([unpool], pooled, z=1), _first)

    def _convolution(self, case: Convolution) -> Prepared:
        pads = [case.size // 2] * 4
        conv = self.onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=pads)
        constant = self.onnx.numpy_helper.from_array(case.weight(), "w")
        return Prepared(self._session([conv], {"x": values(case.shape)}, [constant], y=1), _first)

    def _segnet(self, case: SegNet) -> Prepared:
        with use_backend("numpy"):
            model = case.model().eval()
        node, array = self.onnx.helper.make_node, self.onnx.numpy_helper.from_array
        nodes: list[Any] = []
        constants: list[Any] = []
        value = "x"

        def constant(name: str, values: Any) -> str:
            constants.append(array(np.asarray(values), name))
            return name

        for layer in model.layers:
            name = layer.name
            if isinstance(layer, Conv2D):
                weights = [constant(f"{p}{name}", t) for p, t in _tensors(layer)]
                pads = [before for before, _ in layer.window.padding] * 2
                nodes.append(node("Conv", [value, *weights], [name], pads=pads))
            elif isinstance(layer, BatchNorm2D):
                numbers = [constant(f"{p}{name}", t) for p, t in _tensors(layer)]
                options = {"epsilon": layer.epsilon}
                nodes.append(node("BatchNormalization", [value, *numbers], [name], **options))
            elif isinstance(layer, MaxPool2D):
                window = {"kernel_shape": list(layer.window.size), "strides": [layer.stride] * 2}
                nodes.append(node("MaxPool", [value], [name, f"{name} i"], **window))
            elif isinstance(layer, MaxUnpool2D) and layer.pool is not None:
                shape = np.array([case.shape[0], *layer.out_dim])
                window = {"kernel_shape": list(layer.window.size), "strides": [layer.stride] * 2}
                inputs = [value, f"{layer.pool.name} i", constant(f"{name} shape", shape)]
                nodes.append(node("MaxUnpool", inputs, [name], **window))
            else:
                nodes.append(node("Relu", [value], [name]))
            value = name
        return Prepared(
            self._session(nodes, {"x": values(case.shape)}, constants, **{value: 1}), _first
        )

    def _session(
        self, nodes: list[Any], inputs: dict[str, Any], constants: Any = (), **outputs: int
    ) -> Any:
        """Call of a graph on fixed inputs that returns its outputs; they are given as types."""
        info = self.onnx.helper.make_tensor_value_info
        types = {"float32": 1, "int64": 7}
        graph = self.onnx.helper.make_graph(
            nodes,
            "case",
            [info(name, types[str(a.dtype)], a.shape) for name, a in inputs.items()],
            [info(name, kind, None) for name, kind in outputs.items()],
            list(constants),
        )
        model = self.onnx.helper.make_model(
            graph,
            opset_imports=[self.onnx.helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        session = self.runtime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        of_numpy = self.runtime.OrtValue.ortvalue_from_numpy
        given = {name: of_numpy(np.ascontiguousarray(a)) for name, a in inputs.items()}
        return partial(session.run_with_ort_values, list(outputs), given)


def _first(out: Any) -> tuple[Any, ...]:
    return (out[0].numpy(),)


def _tensors(layer: Conv2D | BatchNorm2D) -> list[tuple[str, Any]]:
    """Constants of a layer in the order in which ONNX's operator takes them."""
    if isinstance(layer, Conv2D):
        return [(f"{n} ", p.tensor) for n, p in enumerate(layer.parameters)]
    numbers = (layer.scale, layer.shift, layer.running_mean, layer.running_variance)
    return [(f"{n} ", p.tensor) for n, p in enumerate(numbers)]
