"""Which backends are known, which one runs an operation, and the errors if none can."""

import sys
import threading
import time
import warnings
from importlib.util import find_spec

import numpy as np
import pytest

import tinyml
from support.backends import Fake, FakeArray, Second
from tinyml.layers import MaxPool2D
from tinyml_backends import Backend, backend_for, owner_of, registry, resolve
from tinyml_backends.numpy_backend import NumpyBackend

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("clean_registry")]

NUMPY = NumpyBackend()
FASTEST = "numba" if find_spec("numba") else "numpy"


def current():
    return tinyml.current_backend().name


class TestNames:
    def test_unknown(self):
        with pytest.raises(ValueError, match="unknown backend 'nunpy'") as caught:
            tinyml.set_backend("nunpy")
        assert "'numpy', 'numba', 'cupy', 'auto'" in str(caught.value)
        assert str(caught.value).endswith("did you mean 'numpy'?")

    @pytest.mark.parametrize(
        ("which", "meant"),
        [("NumPy", "numpy"), ("CUPY", "cupy"), ("Auto", "auto"), ("Numbaa", "numba")],
    )
    def test_hints_do_not_depend_on_case(self, which, meant):
        with pytest.raises(ValueError, match=f"did you mean {meant!r}"):
            tinyml.set_backend(which)
        tinyml.register_backend("Mixed", Second)
        with pytest.raises(ValueError, match="did you mean 'Mixed'"):
            tinyml.set_backend("mixed")

    @pytest.mark.parametrize("left_out", registry.REQUIRED)
    def test_a_backend_that_lacks_something_is_not_available(self, left_out):
        given = {n: getattr(NUMPY, n) for n in registry.REQUIRED[:3]}
        given |= {n: vars(NumpyBackend)[n] for n in registry.REQUIRED[3:]}
        del given[left_out]
        tinyml.register_backend("lacking", type("Lacking", (Backend,), given))
        with pytest.raises(
            tinyml.BackendUnavailableError,
            match=f"'lacking' cannot run: Lacking does not define {left_out}$",
        ):
            resolve("lacking")
        (status,) = (status for status in tinyml.backends() if status.name == "lacking")
        assert not status.available
        assert left_out in status.reason

    def test_no_name(self):
        with pytest.raises(TypeError, match="a backend is named by a str or is a Backend; got int"):
            tinyml.set_backend(1)

    @pytest.mark.parametrize("which", ["numpy:", "cupy:x", "cupy:-1"])
    def test_bad_device(self, which):
        with pytest.raises(ValueError, match="must end in a device number, for example 'cupy:1'"):
            tinyml.set_backend(which)

    def test_a_backend_without_devices(self):
        with pytest.raises(ValueError, match="'numpy' has no devices to choose from"):
            tinyml.set_backend("numpy:1")

    def test_a_device_reaches_the_backend(self):
        class Devices(NumpyBackend):
            name = "devices"
            has_devices = True

            def __init__(self, device=0):
                self.number = device

        tinyml.register_backend("devices", Devices)
        assert resolve("devices").number == 0
        assert resolve("devices:3").number == 3
        assert resolve("devices:3") is resolve("devices:3")

    def test_registering(self, second):
        assert resolve("second") is second
        tinyml.register_backend("second", f"{__name__}:Missing")
        with pytest.raises(tinyml.BackendUnavailableError, match="cannot run: "):
            resolve("second")
        tinyml.register_backend("second", "tinyml_backends.numpy_backend:NumpyBackend")
        assert type(resolve("second")) is NumpyBackend

    @pytest.mark.parametrize("name", ["numpy", "cupy", "auto", "", "a:b", "a b"])
    def test_bad_names(self, name):
        with pytest.raises(ValueError, match="name is "):
            tinyml.register_backend(name, Second)

    def test_bad_target(self):
        with pytest.raises(ValueError, match=r"target is 'module'; it must be 'module:Class'"):
            tinyml.register_backend("mine", "module")

    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            ("no_such_module:Backend", "No module named 'no_such_module'"),
            ("tinyml_backends.numpy_backend:Nothing", "has no attribute 'Nothing'"),
            (lambda: 1, "its target made a int, which is no Backend"),
            (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        ],
    )
    def test_a_broken_target_is_unavailable(self, target, reason):
        tinyml.register_backend("broken", target)
        with pytest.raises(tinyml.BackendUnavailableError, match=reason):
            resolve("broken")
        (status,) = (s for s in tinyml.backends() if s.name == "broken")
        assert not status.available
        assert reason in status.reason

    def test_other_types(self):
        with pytest.raises(TypeError, match="name is 1; it must be a str"):
            tinyml.register_backend(1, Second)
        with pytest.raises(TypeError, match="target is None; it must be 'module:Class' or a"):
            tinyml.register_backend("mine", None)

    def test_a_registered_name_hides_an_installed_one_and_a_built_in_hides_both(self, monkeypatch):
        installed = {"numpy": lambda: Second, "second": lambda: 1 / 0}
        monkeypatch.setattr(registry, "_entry_points", lambda: installed)
        tinyml.register_backend("second", Second)
        assert type(resolve("second")) is Second
        assert type(resolve("numpy")) is NumpyBackend
        assert [s.name for s in tinyml.backends()] == ["numpy", "numba", "cupy", "second"]

    def test_an_installed_backend_that_fails_when_imported(self, monkeypatch):
        def load():
            raise OSError("no driver")

        monkeypatch.setattr(registry, "_entry_points", lambda: {"broken": load})
        status = tinyml.backends()[-1]
        assert (status.name, status.available, status.reason) == (
            *("broken", False, "OSError: no driver"),
        )
        with pytest.raises(TypeError, match="make one with tinyml"):
            backend_for([1.0])

    def test_threads_that_ask_first_get_one_object(self):
        made = []

        class Slow(NumpyBackend):
            def __init__(self):
                time.sleep(0.05)
                made.append(self)

        tinyml.register_backend("slow", Slow)
        threads = [threading.Thread(target=resolve, args=("slow",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert made == [resolve("slow")]

    def test_a_replaced_backend_stays_where_it_is_selected(self, second):
        tinyml.set_backend("second")
        tinyml.register_backend("second", Second)
        assert tinyml.current_backend() is second
        assert resolve("second") is not second

    def test_listing(self, second):
        status = {s.name: s for s in tinyml.backends()}
        assert list(status) == ["numpy", "numba", "cupy", "second"]
        assert status["numpy"].available
        assert status["second"].available
        assert status["numpy"].reason == ""
        for name in ("numba", "cupy"):  # whether they can run depends on the machine
            assert status[name].available == (status[name].reason == "")


class TestArraysDecide:
    @pytest.fixture(autouse=True)
    def fake(self, clean_registry):
        tinyml.register_backend("fake", Fake)
        return resolve("fake")

    def test_the_selected_backend_runs_its_own_arrays(self, second):
        with tinyml.use_backend("second"):
            assert backend_for(np.zeros(1), np.zeros(2)) is second

    def test_other_arrays_run_on_the_plain_backend_of_their_library(self, second, fake):
        with tinyml.use_backend("second"):
            assert backend_for(FakeArray()) is fake

    def test_auto_runs_each_array_at_home(self, fake):
        with tinyml.use_backend("auto"):
            assert backend_for(FakeArray()) is fake
            assert backend_for(np.zeros(1)).name == FASTEST

    def test_numpy_arrays_under_another_library_warn_once(self):
        with tinyml.use_backend("fake"):
            with pytest.warns(UserWarning, match=r"'fake' is selected.*tinyml\.asarray") as caught:
                assert backend_for(np.zeros(1)).name == "numpy"
            assert len(caught) == 1
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert backend_for(np.zeros(1)).name == "numpy"

    def test_the_warning_points_at_the_callers_line(self):
        x = np.zeros((1, 1, 2, 2))
        with tinyml.use_backend("fake"), pytest.warns(UserWarning, match="selected") as caught:
            tinyml.max_pool(x, 2)
        assert caught[0].filename == __file__

    def test_the_warning_points_at_the_callers_line_through_a_layer(self):
        pool = MaxPool2D("pool", (1, 2, 2), 2, 2)
        with tinyml.use_backend("fake"), pytest.warns(UserWarning, match="selected") as caught:
            pool(np.zeros((1, 1, 2, 2)))
        assert caught[0].filename == __file__

    def test_what_runs_nothing_does_not_warn(self):
        _, switches = tinyml.max_pool(np.zeros((1, 1, 2, 2)), 2)
        with tinyml.use_backend("fake"), warnings.catch_warnings():
            warnings.simplefilter("error")
            tinyml.to_numpy(np.zeros(1))
            switches.to("plane")

    def test_an_owner_is_the_selected_backend_or_the_plain_one(self, second, fake):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for which, owner in (("second", second), ("fake", resolve("numpy"))):
                with tinyml.use_backend(which):
                    assert owner_of(np.zeros(1)) is owner
                    assert owner_of(FakeArray()) is fake
            with tinyml.use_backend("auto"):
                assert owner_of(np.zeros(1)) is resolve("numpy")
        with pytest.raises(TypeError, match="list, which is no array of a known library"):
            owner_of([1.0])

    def test_cupy_arrays_are_known_without_cupy(self, no_cupy):
        array = type("ndarray", (), {"__module__": "cupy"})()
        with pytest.raises(tinyml.BackendUnavailableError, match="backend 'cupy' cannot run"):
            backend_for(array)

    @pytest.mark.parametrize("selected", ["numpy", "fake", "auto"])
    def test_two_libraries_are_refused(self, selected):
        message = "arrays live on fake:0 and numpy; .*asarray"
        with (
            tinyml.use_backend(selected),
            pytest.raises(tinyml.MixedBackendError, match=message) as caught,
        ):
            backend_for(np.zeros(1), FakeArray())
        assert isinstance(caught.value, TypeError)

    @pytest.mark.parametrize("selected", ["numpy", "fake"])
    def test_two_devices_are_refused(self, selected):
        with (
            tinyml.use_backend(selected),
            pytest.raises(tinyml.MixedBackendError, match="fake:0 and fake:1"),
        ):
            backend_for(FakeArray(0), FakeArray(1))

    def test_mixing_in_an_operation(self):
        _, switches = tinyml.max_pool(np.zeros((1, 1, 2, 2)), 2)
        with pytest.raises(tinyml.MixedBackendError):
            tinyml.max_unpool(FakeArray(), switches)
        with pytest.raises(tinyml.MixedBackendError):
            tinyml.max_pool_gradient(FakeArray(), switches)
        with pytest.raises(tinyml.MixedBackendError):
            tinyml.max_unpool_gradient(FakeArray(), switches)

    @pytest.mark.parametrize("thing", [[1.0], 2, None, "x", object()])
    def test_other_things_are_refused(self, thing):
        with pytest.raises(TypeError, match=r"tinyml\.asarray\(a, backend=None\)"):
            backend_for(thing)


class TestArraysInAndOut:
    def test_asarray(self, second, no_cupy):
        x = np.arange(3.0)
        assert tinyml.asarray(x) is x
        assert tinyml.asarray(x, "second") is x
        assert tinyml.asarray(x, second) is x
        assert tinyml.asarray(x, "auto") is x
        assert tinyml.asarray([[1, 2]]).tolist() == [[1, 2]]
        assert tinyml.to_numpy(x) is x

    def test_dlpack_shares_memory(self):
        class Tensor:
            def __init__(self, array):
                self.array = array

            def __dlpack__(self, **arguments):
                return self.array.__dlpack__(**arguments)

            def __dlpack_device__(self):
                return self.array.__dlpack_device__()

        x = np.arange(3.0)
        shared = tinyml.asarray(Tensor(x))
        x[0] = 7
        assert shared[0] == 7

    @pytest.mark.parametrize("thing", ["text", object(), [[1], [2, 3]], {"a": 1}, None])
    def test_what_is_no_array(self, thing):
        with pytest.raises(TypeError, match=r"^a (is a|has dtype) "):
            tinyml.asarray(thing)

    def test_masks_are_not_lost(self):
        masked = np.ma.array([1.0, 2.0], mask=[False, True])
        with pytest.raises(TypeError, match=r"a masked array would lose its mask"):
            tinyml.asarray(masked)
        with pytest.raises(
            TypeError, match=r"x is a masked array, whose mask would be lost; fill it: a\.filled"
        ):
            tinyml.max_pool(masked.reshape(1, 1, 2), 2)

    def test_byte_order(self):
        swapped = np.arange(4, dtype=">f4").reshape(1, 1, 4)
        with pytest.raises(TypeError, match=r"dtype >f4; .* in the machine's byte order"):
            tinyml.max_pool(swapped, 2)
        y, _ = tinyml.max_pool(tinyml.asarray(swapped), 2)
        assert y.tolist() == [[[1, 3]]]

    def test_to_numpy_refuses_lists(self):
        with pytest.raises(TypeError, match=r"tinyml\.asarray"):
            tinyml.to_numpy([1.0])


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("cupy", "TINYML_BACKEND=cupy: backend 'cupy' cannot run: .* use 'numpy'"),
        ("cupy:1", "TINYML_BACKEND=cupy:1: backend 'cupy:1' cannot run: .* use 'numpy'"),
        ("cupi", "TINYML_BACKEND=cupi: unknown backend 'cupi'; known are .* did you mean 'cupy'"),
    ],
)
def test_a_variable_that_cannot_be_met(monkeypatch, which, reason):
    monkeypatch.setenv("TINYML_BACKEND", which)
    monkeypatch.setattr(registry, "_made", {})
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if CuPy were not installed
    error = ValueError if which == "cupi" else tinyml.BackendUnavailableError
    for _ in range(2):  # the error is raised again at the second look-up
        with pytest.raises(error, match=reason):
            tinyml.max_pool(np.zeros((1, 1, 2, 2)), 2)


def test_the_contract_is_a_class():
    assert issubclass(NumpyBackend, Backend)
