"""Wrong arguments: the error names the argument, what it was, and what it may be."""

import copy
import pickle
import threading
from inspect import signature

import numpy as np
import pytest

import tinyml
from tinyml import layers
from tinyml.core import Parameter
from tinyml.graph import Graph
from tinyml.layers import BatchNorm2D, Conv2D, Layer, MaxPool2D, ReLU
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.models import segnet
from tinyml.net import Sequential
from tinyml.optims import Adam
from tinyml_backends import backend_for

X = np.zeros((4, 1, 8, 8), np.float32)
Y = np.zeros((4, 8, 8), int)
MASKED = np.ma.masked_array(X)


class Tensor:
    """An array of a library that is not known."""


def learner():
    model = segnet((1, 8, 8), 2, depth=1, channels=2)
    return Learner(model, SoftmaxCrossEntropy(), Adam(0.001))


def conv(*arguments, **options):
    return Conv2D("c", (2, 8, 8), *arguments, **options)


def rows():
    relu, loss, adam, pair = ReLU("r"), SoftmaxCrossEntropy(), Adam(0.001), (X, Y)
    int_or_none = "None, an int of at least 0 or a numpy.random.Generator"
    yield "train is an array; it must be a pair of arrays", lambda: learner().fit(X, Y)
    yield "train is None; it must be a pair of arrays", lambda: learner().fit(None)
    yield "train is 'data'; it must be a pair", lambda: learner().fit("data")
    yield "train is a tuple of 3; it must be a pair", lambda: learner().fit((X, Y, Y))
    yield "train is a tuple of 1; it must be a pair", lambda: learner().fit((X,))
    yield "validation is an array; it must be", lambda: learner().fit(pair, X)
    yield "data is None; it must be a pair", lambda: learner().evaluate(None)
    yield "x is a list; data must be", lambda: learner().fit(([[1.0]], [0]))
    for name in ("epochs", "batch_size", "seed"):
        for value in (2.5, "2", True, None):
            message = f"{name} is {value!r}; it must be an int"
            yield message, lambda n=name, v=value: learner().fit(pair, **{n: v})
        least = 0 if name == "seed" else 1
        message = f"{name} is {least - 1}; it must be at least {least}"
        yield message, lambda n=name, v=least - 1: learner().fit(pair, **{n: v})
    yield "batch_size is 1.0; it must be an int", lambda: learner().predict(X, batch_size=1.0)
    yield "loss is 'mse'; it must be a loss such as", lambda: Learner(relu, "mse", adam)
    yield (
        "loss is the class SoftmaxCrossEntropy; it must be an object",
        lambda: Learner(relu, SoftmaxCrossEntropy, adam),
    )
    yield "optimizer is 'adam'; it must be an optimizer", lambda: Learner(relu, loss, "adam")
    yield "optimizer is the class Adam; it must be an object", lambda: Learner(relu, loss, Adam)
    yield "model is the class ReLU; it must be an object", lambda: Learner(ReLU, loss, adam)
    yield "model is [ReLU('r')]; it must be a layer", lambda: Learner([relu], loss, adam)
    yield "layers is several arguments; it must be one list", lambda: Sequential(relu, ReLU("s"))
    yield "layers is ReLU('r'); it must be one list of layers", lambda: Sequential(relu)
    yield "layers is None; it must be one list of layers", lambda: Sequential(None)
    yield "it must be a Layer object", lambda: Sequential([ReLU])
    yield "it must be a Layer object", lambda: Graph("g", (1, 8, 8)).add(ReLU)
    yield "Graph: name is (1, 8, 8); it must be a str", lambda: Graph((1, 8, 8))
    yield "ReLU: name is None; it must be a str", lambda: ReLU(None)
    for name in ("n_filters", "groups"):
        for value in (2.5, "2", None, True):
            message = f"Conv2D('c'): {name} is {value!r}; it must be an int"
            options = {"n_filters": 2, "size": 3, name: value}
            yield message, lambda o=options: conv(**o)
        options = {"n_filters": 2, "size": 3, name: 0}
        yield f"Conv2D('c'): {name} is 0; it must be at least 1", lambda o=options: conv(**o)
    yield "groups is 2; it must divide the 2 input", lambda: conv(3, 3, groups=2)
    for value in ("a", 1.5, -1, True):
        yield f"rng is {value!r}; it must be {int_or_none}", lambda v=value: conv(2, 3, rng=v)
        message = f"rng is {value!r}; it must be {int_or_none}"
        yield message, lambda v=value: segnet((1, 8, 8), 2, rng=v)
    for name in ("n_classes", "depth", "channels", "size"):
        for value in (2.0, "3", None):
            options = {"n_classes": 2, name: value}
            message = f"{name} is {value!r}; it must be an int"
            yield message, lambda o=options: segnet((1, 8, 8), **o)
    yield "input_dim is (8, 8); it must be 3 ints", lambda: segnet((8, 8), 2)
    for value in ("no", None, 2, 0.0, []):
        message = f"ceil_mode is {value!r}; it must be True or False"
        yield message, lambda v=value: tinyml.max_pool(X, 2, ceil_mode=v)
        yield message, lambda v=value: tinyml.avg_pool(X, 2, ceil_mode=v)
        yield message, lambda v=value: MaxPool2D("p", (1, 8, 8), 2, 2, ceil_mode=v)
        message = f"count_include_pad is {value!r}; it must be True or False"
        yield message, lambda v=value: tinyml.avg_pool(X, 2, count_include_pad=v)
    for value in ("same", (1, 1, 1), ((1, 1, 1), (1, 1)), (1, "a"), 1.5, -1, ((0, -1), (0, 0))):
        message = f"padding is {value!r}; "
        yield message, lambda v=value: tinyml.max_pool(X, 2, padding=v)
    yield "2 pairs of ints (before, after)", lambda: tinyml.max_pool(X, 2, padding=(1, 1, 1))


