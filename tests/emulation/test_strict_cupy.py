"""The stand-in refuses what CuPy refuses, and has only names and keywords of CuPy."""

import copy
import inspect
import os
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from emulation import EmulationError, api
from emulation import cupy as cp

pytestmark = [pytest.mark.host, pytest.mark.emulation]

HOST = np.ones(4, np.float32)


@pytest.mark.parametrize(
    ("do", "error", "message"),
    [
        (lambda a: np.asarray(a), TypeError, "Implicit conversion"),
        (lambda a: np.sum(a), TypeError, "numpy.sum on a CuPy array"),
        (lambda a: a + HOST, TypeError, "Unsupported type .*numpy.ndarray"),
        (lambda a: HOST + a, TypeError, "Unsupported type .*numpy.ndarray"),
        (lambda a: a.__iadd__(HOST), TypeError, "Unsupported type .*numpy.ndarray"),
        (lambda a: a.__add__([1.0]) + 1, TypeError, "NotImplementedType"),
        (lambda a: cp.where(a > 0, HOST, a), TypeError, "Unsupported type"),
        (lambda a: cp.concatenate([a, HOST]), TypeError, "Unsupported type"),
        (lambda a: cp.take(a, np.array([0])), TypeError, "Unsupported type"),
        (lambda a: cp.sum(HOST), TypeError, "Unsupported type"),
        (lambda a: a[np.array([0])], TypeError, "index of .*ndarray"),
        (lambda a: a[[0]], TypeError, "index of .*list"),
        (lambda a: a.__setitem__(0, HOST), TypeError, "Unsupported type"),
        (lambda a: a.searchsorted, AttributeError, "searchsorted"),
        (lambda a: a.sum(initial=0), TypeError, "'initial'"),
        (lambda a: cp.sum(a, where=a > 0), TypeError, "'where'"),
        (lambda a: cp.add(a, a, where=a > 0), TypeError, "where"),
        (lambda a: cp.percentile, AttributeError, "'percentile'"),
        (lambda a: cp.longdouble, AttributeError, "'longdouble'"),
        (lambda a: cp.asarray(np.ones(2, np.longdouble)), ValueError, "Unsupported dtype"),
        (lambda a: cp.exp.at(a, cp.array([0])), NotImplementedError, "exp.at"),
        (lambda a: cp.maximum.at(a.astype("i8"), cp.array([0]), 1), TypeError, "only supports"),
        (lambda a: cp.argsort(a, kind="quicksort"), ValueError, "None or 'stable'"),
        (lambda a: cp.from_dlpack(HOST), TypeError, "CPU arrays cannot be directly imported"),
        (lambda a: np.from_dlpack(a), BufferError, "cannot be shared"),
        (lambda a: hash(a), TypeError, "unhashable"),
    ],
)
def test_what_cupy_refuses_is_refused(do, error, message):
    with pytest.raises(error, match=message):
        do(cp.ones(4, np.float32))


def test_assigning_through_an_index_with_duplicates_is_refused():
    a, b = cp.zeros((3, 4)), cp.asarray([1, 1, -2])
    with pytest.raises(EmulationError, match="holds duplicates"):
        a[:, cp.asarray([3, -1])] = cp.ones((3, 2))
    with pytest.raises(EmulationError, match="holds duplicates"):
        a[cp.asarray([0, 1, 0]), cp.asarray([2, 2, 2])] += cp.ones(3)
    with pytest.raises(EmulationError, match="holds duplicates"):
        cp.put_along_axis(a, cp.zeros((3, 2), np.int64), cp.ones((3, 2)), 1)
    a[...] = 0
    a[cp.asarray([0, 1, 0]), cp.asarray([2, 2, 1])] = cp.ones(3)
    assert a.get().tolist() == [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    a[b] = 5  # one value for all
    cp.add.at(a, b, 1.0)
    assert a[1].tolist() == [8.0] * 4


def test_results_are_arrays_and_views_share_memory():
    a = cp.arange(12, dtype=np.float32).reshape(3, 4)
    for result in (a.sum(), cp.max(a), a[0, 0], np.float32(2) * a, cp.sqrt(2.0), a @ a.T):
        assert type(result) is cp.ndarray
    assert (a[1:].T.data.ptr, a.sum().shape) == (a.data.ptr + 16, ())
    a[1:].reshape(-1)[0] = 99
    assert float(a[1, 0]) == 99
    assert a[cp.asarray([0])].base is None
    assert cp.empty(3).data.ptr % 512 == 0
    assert cp.empty(0).data.ptr == 0
    assert ((a * 1.5).dtype, (a + np.float64(1)).dtype) == (np.float32, np.float64)
    for twin in (copy.deepcopy(a), pickle.loads(pickle.dumps(a)), cp.asarray(a.tolist())):
        assert bool((twin == a).all())


def test_waiting_is_counted():
    a = cp.ones(3)
    cp.synchronisations = 0
    b = cp.sqrt(a + 1).sum()
    assert cp.synchronisations == 0
    for wait in (bool, int, float, repr, cp.asnumpy, cp.nonzero, lambda b: b.get()):
        before = cp.synchronisations
        wait(b.reshape(1) if wait is cp.nonzero else b)
        assert cp.synchronisations > before
    before = cp.synchronisations
    a[a > 0].sum()
    assert cp.synchronisations == before + 1


def test_devices_do_not_mix():
    here = cp.arange(3, dtype=np.float32)
    with cp.cuda.Device(1):
        there = cp.zeros(3, np.float32)
        with pytest.raises(EmulationError, match="device 0 is used while device 1 is current"):
            there + here
        assert here.copy().device.id == 1
    assert (here.device.id, there.device.id, cp.cuda.Device().id) == (0, 1, 0)
    with pytest.raises(EmulationError, match="device 1 is used while device 0 is current"):
        cp.sqrt(there)
    assert there.reshape(1, 3).get().tolist() == [[0, 0, 0]]
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="invalid device"):
        cp.cuda.Device(2).use()


