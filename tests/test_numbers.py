"""Numbers of layers, losses and optimizers: checked alike, and NumPy scalars change no dtype."""

import inspect
from math import inf, nan

import numpy as np
import pytest

from support.compare import assert_same_bits
from tinyml import clipping, layers, losses, optims, schedules
from tinyml.core import Parameter
from tinyml.core.number import Number
from tinyml.layers import BatchNorm2D
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.optims import SGD, Adam
from tinyml_backends.arguments import number

#: How a number may be given.
KINDS = {"float64": np.float64, "float32": np.float32, "0-d": np.array}

CLASSES = [
    found
    for module in (clipping, layers, losses, optims, schedules)
    for _, found in inspect.getmembers(module, inspect.isclass)
    if found.__module__.startswith(module.__name__)
]
#: Functions, and numbers that become a schedule.
RATES = {(schedules.Schedule, "function"), (schedules.WarmUp, "after")}
NUMBERS = [
    pytest.param(of, name, id=f"{of.__name__}.{name}")
    for of in CLASSES
    for name, found in vars(of).items()
    if isinstance(found, Number)
]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_batch_norm_with_numpy_scalars(backend, kind):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    runs = []
    for convert in (float, kind):
        options = {"momentum": convert(0.25), "epsilon": convert(0.5)}
        norm = BatchNorm2D("norm", (3, 4, 5), **options)
        y = norm(backend.asarray(x))
        back = norm.backward(y)
        arrays = [
            y,
            back,
            *(b.tensor for b in norm.buffers),
            *(p.gradient for p in norm.parameters),
        ]
        runs.append([backend.to_numpy(array) for array in arrays])
    for plain, with_dtype in zip(*runs, strict=True):
        assert plain.dtype == np.float32
        assert_same_bits(with_dtype, plain)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: SGD(n(0.125), n(0.75)),
        lambda n: Adam(n(0.125), (n(0.5), n(0.75)), n(0.25)),
        lambda n: Adam(n(0.125), kind_of_betas(n), n(0.25)),
    ],
    ids=["SGD", "Adam", "Adam, betas in an array"],
)
def test_steps_with_numpy_scalars(backend, make, dtype, kind):
    """Also if the learning rate is set later, as a schedule does."""
    runs = []
    for convert in (float, kind):
        rng = np.random.default_rng(0)
        parameter = Parameter(backend.asarray(rng.standard_normal(40).astype(dtype)))
        optimizer = make(convert)
        for rate in (0.125, 0.5):
            optimizer.learning_rate = convert(rate)
            parameter.zero_gradient()
            parameter.gradient += backend.asarray(rng.standard_normal(40).astype(dtype))
            optimizer.update([parameter])
        state = [v for v in parameter.state.values() if hasattr(v, "dtype")]
        runs.append([backend.to_numpy(array) for array in (parameter.tensor, *state)])
    for plain, with_dtype in zip(*runs, strict=True):
        assert plain.dtype == dtype
        assert_same_bits(with_dtype, plain)


def kind_of_betas(convert):
    return (0.5, 0.75) if convert is float else np.array([0.5, 0.75])


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.array])
def test_ignored_class_as_a_numpy_scalar(backend, kind):
    logits = backend.asarray(np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32))
    target = backend.asarray(np.array([0, 1, 9, 2], np.uint8))
    ours, plain = SoftmaxCrossEntropy(kind(9)), SoftmaxCrossEntropy(9)
    assert ours.forward(logits, target) == plain.forward(logits, target)
    assert_same_bits(backend.to_numpy(ours.backward()), backend.to_numpy(plain.backward()))


@pytest.mark.host
def test_every_number_of_a_constructor_is_declared():
    found = []
    for of in CLASSES:
        for name, argument in inspect.signature(of).parameters.items():
            listed = "Sequence[float]" in str(argument.annotation)  # class weights
            other = of is layers.PReLU or (of, name) in RATES
            if "float" in str(argument.annotation) and not listed and not other:
                found.append(name)
                assert isinstance(inspect.getattr_static(of, name, None), Number), (of, name)
    assert {"learning_rate", "momentum", "betas", "epsilon"} <= set(found)


@pytest.mark.host
@pytest.mark.parametrize(
    "value", ["0.1", None, True, np.True_, 1j, np.array([0.1]), [0.1], object()]
)
@pytest.mark.parametrize(("of", "name"), NUMBERS)
def test_what_is_no_number_is_refused(of, name, value):
    instance = object.__new__(of)
    instance.name = "it"
    if vars(of)[name].allowed.get("count"):
        value = (0.5, value)
    with pytest.raises(TypeError, match=rf"^{of.__name__}\('it'\): {name} is .*; it must be "):
        setattr(instance, name, value)
    assert name not in vars(instance)


@pytest.mark.host
@pytest.mark.parametrize("value", [nan, inf, -inf, np.float64(nan), -1, 10**400])
@pytest.mark.parametrize(("of", "name"), NUMBERS)
def test_numbers_outside_their_range_are_refused(of, name, value):
    instance = object.__new__(of)
    allowed = vars(of)[name].allowed
    if value == -1 and not {"at_least", "more_than"} & set(allowed):
        value = -inf
    if allowed.get("count"):
        value = (0.5, value)
    with pytest.raises(ValueError, match=rf"^{of.__name__}: {name} is .*; it must be "):
        setattr(instance, name, value)
    assert name not in vars(instance)


@pytest.mark.host
@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        (0, {"more_than": 0}, "rate is 0; it must be more than 0 and finite"),
        (1, {"at_least": 0, "less_than": 1}, "rate is 1; it must be at least 0 and less than 1"),
        (1.5, {"at_least": 0, "at_most": 1}, "rate is 1.5; it must be at least 0 and at most 1"),
        (nan, {}, "rate is nan; it must be finite"),
        ([1, 2, 3], {"count": 2}, "rate is [1, 2, 3]; it must be 2 numbers, each finite"),
        (
            [1, 0],
            {"count": 2, "more_than": 0},
            "rate is [1, 0]; it must be 2 numbers, each more th",
        ),
        ("x", {"more_than": 0}, "rate is 'x'; it must be a number, more than 0 and finite"),
        (
            5,
            {"count": 2, "more_than": 0},
            "rate is 5; it must be 2 numbers, each more than 0 and f",
        ),
    ],
)
def test_messages_of_numbers(value, options, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        number("rate", value, **options)
    assert str(caught.value).startswith(message)


@pytest.mark.host
@pytest.mark.parametrize("value", [0.5, np.float16(0.5), np.array(0.5), np.float64(0.5)])
def test_numbers_become_floats(value):
    assert type(number("rate", value)) is float
    assert [type(v) for v in number("rate", [value, 1], count=2)] == [float, float]
    assert type(number("rate", np.uint8(1), at_most=1)) is float


@pytest.mark.host
@pytest.mark.parametrize("value", [0.5, None, "9", [1, 2]])
def test_an_ignored_class_must_be_an_integer(value):
    with pytest.raises((TypeError, ValueError), match="ignore_index is"):
        SoftmaxCrossEntropy(value)
