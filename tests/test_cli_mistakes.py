"""Mistakes of a user that each command must find before it works, in one sentence."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import tinyml
from tinyml.batches import batches_of
from tinyml.cli import main, recipes
from tinyml.data import Augmented, mnist, read_image, read_masks
from tinyml.models import lenet, segnet
from tinyml.prediction import Task, classify, segment
from tinyml_backends.errors import DownloadError

pytestmark = pytest.mark.host

pytest.importorskip("PIL.Image")


@pytest.fixture
def failed(tmp_path, monkeypatch):
    """One sentence on standard error, exit code 2, and no new file."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        before = sorted(tmp_path.rglob("*"))
        result = CliRunner().invoke(main, [*map(str, arguments)])
        assert result.exit_code == 2, result.output
        assert sorted(tmp_path.rglob("*")) == before
        (line,) = result.stderr.splitlines()
        return line.removeprefix("Error: ")

    return call


DIGITS = ("train", "classify", "--data", "digits", "--epochs", 1)
NUCLEI = ("train", "segment", "--data", "nuclei", "--epochs", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*DIGITS, "--output", ""), "--output is empty; it must be a file"),
        ((*DIGITS, "--learning-rate", "nan"), "--learning-rate is nan; it must be finite"),
        ((*NUCLEI, "--learning-rate", "inf"), "--learning-rate is inf; it must be finite"),
        (
            (*DIGITS, "--size", "16x16"),
            "--size is for a folder of images; leave it out with digits",
        ),
        ((*NUCLEI, "--classes", "a,b"), "--classes is for a folder of images; leave it out with"),
        ((*NUCLEI, "--crop", 63), "--crop is 63; it must be a multiple of 8"),
        ((*DIGITS, "--output", "a.png", "--plot", "a.png"), "--plot and --output are both a.png"),
    ],
)
def test_options_of_train(failed, arguments, message):
    assert failed(*arguments).startswith(message)


@pytest.mark.parametrize("names", ["a,,b", "", "a,a"])
def test_names_of_classes(failed, tmp_path, names):
    arguments = ("train", "segment", "--data", tmp_path, "--classes", names)
    assert failed(*arguments).startswith(f"--classes is {names!r}; it must be different names")


@pytest.mark.parametrize("size", ["65537x8", "8x99999999999999999999", "8x" + "9" * 5000])
def test_a_size_that_no_memory_holds(failed, tmp_path, size):
    message = failed("train", "classify", "--data", tmp_path, "--size", size)
    assert message.endswith("; height and width must be at most 65536")


def test_a_missing_image_is_found_before_the_first_is_predicted(failed, tmp_path):
    task = Task("segment", ("a", "b"), (0.0,), (1.0,), "uint8")
    model = segnet((1, 16, 16), 2, depth=1, channels=2)
    tinyml.save(model, tmp_path / "m.safetensors", info=task.as_info())
    np.save(tmp_path / "one.npy", np.zeros((16, 16), np.uint8))
    message = failed("predict", "m.safetensors", "one.npy", "two.npy", "--output", "found")
    assert message.startswith("image two.npy cannot be read: No such file or directory; --skip-bad")


@pytest.mark.parametrize("count", [0, 257])
def test_the_number_of_classes(count):
    with pytest.raises(ValueError, match=f"classes has {count} names; it must have 1 to 256"):
        Task("segment", ("a",) * count, (0.0,), (1.0,), "uint8")


def test_the_number_of_axes():
    task = Task("segment", ("a",), (0.0,), (1.0,), "uint8")
    with pytest.raises(ValueError, match=r"has the shape \(8, 8\); it must have \(channels, heig"):
        task.check(np.zeros((8, 8), np.uint8))


def test_a_model_with_another_number_of_outputs():
    image, names = np.zeros((1, 16, 16), np.uint8), ("a", "b", "c")
    with pytest.raises(ValueError, match="has 2 outputs, and classes 3 names"):
        segment(
            segnet((1, 16, 16), 2, depth=1, channels=2),
            Task("segment", names, (0.0,), (1.0,), "uint8"),
            image,
        )
    with pytest.raises(ValueError, match="has 2 outputs, and classes 3 names"):
        classify(lenet((1, 16, 16), 2), Task("classify", names, (0.0,), (1.0,), "uint8"), [image])


def test_an_image_named_by_a_string(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(4, dtype=np.uint8))
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.npy")), np.eye(4)[None])


def test_the_number_of_batches_is_known_before_an_epoch():
    rng = np.random.default_rng(0)
    augmented = Augmented(np.zeros((5, 1, 4, 4), np.float32), np.zeros(5, int), 2)
    assert batches_of(augmented, 1, rng)[1] == 3
    assert batches_of(recipes.nuclei(16).train, 1, rng)[1] == recipes.CROP_BATCHES


def test_a_skipped_mask_of_another_size_is_named(tmp_path):
    for name, side in (("images", 8), ("masks", 4)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "good.npy", np.eye(8, dtype=np.uint8))
        np.save(tmp_path / name / "bad.npy", np.eye(side, dtype=np.uint8))
    (reason,) = read_masks(tmp_path, skip_bad=True).skipped
    assert "bad.npy has 8×8 pixels and mask" in reason


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_connection_problem(tmp_path, monkeypatch, number):
    def full(*arguments, **options):
        raise OSError(number, "the disk is full")

    monkeypatch.setattr(mnist.urllib.request, "urlopen", full)
    with pytest.raises(DownloadError, match=r"gz.part cannot be written: the disk is full; free"):
        mnist.fetch_mnist(tmp_path)


def test_an_interrupted_command_exits_with_130(tmp_path, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinyml.cli.predict.read", interrupted)
    np.save("a.npy", np.zeros((8, 8), np.uint8))
    result = CliRunner().invoke(main, ["predict", "a.npy", "a.npy", "--output", "found"])
    assert result.exit_code == 130
    assert result.stderr == "Error: interrupted\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy"]


def test_an_interrupt_while_modules_are_imported():
    code = """
import sys, tinyml.__main__
class Interrupts:
    def find_spec(self, name, *rest):
        if name == "tinyml.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
tinyml.__main__.main()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "")
