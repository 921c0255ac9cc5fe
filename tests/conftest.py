"""One suite for every backend: ``pytest --backend NAME`` (repeatable; default numpy)."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import hypothesis
import pytest

import tinyml
from support.backends import Second
from tinyml_backends import Backend, registry, resolve, selection

#: The CuPy backend whose kernels g++ compiles and the CPU runs; never a real GPU.
EMULATED = "cupy-emulated"

# No deadline: the first example of a run also imports peers and compiles kernels, which is slow.
_COMMON = {
    "deadline": None,
    "suppress_health_check": [
        hypothesis.HealthCheck.function_scoped_fixture,  # `backend` keeps nothing between examples
        hypothesis.HealthCheck.too_slow,
    ],
}
hypothesis.settings.register_profile("ci", max_examples=60, derandomize=True, **_COMMON)
hypothesis.settings.register_profile("full", max_examples=2000, **_COMMON)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        metavar="NAME",
        help="backend to test, by its registered name; repeatable (default: numpy)",
    )

    parser.addoption(
        "--passed",
        metavar="FILE",
        help="write the tests of the backend that passed, one a line, with the backend's name left "
        "out: if two backends passed the same tests, their files are equal",
    )

    parser.addoption(
        "--cuda-checks",
        action="store_true",
        help="also run the slow checks of the CUDA kernels, which need no GPU: planted faults, "
        "sanitizers, compilation for every architecture, the demo and the benchmark emulated",
    )


def pytest_configure(config: pytest.Config) -> None:
    if any(name.partition(":")[0] == EMULATED for name in _names(config)):
        from emulation.preload import ensure_sanitizers

        ensure_sanitizers(config)  # may restart pytest
        tinyml.register_backend(EMULATED, "emulation.backend:EmulatedCupyBackend")
    os.environ.pop("TINYML_BACKEND", None)  # the tests and the processes they start choose backends
    if not config.getoption("--hypothesis-profile"):
        hypothesis.settings.load_profile("ci")
    for name in _names(config):
        try:
            resolve(name)
        except (ValueError, tinyml.BackendUnavailableError) as error:
            raise pytest.UsageError(f"--backend {name}: {error}") from None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let Ctrl-C stop the suite also while a test runs code that handles KeyboardInterrupt."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        session.shouldstop = "interrupted"
        signal.default_int_handler(signum, frame)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", _names(metafunc.config), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check that a test takes the fixture `backend` or is marked `host`; skip what cannot run."""
    lacks_compiler = shutil.which("g++") is None and "g++" not in required()
    checks = config.getoption("--cuda-checks")
    for item in items:
        slow = item.get_closest_marker("cuda_checks") and not item.get_closest_marker("gpu")
        if slow and not checks:
            item.add_marker(pytest.mark.skip(reason="a slow check; --cuda-checks runs it"))
        if lacks_compiler and item.get_closest_marker("emulation"):
            item.add_marker(pytest.mark.skip(reason="g++ is missing, which compiles the kernels"))
        on_backend = "backend" in getattr(item, "fixturenames", ())
        if on_backend == bool(item.get_closest_marker("host")):
            raise pytest.UsageError(
                f"{item.nodeid}: take the fixture `backend`, or mark the test `host`, not both"
            )


_passed: list[str] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):  # type: ignore[no-untyped-def]
    report = yield
    report.backend = getattr(item, "callspec", None) and item.callspec.params.get("backend")
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the backend's tests that passed; with workers, their reports arrive here too."""
    backend = getattr(report, "backend", None)
    if report.when == "call" and report.passed and backend:
        test, _, parameters = report.nodeid.partition("[")
        _passed.append(f"{test}[{parameters.replace(backend, 'BACKEND', 1)}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    file = session.config.getoption("--passed")
    if file and not hasattr(session.config, "workerinput"):
        Path(file).write_text("".join(f"{test}\n" for test in sorted(_passed)))


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The backend under test, selected; make arrays with ``backend.asarray`` only."""
    tinyml.set_backend(request.param)
    yield tinyml.current_backend()
    tinyml.set_backend(None)


def required() -> list[str]:
    """Names in TINYML_REQUIRE: without these, tests fail instead of being skipped."""
    return os.environ.get("TINYML_REQUIRE", "").split(",")


def peer(name: str):  # type: ignore[no-untyped-def]
    """Import a peer library; skip without it, or fail where TINYML_REQUIRE names it."""
    if name in required():
        return __import__(name)
    return pytest.importorskip(name)


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing registered and nothing selected."""
    monkeypatch.delenv("TINYML_BACKEND", raising=False)
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_made", dict(registry._made))
    selection._from_environment.cache_clear()
    monkeypatch.setattr(selection, "_warned_of_cpu", False)
    tinyml.set_backend(None)
    yield
    tinyml.set_backend(None)
    selection._from_environment.cache_clear()


@pytest.fixture
def second(clean_registry: None) -> Backend:
    """Another backend of NumPy arrays, registered as "second"."""
    tinyml.register_backend("second", Second)
    return resolve("second")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks of small cases, without breaks."""
    from support.bench import make_quick

    make_quick(monkeypatch)


@pytest.fixture
def no_cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """CuPy cannot be imported, and its backend has not been made."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    made = {key: backend for key, backend in registry._made.items() if key[0] != "cupy"}
    monkeypatch.setattr(registry, "_made", made)
    registry._for_new_arrays.cache_clear()
    yield
    registry._for_new_arrays.cache_clear()


@pytest.fixture
def gpu() -> Backend:
    """The backend "cupy" on a real GPU; skip without one, or fail where TINYML_REQUIRE says gpu."""
    try:
        return resolve("cupy")
    except tinyml.BackendUnavailableError as error:
        if "gpu" in required():
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def torch():  # type: ignore[no-untyped-def]
    """PyTorch, the reference for what it supports.

    It has one thread, since the threads of all workers' processes would wait for each other.
    """
    library = peer("torch")
    library.set_num_threads(1)
    return library


def _names(config: pytest.Config) -> list[str]:
    return config.getoption("--backend") or ["numpy"]
