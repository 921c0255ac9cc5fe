"""The wheel holds what it should, and nothing else."""

import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tinyml

pytestmark = pytest.mark.host

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, text=True)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def test_two_roots(wheel):
    names = wheel.namelist()
    metadata = f"tinyml_nn-{tinyml.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"tinyml", "tinyml_backends", metadata}


def test_every_source_and_data_file_is_there(wheel):
    source = ("*.py", "*.cu", "*.npz", "*.md", "py.typed")
    for root, package in ((ROOT, "tinyml"), (ROOT / "backends", "tinyml_backends")):
        files = [file for pattern in source for file in (root / package).rglob(pattern)]
        assert len(files) > 5
        for file in files:
            assert file.relative_to(root).as_posix() in wheel.namelist()


def test_the_licences_travel_along(wheel):
    names = [name for name in wheel.namelist() if "/licenses/" in name]
    assert {name.rpartition("/")[2] for name in names} == {"LICENSE", "NOTICE"}


def test_the_wheel_works_without_the_clone(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = (
        "import numpy, tinyml, tinyml.data, tinyml_backends\n"
        "image = tinyml.data.load_nuclei().image[None, None]\n"
        "y, switches = tinyml.max_pool(image, 2)\n"
        "assert tinyml.max_unpool(y, switches).shape == image.shape\n"
        "import tinyml.bench.cases\n"
        "assert len(tinyml.bench.cases.CASES) > 40\n"
        "print(tinyml.__file__, tinyml_backends.__file__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(path.startswith(str(tmp_path)) for path in run.stdout.split())


def test_an_older_python_is_refused_before_anything_is_resolved(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    monkeypatch.setattr(sys, "version", "3.10.13 (main)")
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer; this is Python 3\.10\.13$"):
        runpy.run_path(str(ROOT / "build_backend.py"))