@pytest.mark.host
@pytest.mark.parametrize(("message", "call"), list(rows()))
def test_the_argument_is_named(message, call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


NO_ARRAYS = {
    "list": [[1.0]],
    "NoneType": None,
    "float": 1.0,
    f"{__name__}.Tensor": Tensor(),
}
OF_ARRAYS = {
    "x": [
        lambda a: tinyml.max_pool(a, 2),
        lambda a: tinyml.avg_pool(a, 2),
        lambda a: tinyml.adaptive_max_pool(a, 2),
        lambda a: ReLU("r")(a),
        lambda a: BatchNorm2D("n", (1, 8, 8))(a),
        lambda a: learner().predict(a),
    ],
    "y": [lambda a: tinyml.max_unpool(a, tinyml.max_pool(X, 2)[1])],
    "gradient": [lambda a: tinyml.max_pool_gradient(a, tinyml.max_pool(X, 2)[1])],
    "input": [lambda a: conv(2, 3)(a), lambda a: tinyml.functional.max_pool2d(a, 2)],
    "indices": [lambda a: tinyml.Switches.of(a, "plane", size=2, input_shape=(4, 4))],
    "logits": [lambda a: SoftmaxCrossEntropy().forward(a, Y)],
    "target": [lambda a: SoftmaxCrossEntropy().forward(np.zeros((4, 2, 8, 8)), a)],
    "tensor": [Parameter],
    "a": [tinyml.to_numpy],
}


@pytest.mark.host
@pytest.mark.parametrize("name", OF_ARRAYS)
@pytest.mark.parametrize("kind", NO_ARRAYS)
def test_what_is_no_array_is_named(name, kind):
    import tinyml.functional  # noqa: F401

    for call in OF_ARRAYS[name]:
        with pytest.raises(TypeError) as caught:
            call(NO_ARRAYS[kind])
        expected = f"{name} is a {kind}, which is no array of a known library; make one with tinyml"
        assert str(caught.value).startswith(expected)
        with pytest.raises(TypeError, match=f"^{name} is a masked array, whose mask .* a.filled"):
            call(MASKED)


@pytest.mark.parametrize("dtype", [bool, complex, np.complex64])
def test_layers_take_floats_and_integers(backend, dtype):
    x = backend.asarray(np.zeros((1, 2, 8, 8), dtype))
    for layer in (conv(2, 3), ReLU("r"), BatchNorm2D("n", (2, 8, 8))):
        with pytest.raises(
            TypeError, match=r"input has dtype \w+; it must hold floats or integers"
        ):
            layer(x)


@pytest.mark.host
def test_layers_refuse_objects():
    for layer in (conv(2, 3), ReLU("r"), BatchNorm2D("n", (2, 8, 8))):
        with pytest.raises(TypeError, match=r"\('.'\): input has dtype object; it must hold"):
            layer(np.zeros((1, 2, 8, 8), object))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_data_that_is_not_finite_is_told_from_a_training_that_diverges(backend, value):
    trained = learner()
    x = X.copy()
    x[2, 0, 3, 3] = value
    before = [tinyml.to_numpy(p.tensor).copy() for p in trained.model.parameters]
    with pytest.raises(FloatingPointError, match=r"^x of step 1 holds NaN or infinity, so"):
        trained.fit((x, Y))
    for parameter, old in zip(trained.model.parameters, before, strict=True):
        np.testing.assert_array_equal(tinyml.to_numpy(parameter.tensor), old)
    trained.model.parameters[0].tensor.fill(value)
    with pytest.raises(FloatingPointError, match=r"^the loss is nan at step 1 with learning rate"):
        trained.fit((X, Y))


@pytest.mark.host
def test_a_replica_names_the_layer_and_what_cannot_be_copied():
    class Locked(Layer):
        def __init__(self, name):
            super().__init__(name)
            self.lock = threading.Lock()

    with pytest.raises(TypeError, match=r"^Locked\('mine'\): lock cannot be copied: "):
        Locked("mine").replica()


@pytest.mark.host
def test_without_arrays_auto_is_the_backend_of_new_arrays():
    with tinyml.use_backend("auto") as backend:
        assert backend_for() is backend


def classes_of_layers():
    return sorted({getattr(layers, name) for name in layers.__all__ if name[0].isupper()}, key=repr)


@pytest.mark.host
@pytest.mark.parametrize("of", classes_of_layers(), ids=lambda of: of.__name__)
def test_a_misspelt_option_names_the_class_that_was_called(of):
    needed = [
        (1, 4, 4)
        for wanted in signature(of).parameters.values()
        if wanted.default is wanted.empty and wanted.kind is not wanted.VAR_POSITIONAL
    ]
    message = rf"{of.__name__}: got an unexpected keyword argument 'grops'; its arguments are name"
    with pytest.raises(TypeError, match=f"^{message}"):
        of(*needed, grops=1)
    if len(needed) > 1:
        with pytest.raises(TypeError, match=f"^{of.__name__}: missing a required argument"):
            of("it")


@pytest.mark.host
def test_a_layer_of_ones_own_is_named():
    class Own(layers.Conv3D):
        pass

    with pytest.raises(TypeError, match=r"^Own: got an unexpected keyword argument 'paddign'"):
        Own("own", (1, 4, 4, 4), 2, 3, paddign=1)
    assert copy.copy(ReLU("relu")).name == copy.deepcopy(ReLU("relu")).name == "relu"
    assert pickle.loads(pickle.dumps(ReLU("relu"))).name == "relu"
