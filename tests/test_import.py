"""What ``import tinyml`` loads, prints, writes and costs."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.host


def python(code: str, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, **options
    )


@pytest.mark.parametrize("module", ["tinyml", "tinyml.layers", "tinyml.core", "tinyml.data"])
def test_nothing_heavy_is_loaded(module):
    code = f"import sys, {module}; print(*(m.partition('.')[0] for m in sys.modules))"
    loaded = set(python(code).stdout.split())
    assert "numpy" in loaded
    heavy = {"cupy", "numba", "matplotlib", "torch", "click", "importlib_metadata", "asyncio"}
    assert not heavy & loaded


def test_nothing_is_printed_or_written(tmp_path):
    run = python("import tinyml, tinyml.layers", cwd=tmp_path)
    assert run.stdout == run.stderr == ""
    assert not list(tmp_path.iterdir())


def test_the_variable_is_not_read_at_import():
    python("import os; os.environ['TINYML_BACKEND'] = 'nonsense'; import tinyml, tinyml.layers")


def test_a_run_on_numpy_loads_no_other_library():
    code = (
        "import sys, numpy, tinyml\n"
        "y, s = tinyml.max_pool(numpy.zeros((1, 1, 4, 4)), 2); tinyml.max_unpool(y, s)\n"
        "try: tinyml.max_pool([1], 2)\n"
        "except TypeError: pass\n"
        "print(*(m.partition('.')[0] for m in sys.modules))"
    )
    assert not {"cupy", "numba", "matplotlib"} & set(python(code).stdout.split())


def test_the_backends_never_import_tinyml():
    code = (
        "import sys, pkgutil, importlib, tinyml_backends as b\n"
        "for m in pkgutil.walk_packages(b.__path__, 'tinyml_backends.'):\n"
        "    try: importlib.import_module(m.name)\n"
        "    except ModuleNotFoundError as e: assert e.name in ('numba', 'llvmlite', 'xxhash'), e\n"
        "print(*sys.modules)"
    )
    assert "tinyml" not in python(code).stdout.split()
