"""OpenCV's calls of the convolutions, by its DNN module, which reads an ONNX model from memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.bench.cases import Prepared
from tinyml.bench.convolution_peer import ConvolutionPeer
from tinyml.bench.onnx_runtime import IR_VERSION, OPSET, window_options
from tinyml.layers import Conv2D
from tinyml_backends.threads import thread_count


class OpenCV(ConvolutionPeer):
    """The peer "opencv": convolutions on the CPU, with as many threads as tinyml."""

    name = "opencv"
    lacks = "it reads no MaxUnpool of ONNX"

    def __init__(self) -> None:
        import cv2
        import onnx

        self.cv2, self.onnx = cv2, onnx
        cv2.setNumThreads(thread_count())

    def describe(self) -> dict[str, Any]:
        """Version and threads, for the environment line."""
        return {"version": self.cv2.__version__, "threads": self.cv2.getNumThreads()}

    def convolution(self, layer: Conv2D, x: NDArray[np.float32]) -> Prepared:
        """Call of a layer on the input, which OpenCV copies once, before the call."""
        helper, array = self.onnx.helper, self.onnx.numpy_helper.from_array
        info = helper.make_tensor_value_info
        weights = {f"c{n}": np.asarray(p.tensor) for n, p in enumerate(layer.parameters)}
        options = {**window_options(layer), "group": layer.groups}
        graph = helper.make_graph(
            [helper.make_node("Conv", ["x", *weights], ["y"], **options)],
            "case",
            [info("x", 1, x.shape)],
            [info("y", 1, (len(x), *layer.out_dim))],
            [array(tensor, name) for name, tensor in weights.items()],
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        content = np.frombuffer(model.SerializeToString(), np.uint8)
        network = self.cv2.dnn.readNetFromONNX(content)
        network.setInput(x)
        return Prepared(network.forward, lambda y: (y,))
