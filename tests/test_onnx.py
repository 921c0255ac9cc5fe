"""The official node cases of ONNX, and ONNX Runtime's reading where it differs.

ONNX's pooling indices are flat over the whole (N, C, …) tensor. Its MaxUnpool with ``output_shape``
is read in two ways: the specification's own case means indices into the shape that the window
implies, and pads the result; ONNX Runtime means indices into ``output_shape``.
"""

import warnings

import numpy as np
import pytest

import tinyml
from conftest import peer
from support.compare import assert_same_bits
from tinyml import Switches, SwitchIndexError

OPERATORS = ("MaxPool", "AveragePool", "MaxUnpool", "GlobalMaxPool", "GlobalAveragePool")
COUNT = 45


@pytest.fixture(scope="module")
def cases():
    onnx = peer("onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    chosen = []
    for case in found:
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in OPERATORS:
            values = {a.name: onnx.helper.get_attribute_value(a) for a in nodes[0].attribute}
            chosen.append((case, nodes[0].op_type, values))
    return chosen


def geometry(attributes, shape):
    """tinyml's arguments from ONNX's attributes; auto_pad becomes (before, after)."""
    size = tuple(attributes["kernel_shape"])
    axes = len(size)
    stride = tuple(attributes.get("strides", (1,) * axes))
    pads = attributes.get("pads", (0,) * 2 * axes)
    padding = tuple(zip(pads[:axes], pads[axes:], strict=True))
    auto = attributes.get("auto_pad", b"NOTSET").decode()
    if auto.startswith("SAME"):
        totals = [
            max((-(-n // s) - 1) * s + k - n, 0)
            for n, s, k in zip(shape, stride, size, strict=True)
        ]
        low = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in totals]
        padding = tuple((p, t - p) for p, t in zip(low, totals, strict=True))
    return {
        "size": size,
        "stride": stride,
        "padding": padding,
        "dilation": tuple(attributes.get("dilations", (1,) * axes)),
        "ceil_mode": bool(attributes.get("ceil_mode", 0)),
    }


def run(backend, operator, attributes, inputs):
    """Outputs of one node, by tinyml's native functions."""
    x = backend.asarray(inputs[0])
    spatial = x.shape[2:]
    if operator == "GlobalMaxPool":
        return [tinyml.max_pool(x, tuple(spatial))[0]]
    if operator == "GlobalAveragePool":
        return [tinyml.avg_pool(x, tuple(spatial))]
    if operator == "AveragePool":
        include = bool(attributes.get("count_include_pad", 0))
        return [tinyml.avg_pool(x, **geometry(attributes, spatial), count_include_pad=include)]
    if operator == "MaxPool":
        y, switches = tinyml.max_pool(x, **geometry(attributes, spatial))
        order = "F" if attributes.get("storage_order", 0) else "C"
        return [y, switches.to("tensor", order=order)]
    window = geometry(attributes, spatial)
    inferred = tuple(
        (n - 1) * s + k - sum(p)
        for n, s, k, p in zip(
            spatial, window["stride"], window["size"], window["padding"], strict=True
        )
    )
    switches = Switches.of(backend.asarray(inputs[1]), "tensor", **window, input_shape=inferred)
    out = backend.to_numpy(tinyml.max_unpool(x, switches))
    if len(inputs) == 3:
        out = np.pad(out, [(0, n - m) for n, m in zip(inputs[2], out.shape, strict=True)])
    return [backend.asarray(out)]


def test_all_cases_are_there(backend, cases):
    assert len(cases) == COUNT


@pytest.mark.parametrize("number", range(COUNT))
def test_official_case(backend, cases, number):
    case, operator, attributes = cases[number]
    for inputs, outputs in case.data_sets:
        ours = run(backend, operator, attributes, inputs)
        for expected, array in zip(outputs, ours, strict=False):
            actual = backend.to_numpy(array)
            assert actual.dtype == expected.dtype, case.name
            np.testing.assert_allclose(
                actual, expected, rtol=case.rtol, atol=case.atol, err_msg=case.name
            )


def node_model(onnx, operator, inputs, outputs, **attributes):
    """A model of one node."""
    kinds = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}

    def values(arrays):
        return [
            onnx.helper.make_tensor_value_info(name, kinds[dtype], shape)
            for name, (dtype, shape) in arrays.items()
        ]

    node = onnx.helper.make_node(operator, list(inputs), list(outputs), **attributes)
    graph = onnx.helper.make_graph([node], operator, values(inputs), values(outputs))
    opset = onnx.helper.make_opsetid("", 13)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


@pytest.mark.parametrize("shape", [(1, 1, 5, 5), (2, 3, 7, 6)])
@pytest.mark.parametrize("order", [0, 1])
def test_onnx_runtime(backend, shape, order):
    """Its MaxPool's values and indices, and its MaxUnpool with output_shape."""
    onnx, runtime = peer("onnx"), peer("onnxruntime")
    pooled = (*shape[:2], shape[2] // 2, shape[3] // 2)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    model = node_model(
        onnx,
        "MaxPool",
        {"x": ("float32", shape)},
        {"y": ("float32", pooled), "i": ("int64", pooled)},
        storage_order=order,
        **window,
    )
    y, indices = runtime.InferenceSession(model).run(None, {"x": x})
    ours, switches = tinyml.max_pool(backend.asarray(x), 2)
    name = {"order": "F"} if order else {}
    assert_same_bits(backend.to_numpy(ours), y)
    assert_same_bits(backend.to_numpy(switches.to("tensor", **name)), indices)
    again = Switches.of(backend.asarray(indices), "tensor", size=2, input_shape=shape[2:], **name)
    assert again == switches
    if order:
        return  # MaxUnpool has no storage order
    model = node_model(
        onnx,
        "MaxUnpool",
        {"y": ("float32", pooled), "i": ("int64", pooled), "s": ("int64", (4,))},
        {"x": ("float32", shape)},
        **window,
    )
    feeds = {"y": y, "i": indices, "s": np.array(shape)}
    (expected,) = runtime.InferenceSession(model).run(None, feeds)
    assert_same_bits(backend.to_numpy(tinyml.max_unpool(ours, again)), expected)


def test_the_official_indices_are_wrong_under_onnx_runtimes_reading(backend, cases):
    (found,) = (c for c, *_ in cases if c.name == "test_maxunpool_export_with_output_shape")
    (values, indices, output_shape), _ = found.data_sets[0]
    with pytest.raises(SwitchIndexError, match=r"indices\[0, 0, 1, 0\] is 13; "):
        Switches.of(backend.asarray(indices), "tensor", size=2, input_shape=tuple(output_shape[2:]))
    assert values.shape == indices.shape
