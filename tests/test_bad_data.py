"""Folders with files that cannot be read, and downloads that were left half-done."""

import os

import numpy as np
import pytest

from tinyml.data import mnist, pairs, read_classes, read_masks
from tinyml_backends.errors import DownloadError

pytestmark = pytest.mark.host


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        np.save(folder / name, np.eye(8, dtype=np.uint8))
    return folder


@pytest.fixture
def animals(tmp_path):
    return write(tmp_path, *(f"{c}/{i}.npy" for c in ("cat", "dog") for i in range(2)))


def test_bad_files_are_counted_and_named(animals):
    for i in range(12):
        (animals / "cat" / f"bad{i:02}.npy").write_bytes(b"junk")
    with pytest.raises(
        ValueError, match=r"bad00.npy cannot be read: .*; 12 files cannot .* bad09.npy and 2 more$"
    ):
        read_classes(animals)
    assert len(read_classes(animals, skip_bad=True).skipped) == 12


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_named_pipe_is_not_waited_for(animals):
    os.mkfifo(animals / "cat" / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe.png cannot be read: it is no regular file$"):
        read_classes(animals)
    (reason,) = read_classes(animals, skip_bad=True).skipped
    assert "pipe.png" in reason


def test_a_missing_package_is_no_bad_file(tmp_path, monkeypatch):
    def missing(file, role):
        raise ModuleNotFoundError("No module named 'PIL'", name="PIL")

    write(tmp_path, "images/a.npy", "masks/a.npy")
    monkeypatch.setitem(pairs._READERS, ".npy", missing)
    with pytest.raises(ValueError, match=r"needs PIL, which is not installed; .*\[demo\]"):
        read_masks(tmp_path, skip_bad=True)


def test_a_whole_part_is_not_downloaded_again(tmp_path):
    (tmp_path / "f.part").write_bytes(b"")
    empty = mnist._sha256(tmp_path / "f.part")
    mnist._download("http://nowhere.invalid/f", tmp_path / "f", 0, empty)
    assert [f.name for f in tmp_path.iterdir()] == ["f"]


def test_a_part_that_the_server_refuses_is_dropped(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise mnist.urllib.error.HTTPError("", 416, "Range Not Satisfiable", None, None)

    monkeypatch.setattr(mnist.urllib.request, "urlopen", refuse)
    (tmp_path / "f.part").write_bytes(b"xx")
    with pytest.raises(DownloadError, match="Range Not Satisfiable"):
        mnist._download("http://nowhere.invalid/f", tmp_path / "f", 9, "")
    assert not list(tmp_path.iterdir())