# -- the tables against CuPy -----------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    if "cupy" not in os.environ.get("TINYML_REQUIRE", "").split(","):
        pytest.importorskip("cupy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses the CUDA toolkit
        import cupy
    return cupy


def test_cupy_has_every_name(real):
    names = [*api.FUNCTIONS, *api.UFUNCS, *api.FROM_NUMPY, "ndarray", "RawModule"]
    assert [n for n in names if not hasattr(real, n)] == []
    assert [n for n in (*api.METHODS, *api.ATTRIBUTES) if not hasattr(real.ndarray, n)] == []
    assert [n for n in api.UFUNCS if not isinstance(getattr(real, n), real.ufunc)] == []
    for dotted in api.CUDA:
        found = real.cuda
        for part in dotted.split("."):
            found = getattr(found, part)


def test_cupy_has_every_keyword(real):
    functions = [(n, getattr(real, n), p) for n, p in api.FUNCTIONS.items()]
    functions += [(n, getattr(real.ndarray, n), p) for n, p in api.METHODS.items()]
    functions += [(n, getattr(real, n), "out casting dtype") for n in api.UFUNCS]
    parameters = "code path options backend name_expressions jitify"
    functions += [("RawModule", real.RawModule, parameters)]
    unknown = {
        name: [p for p in parameters.split() if p.lstrip("*") not in known]
        for name, function, parameters in functions
        if (known := _parameters_of(function)) is not None
    }
    assert {name: some for name, some in unknown.items() if some} == {}


@pytest.mark.parametrize("emulated", [True, False], ids=["emulated", "real"])
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, r"TypeError: Exactly one of `code` and `path`"),
        ({"code": "x", "path": "y"}, r"TypeError: Exactly one of `code` and `path`"),
        ({"path": Path("y")}, r"TypeError: Argument 'path' .* \(expected str, got PosixPath\)"),
        (
            {"path": "y", "options": ["x"]},
            r"TypeError: Argument 'options' .* \(expected tuple, got",
        ),
        ({"path": "y", "name_expressions": ("x",)}, "ValueError: need CUDA C"),
        ({"path": "y", "jitify": True}, "ValueError: Jitify does not support"),
    ],
)
def test_modules_that_cupy_refuses(real, emulated, arguments, error):
    with pytest.raises((TypeError, ValueError)) as raised:
        (cp if emulated else real).RawModule(**arguments)
    assert re.match(error, f"{raised.type.__name__}: {raised.value}")


@pytest.mark.parametrize("emulated", [True, False], ids=["emulated", "real"])
def test_a_module_of_a_file_is_not_compiled(real, emulated):
    """Options and source, without which CuPy cannot compile, are not kept."""
    module = (cp if emulated else real).RawModule(path="y", options=("-ftz=true",))
    assert (module.code, module.file_path, module.options) == (None, "y", ())


def _parameters_of(function):
    """Names of the parameters; None where CuPy takes any keyword."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # compiled: the first line of its text says it
        first = (function.__doc__ or "").strip().partition("\n")[0]
        inside = first.partition("(")[2].rpartition(")")[0]
        return {part.partition("=")[0].split(" ")[-1].strip("*\\[") for part in inside.split(", ")}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}
