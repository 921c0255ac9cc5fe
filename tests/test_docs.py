"""Every example in the documentation runs."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import tinyml
import tinyml_backends
from conftest import peer
from tinyml_backends import registry

pytestmark = pytest.mark.host

ROOT = Path(__file__).parent.parent
MODULES = [
    module.name
    for package in (tinyml, tinyml_backends)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(autouse=True)
def leave_no_backend_behind(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    if name.startswith("tinyml_backends.numba_backend."):
        peer("numba")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_examples(page):
    assert doctest.testfile(str(page), module_relative=False).failed == 0


@pytest.mark.parametrize("name", [n for n in tinyml.__all__ if not n.endswith("Error")])
def test_everything_public_has_an_example(name):
    public = getattr(tinyml, name)
    assert ">>> " in inspect.getdoc(public)


def test_every_row_of_rules_is_a_test():
    rules = (ROOT / "docs/pooling.md").read_text().partition("## What tinyml does")[2]
    rows = [line for line in rules.splitlines() if line.startswith("| ")][1:]
    named = [re.search(r"`(\w+\.py)::(\w+)` \|$", row) for row in rows if not row.startswith("|-")]
    assert len(named) > 20
    for row, match in zip(rows, named, strict=True):
        assert match, row
        file, function = match.groups()
        assert f"def {function}(" in (ROOT / "tests" / file).read_text(), row
