"""One suite for every backend: ``pytest --backend NAME`` (repeatable; default numpy)."""

import os
from collections.abc import Iterator

import hypothesis
import pytest

import tinyml
from tinyml_backends import Backend, resolve

# Importing a peer under test is slow, and the first example of a run pays for it: no deadline.
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


def pytest_configure(config: pytest.Config) -> None:
    os.environ.pop("TINYML_BACKEND", None)  # the suite, and what it starts, choose their own
    if not config.getoption("--hypothesis-profile"):
        hypothesis.settings.load_profile("ci")
    for name in _names(config):
        try:
            resolve(name)
        except (ValueError, tinyml.BackendUnavailableError) as error:
            raise pytest.UsageError(f"--backend {name}: {error}") from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", _names(metafunc.config), indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test either runs on every backend or says that it need not."""
    for item in items:
        on_backend = "backend" in getattr(item, "fixturenames", ())
        if on_backend == bool(item.get_closest_marker("host")):
            raise pytest.UsageError(
                f"{item.nodeid}: take the fixture `backend`, or mark the test `host`, not both"
            )


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The backend under test, selected; make arrays with ``backend.asarray`` only."""
    tinyml.set_backend(request.param)
    yield tinyml.current_backend()
    tinyml.set_backend(None)


def peer(name: str):  # type: ignore[no-untyped-def]
    """Import a peer library; skip without it, or fail where TINYML_REQUIRE names it."""
    if name in os.environ.get("TINYML_REQUIRE", "").split(","):
        return __import__(name)
    return pytest.importorskip(name)


@pytest.fixture(scope="session")
def torch():  # type: ignore[no-untyped-def]
    """PyTorch, the reference for what it supports."""
    return peer("torch")


def _names(config: pytest.Config) -> list[str]:
    return config.getoption("--backend") or ["numpy"]
