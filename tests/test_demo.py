"""``tinyml demo`` with few steps, and all invalid arguments."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner

import tinyml
from support.compare import assert_same_bits
from tinyml.cli import demo, main
from tinyml.data import load_nuclei

pytestmark = pytest.mark.host

matplotlib = pytest.importorskip("matplotlib")
tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command, run in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["demo", *map(str, arguments)])


@pytest.fixture
def pair(tmp_path):
    """A small annotated image, 70×140, as arrays."""
    image, instances = load_nuclei()
    return image[100:170, 100:240], instances[100:170, 100:240]


class TestRun:
    def test_what_it_prints_and_writes(self, run, tmp_path):
        result = run("--steps", 3)
        assert result.exit_code == 0, result.output
        lines = result.output.splitlines()
        names = ["image", "backend", "network", "training", "switches", "picture", "model", "IoU"]
        assert [line.split()[0] for line in lines[:-1]] == names
        number = r"0\.\d{3}"
        assert re.fullmatch(
            rf"IoU {number} \(threshold 0\.773\), pixel accuracy {number} \(threshold 0\.955\)",
            lines[-2],
        )
        assert lines[1].endswith("numpy")
        assert "3 steps of 8 crops" in lines[3]
        # winners are one byte each, over three levels: 1/4 + 1/16 + 1/64 of 16 × 512 × 256 cells
        assert "688,128 bytes for the right half; int64 indices would take 5,505,024" in lines[4]
        picture = imagecodecs.png_decode((tmp_path / "tinyml-demo.png").read_bytes())
        assert picture.shape[0] > 500
        assert picture.std() > 20

    def test_it_learns_in_a_few_steps(self):
        data = demo.halves(*demo.nuclei()[:2])
        learner = demo.build(data, 0)
        demo.train(learner, data, 60, 0)
        result = demo.find(learner, data, 0.0)
        assert demo.score(result.found, data.mask[:, data.cut :]).iou > 0.8

    def test_the_right_half_does_not_reach_the_weights(self):
        image, mask, _ = demo.nuclei()
        noise = np.random.default_rng(0)
        other, other_mask = image.copy(), mask.copy()
        other[:, :, 256:] = noise.integers(0, 256, other[:, :, 256:].shape)
        other_mask[:, 256:] = noise.integers(0, 2, other_mask[:, 256:].shape)
        models = []
        for pair in ((image, mask), (other, other_mask)):
            data = demo.halves(*pair)
            learner = demo.build(data, 0)
            demo.train(learner, data, 5, 0)
            models.append(learner.model)
        one, two = models
        for a, b in zip(one.parameters + one.buffers, two.parameters + two.buffers, strict=True):
            assert_same_bits(a.tensor, b.tensor)

    def test_seeds(self):
        data = demo.halves(*demo.nuclei()[:2])

        def losses(seed):
            learner = demo.build(data, seed)
            demo.train(learner, data, 3, seed)
            return learner.history["loss"]

        assert losses(1) == losses(1) != losses(2)

    def test_output_seed_and_backend(self, run, tmp_path):
        (tmp_path / "out").mkdir()
        result = run("--steps", 1, "--seed", 3, "--backend", "numpy", "--output", "out/a.png")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "out/a.png").exists()
        assert not (tmp_path / "tinyml-demo.png").exists()

    def test_a_full_disk_does_not_lose_the_scores(self, run, monkeypatch):
        def full(*arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(demo, "draw", full)
        result = run("--steps", 1)
        assert result.exit_code == 2
        *_, scores, error = result.output.splitlines()
        assert scores.startswith("IoU 0.")
        assert error.startswith("Error: output tinyml-demo.png cannot be written: ")

    def test_a_tall_image_is_readable(self, run, tmp_path, pair):
        np.savez(
            tmp_path / "tall.npz", image=np.tile(pair[0], (9, 1)), mask=np.tile(pair[1], (9, 1))
        )
        result = run("--steps", 1, "--image", "tall.npz", "--mask", "tall.npz")
        assert result.exit_code == 0, result.output
        picture = imagecodecs.png_decode((tmp_path / "tinyml-demo.png").read_bytes())
        assert picture.shape[1] > 1000

    def test_an_interrupt_still_tests_and_draws(self, tmp_path):
        with subprocess.Popen(
            [sys.executable, "-m", "tinyml", "demo", "--steps", "100000"],
            cwd=tmp_path,
            env={**os.environ, "TINYML_BACKEND": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # what a shell runs in the background ignores interrupts, and its children do too
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        ) as process:
            try:
                heading = [process.stdout.readline() for _ in range(3)]
                assert heading[2].startswith("network")  # what follows is the training
                time.sleep(2)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=60)
            finally:
                process.kill()
        assert process.returncode == 0, err
        assert "interrupted before 100000" in out
        assert out.splitlines()[-2].startswith("IoU 0.")
        assert (tmp_path / "tinyml-demo.png").exists()


class TestOwnPair:
    def test_the_command(self, run, tmp_path, pair):
        rgb = np.stack([pair[0]] * 3, -1).astype(np.uint16) * 100
        tifffile.imwrite(tmp_path / "image.tif", rgb, photometric="rgb")
        (tmp_path / "mask.png").write_bytes(imagecodecs.png_encode(pair[1]))
        result = run("--steps", 2, "--image", "image.tif", "--mask", "mask.png")
        assert result.exit_code == 0, result.output
        assert result.output.startswith("image     70×140;")


def mask_of(file):
    return "--mask", file


class TestBadInput:
    """One sentence, exit code 2, no traceback, before any training."""

    @pytest.fixture(autouse=True)
    def no_training(self, monkeypatch):
        monkeypatch.setattr(demo, "train", lambda *a: pytest.fail("it trained"))

    @pytest.fixture
    def refused(self, run, tmp_path):
        def check(message, *arguments):
            result = run(*arguments)
            assert result.exit_code == 2, result.output
            assert "Traceback" not in result.output
            last = result.output.strip().splitlines()
            assert message in last[-1], result.output
            assert isinstance(result.exception, SystemExit)
            assert not (tmp_path / "tinyml-demo.png").exists()

        return check

    @pytest.fixture
    def files(self, tmp_path, pair):
        """Arguments for files with these arrays; an array not given is a valid one."""

        def write(image=pair[0], mask=pair[1]):
            np.savez(tmp_path / "image.npz", image)
            np.savez(tmp_path / "mask.npz", mask)
            return "--image", "image.npz", "--mask", "mask.npz"

        return write

    def test_options(self, refused):
        refused("--image and --mask go together", "--image", "a.png")
        refused("Invalid value for '--steps': 0 is not in the range x>=1.", "--steps", 0)
        refused("Invalid value for '--seed'", "--seed", "-1")
        refused("unknown backend 'nunpy'", "--backend", "nunpy")
        refused("backend 'cupy' cannot run: ", "--backend", "cupy")
        refused("No such option '--stepps'", "--stepps", 3)

    def test_output(self, refused, tmp_path):
        refused("output none/a.png cannot be written: No such file", "--output", "none/a.png")
        (tmp_path / "folder").mkdir()
        refused("'folder' is a directory", "--output", "folder")
        refused("output a.xyz is none of .jpg, .pdf, .png, .svg", "--output", "a.xyz")
        refused("output a is none of", "--output", "a")
        os.mkfifo(tmp_path / "pipe.png")
        refused("output pipe.png cannot be written: it is no regular file", "--output", "pipe.png")
        (tmp_path / "link.png").symlink_to("gone/target.png")
        assert not (tmp_path / "a.xyz").exists()

    def test_an_existing_picture_survives_a_refused_run(self, refused, tmp_path):
        (tmp_path / "old.png").write_bytes(b"old")
        refused("go together", "--output", "old.png", "--mask", "a.png")
        refused("unknown backend", "--output", "old.png", "--backend", "nunpy")
        assert (tmp_path / "old.png").read_bytes() == b"old"

    def test_sizes(self, refused, files, pair):
        refused(
            "image image.npz has 70×140 pixels and mask mask.npz 70×139; they must have the same",
            *files(mask=pair[1][:, :-1]),
        )
        refused(
            "the image has 63×140 pixels; it must have at least 64×128",
            *files(*(a[:63] for a in pair)),
        )
        refused("70×127 pixels", *files(*(a[:, :127] for a in pair)))

    def test_masks(self, refused, files, pair):
        mask = pair[1]
        refused("left half of the mask is all background (0)", *files(mask=mask * 0))
        refused("left half of the mask is all foreground (not 0)", *files(mask=mask * 0 + 1))
        right_empty = mask * (np.arange(140) < 70)
        refused("right half of the mask is all background", *files(mask=right_empty.astype("u1")))

    def test_arrays(self, refused, files, pair):
        refused("image image.npz has dtype float64; it must be uint8", *files(pair[0] * 1.0))
        refused("mask mask.npz has dtype complex128", *files(mask=pair[1] * 1j))
        refused("image image.npz has shape (70, 140, 5)", *files(np.zeros((70, 140, 5), "u1")))
        refused("image image.npz has shape (70,)", *files(pair[0][:, 0]))
        refused("has shape (0, 140)", *files(pair[0][:0]))

    def test_files(self, refused, files, tmp_path, pair):
        _, image, _, mask = files()
        for name, content in (("a.png", b"text"), ("a.tif", b"text"), ("a.npz", b"text")):
            (tmp_path / name).write_bytes(content)
            refused(f"image {name} cannot be read: ", "--image", name, "--mask", mask)
        good = imagecodecs.png_encode(pair[0])
        (tmp_path / "cut.png").write_bytes(good[: len(good) // 2])
        refused("image cut.png cannot be read: ", "--image", "cut.png", "--mask", mask)
        refused(
            "mask gone.png cannot be read: No such file", "--image", image, "--mask", "gone.png"
        )
        refused(
            "image a.gif is none of .png, .jpg, .jpeg, .bmp, .tif, .tiff, .npz, .npy",
            *("--image", "a.gif", "--mask", mask),
        )
        np.savez(tmp_path / "two.npz", a=pair[0], b=pair[0])
        refused("it holds a, b, no array named 'image'", "--image", "two.npz", "--mask", mask)
        np.savez(tmp_path / "object.npz", np.array([{}]))
        refused("image object.npz cannot be read: ", "--image", "object.npz", "--mask", mask)

        np.savez(tmp_path / "none.npz")
        refused("it holds nothing, no array", "--image", "none.npz", *mask_of(mask))
        tifffile.imwrite(tmp_path / "pages.tif", np.stack([pair[0]] * 2), photometric="minisblack")
        refused("it has 2 pages; save the one", "--image", "pages.tif", *mask_of(mask))
        tifffile.imwrite(tmp_path / "white.tif", pair[0], photometric="miniswhite")
        refused("its pixels are MINISWHITE", "--image", "white.tif", *mask_of(mask))

    def test_a_constant_image(self, refused, files, pair):
        refused("left half of the image is constant", *files(image=pair[0] * 0))

    def test_the_users_own_files_survive(self, refused, files, tmp_path, pair):
        (tmp_path / "image.png").write_bytes(imagecodecs.png_encode(pair[0]))
        _, _, _, mask = files()
        before = (tmp_path / "image.png").read_bytes()
        refused(
            "output image.png is your image or mask; name another file",
            *("--image", "image.png", "--mask", mask, "--output", "image.png"),
        )
        assert (tmp_path / "image.png").read_bytes() == before

    def test_a_diverged_training(self, run, monkeypatch):
        def diverge(*arguments):
            raise FloatingPointError("the loss is nan at step 3 with learning rate 0.005")

        monkeypatch.setattr(demo, "train", diverge)
        result = run()
        assert result.exit_code == 2
        assert result.output.endswith("Error: the loss is nan at step 3 with learning rate 0.005\n")

    def test_without_the_extra(self, refused, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setattr(
            "tinyml.cli.demo.find_spec", lambda name: None if name == "matplotlib" else True
        )
        refused("the demo needs matplotlib; in the clone of tinyml run: python3 -m pip install")


def test_help_is_worth_reading():
    text = CliRunner().invoke(main, ["demo", "--help"]).output
    for word in (
        "nuclei",
        "--backend",
        "--steps",
        "--seed",
        "--output",
        "--image",
        "--mask",
        "Ctrl-C",
    ):
        assert word in text


def test_the_environment_chooses_the_backend(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "tinyml", "demo", "--steps", "1"],
        cwd=tmp_path,
        env={**os.environ, "TINYML_BACKEND": "cupy"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("Error: TINYML_BACKEND=cupy: backend 'cupy' cannot run: ")
    assert tinyml.current_backend().name == "numpy"
