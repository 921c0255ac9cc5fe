"""Which backend is selected: scopes, the process, the environment, threads and tasks."""

import asyncio
import sys
import threading
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

import tinyml
from support.backends import Second
from tinyml_backends import backend_for, registry

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("clean_registry")]

FASTEST = "numba" if find_spec("numba") else "numpy"


def current():
    return tinyml.current_backend().name


class TestSelection:
    def test_numpy_is_the_default(self):
        assert current() == "numpy"

    def test_order_of_precedence(self, second, monkeypatch):
        monkeypatch.setenv("TINYML_BACKEND", "second")
        assert current() == "second"
        tinyml.set_backend("numpy")
        assert current() == "numpy"
        with tinyml.use_backend("second") as backend:
            assert backend is tinyml.current_backend() is second
        assert current() == "numpy"
        tinyml.set_backend(None)
        assert current() == "second"

    def test_an_empty_variable_is_no_choice(self, monkeypatch):
        monkeypatch.setenv("TINYML_BACKEND", "")
        assert current() == "numpy"

    def test_the_variable_is_read_at_the_first_look_up(self, second, monkeypatch):
        monkeypatch.setenv("TINYML_BACKEND", "second")
        assert current() == "second"
        monkeypatch.setenv("TINYML_BACKEND", "numpy")
        assert current() == "second"

    def test_blocks_nest_and_restore_on_exceptions(self, second):
        def fail_inside():
            with tinyml.use_backend("numpy"):
                assert current() == "numpy"
                raise KeyError

        with tinyml.use_backend("second"):
            with pytest.raises(KeyError):
                fail_inside()
            assert current() == "second"
        assert current() == "numpy"

    def test_a_refused_choice_changes_nothing(self, second):
        tinyml.set_backend("second")
        with pytest.raises(ValueError, match="unknown backend"):
            tinyml.set_backend("secnod")
        with pytest.raises(tinyml.BackendUnavailableError):
            tinyml.set_backend("cupy:99")
        with pytest.raises(tinyml.BackendUnavailableError), tinyml.use_backend("cupy:99"):
            pass
        assert current() == "second"

    def test_threads_see_the_process_but_no_others_block(self, second):
        seen = {}

        def look(key):
            seen[key] = current()

        def in_thread(key):
            thread = threading.Thread(target=look, args=(key,))
            thread.start()
            thread.join()

        with tinyml.use_backend("second"):
            in_thread("block")
        tinyml.set_backend("second")
        in_thread("process")
        assert seen == {"block": "numpy", "process": "second"}

    def test_two_threads_select_independently(self, second):
        barrier = threading.Barrier(2, timeout=30)
        seen = {}

        def run(name):
            with tinyml.use_backend(name):
                barrier.wait()
                seen[name] = current()
                barrier.wait()

        threads = [threading.Thread(target=run, args=(n,)) for n in ("numpy", "second")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == {"numpy": "numpy", "second": "second"}

    def test_asyncio_tasks_select_independently(self, second):
        async def task(name, entered, other):
            with tinyml.use_backend(name):
                entered.set()
                await other.wait()
                await asyncio.sleep(0)
                return current()

        async def main():
            first, last = asyncio.Event(), asyncio.Event()
            names = await asyncio.gather(task("second", first, last), task("numpy", last, first))
            return names, current()

        assert asyncio.run(main()) == (["second", "numpy"], "numpy")

    def test_a_backend_object_is_selected_as_it_is(self):
        mine = Second()
        with tinyml.use_backend(mine):
            assert tinyml.current_backend() is mine

    def test_auto_takes_what_there_is(self, no_cupy):
        with tinyml.use_backend("auto") as backend:
            assert backend.name == FASTEST
            assert backend_for(np.zeros(1)).name == FASTEST

    def test_auto_without_numba(self, monkeypatch, no_cupy):
        monkeypatch.setitem(sys.modules, "numba", None)
        registry._made.pop(("numba", None), None)
        with tinyml.use_backend("auto"):
            assert backend_for(np.zeros(1)).name == "numpy"

    def test_the_original_backend_module(self, second):
        from tinyml.core import Backend as xp

        assert xp.arange is np.arange
        second.xp = SimpleNamespace(arange="second's", __name__="second")
        with tinyml.use_backend("second"):
            assert xp.arange == "second's"
            assert "arange" in dir(xp)
            assert "second" in repr(xp)
        assert xp.arange is np.arange
