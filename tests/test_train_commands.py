"""``tinyml train``, ``predict`` and ``summary`` as users call them, and all invalid arguments."""

import csv
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
from tinyml.checkpoint import file, read
from tinyml.cli import demo, main
from tinyml.data import load_digits, load_nuclei
from tinyml.models import autoencoder, lenet, segnet, unet
from tinyml.prediction import Task, classify, segment, tiled_scores

pytestmark = pytest.mark.host

Image = pytest.importorskip("PIL.Image")
imagecodecs = pytest.importorskip("imagecodecs")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The program, run in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def failed(run):
    """One sentence on standard error, and exit code 2."""

    def call(*arguments):
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        (line,) = result.stderr.splitlines()
        return line.removeprefix("Error: ")

    return call


def quick(*more):
    return ("train", "segment", "--data", "nuclei", "--epochs", 1, *more)


@pytest.fixture
def short(monkeypatch):
    """Epochs of two steps."""
    monkeypatch.setattr("tinyml.cli.recipes.CROP_BATCHES", 2)


class TestTrain:
    def test_digits(self, run, tmp_path):
        result = run(
            "train", "classify", "--data", "digits", "--epochs", 3, "--output", "d.safetensors"
        )
        assert result.exit_code == 0, result.output
        lines = result.output.splitlines()
        assert lines[0].startswith("network   lenet, ")
        assert [line.split()[0] for line in lines[1:]] == [*["epoch"] * 3, "best", "model", "next"]
        accuracy = float(re.search(r"accuracy (0\.\d+) on 359 images", lines[4])[1])
        assert accuracy > 0.9
        found = read(tmp_path / "d.safetensors")
        task = Task.of_info(found.info)
        assert (task.kind, task.size, task.channels) == ("classify", (8, 8), 1)
        assert task.classes == tuple("0123456789")
        images, labels = load_digits()
        right = classify(found.model, task, list(images[:, None])).argmax(1) == labels
        assert right.mean() > 0.9
        assert not found.model.training

    def test_nuclei(self, run, short, tmp_path):
        result = run(*quick("--output", "n.safetensors", "--plot", "n.png", "--model", "unet"))
        assert result.exit_code == 0, result.output
        assert re.search(r"best      epoch 1: IoU 0\.\d{3} on 1 images held out", result.output)
        assert imagecodecs.png_decode((tmp_path / "n.png").read_bytes()).std() > 10
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "n.last.safetensors",
            "n.png",
            "n.safetensors",
        ]

    def test_resume_gives_the_same_bits(self, run, short, tmp_path, monkeypatch):
        options = ("train", "segment", "--data", "nuclei", "--epochs", 3)
        assert run(*options, "--output", "whole.safetensors").exit_code == 0
        from tinyml.learner import Learner

        steps = []
        step = Learner._step

        def interrupted(self, *arguments):
            steps.append(1)
            if len(steps) == 4:
                raise KeyboardInterrupt
            return step(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Learner, "_step", interrupted)
            result = run(*options, "--output", "half.safetensors")
        assert result.exit_code == 130
        assert "the same command with --resume goes on" in result.stderr
        assert "the best of the epochs so far is in half.safetensors" in result.stderr
        result = run(*options, "--output", "half.safetensors", "--resume")
        assert result.exit_code == 0, result.output
        assert "resumed   in epoch 2, after 3 steps" in result.output
        both = [file.read(tmp_path / f"{n}.last.safetensors") for n in ("whole", "half")]
        assert both[0].described["training"] == both[1].described["training"]
        for name, tensor in both[0].tensors.items():
            assert_same_bits(tensor, both[1].tensors[name])

    def test_ctrl_c(self, tmp_path):
        command = [sys.executable, "-m", "tinyml", "train", "classify", "--data", "digits"]
        training = subprocess.Popen(
            command,
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            # what a shell runs in the background ignores interrupts, and its children do too
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        while not training.stdout.readline().startswith("epoch   2"):
            assert training.poll() is None
        time.sleep(0.05)
        training.send_signal(signal.SIGINT)
        _, err = training.communicate(timeout=60)
        assert training.returncode == 130
        assert "Traceback" not in err
        assert "--resume goes on" in err
        assert read(tmp_path / "model.last.safetensors").extra["training.history.loss"].size >= 90
        tinyml.load(tmp_path / "model.safetensors")


class TestTrainErrors:
    def test_resume_without_a_training(self, failed):
        message = failed(*quick("--resume"))
        assert message == (
            "--resume needs model.last.safetensors, which a training writes; leave --resume out"
        )

    def test_resume_with_other_options(self, run, failed, short):
        assert run(*quick()).exit_code == 0
        message = failed(*quick("--resume", "--seed", 3))
        assert "is of a training with --seed 0; resume it with the same options" in message

    def test_output_that_cannot_be_written_is_found_first(self, failed):
        assert "no/m.safetensors cannot be written" in failed(
            *quick("--output", "no/m.safetensors")
        )
        assert "none of .jpg, .pdf" in failed(*quick("--plot", "plot.txt"))

    def test_data(self, failed):
        assert failed("train", "classify", "--data", "nuclei") == (
            "--data is nuclei; it must be 'digits' or a folder"
        )
        assert "it must be 'nuclei' or a folder" in failed("train", "segment", "--data", "no/where")

    def test_crop(self, failed):
        message = failed(*quick("--crop", 512))
        assert message == (
            "an image has 512×256 pixels, and --crop is 512; crops must fit into every image"
        )

    def test_backend(self, failed):
        assert "nonsense" in failed(*quick("--backend", "nonsense"))

    def test_help(self, run):
        for words in (
            ("train",),
            ("train", "classify"),
            ("train", "segment"),
            ("predict",),
            ("summary",),
        ):
            result = run(*words, "--help")
            assert result.exit_code == 0
            assert len(result.output) > 400


@pytest.fixture
def picture(tmp_path):
    """The right half of the packaged image as a file."""
    path = tmp_path / "images" / "right.png"
    path.parent.mkdir()
    path.write_bytes(imagecodecs.png_encode(load_nuclei().image[:, 256:]))
    return path


class TestPredict:
    def test_the_demos_prediction_pixel_for_pixel(self, run, tmp_path, monkeypatch):
        kept = []
        find = demo.find
        monkeypatch.setattr(demo, "find", lambda *a: kept.append(find(*a)) or kept[-1])
        result = run("demo", "--steps", 40)
        assert result.exit_code == 0, result.output
        words = result.output.splitlines()[-1].split()
        assert words[:2] == ["next", "tinyml"]
        result = run(*words[2:])
        assert result.exit_code == 0, result.output
        path = tmp_path / "tinyml-demo-predictions" / "tinyml-demo-input.png"
        found = Image.open(path)
        assert found.mode == "P"
        np.testing.assert_array_equal(np.asarray(found), kept[0].found)
        assert np.asarray(found.convert("L")).max() == 255  # it can be seen
        assert "foreground" in result.output

    def saved(self, tmp_path, model, **options):
        options = {"kind": "segment", "classes": ("a", "b"), "mean": (100.0,)} | options
        task = Task(deviation=(50.0,) * len(options["mean"]), dtype="uint8", **options)
        tinyml.save(model, tmp_path / "m.safetensors", info=task.as_info())
        return task

    def test_any_size_with_a_network_that_takes_multiples(self, run, tmp_path, picture):
        task = self.saved(tmp_path, unet((1, 16, 16), 2, depth=2, channels=2))
        Image.open(picture).crop((0, 0, 61, 43)).save(picture)
        assert run("predict", "m.safetensors", picture, "--output", "out").exit_code == 0
        found = np.asarray(Image.open(tmp_path / "out" / "right.png"))
        assert found.shape == (43, 61)
        image = np.asarray(Image.open(picture))[None]
        model = tinyml.load(tmp_path / "m.safetensors")
        padded = np.pad(image, [(0, 0), (0, 1), (0, 3)], mode="edge")
        assert_same_bits(found, segment(model, task, padded)[:43, :61])

    def test_classes(self, run, tmp_path):
        self.saved(tmp_path, lenet((1, 8, 8), 2), kind="classify", size=(8, 8))
        for name, size in (("a", (8, 8)), ("b", (30, 20))):
            Image.fromarray(np.full(size, 7, np.uint8)).save(tmp_path / f"{name}.png")
        result = run("predict", "m.safetensors", "a.png", "b.png", "--output", "out")
        assert result.exit_code == 0, result.output
        with (tmp_path / "out" / "predictions.csv").open() as table:
            rows = list(csv.reader(table))
        assert rows[0] == ["image", "class", "probability"]
        assert [row[0] for row in rows[1:]] == ["a.png", "b.png"]
        assert rows[1][1:] == rows[2][1:]  # both are of one grey

    def test_bad_files(self, run, failed, tmp_path, picture):
        self.saved(tmp_path, segnet((1, 8, 8), 2, depth=1, channels=2))
        (tmp_path / "bad.png").write_bytes(b"no picture")
        message = failed("predict", "m.safetensors", "bad.png", picture, "--output", "out")
        assert message.startswith("image bad.png cannot be read: ")
        assert message.endswith("; --skip-bad leaves such files out")
        colours = tmp_path / "colours.png"
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(colours)
        message = failed("predict", "m.safetensors", colours, "--output", "out")
        assert "the image has 3 channels; the model takes images of 1" in message
        result = run(
            "predict", "m.safetensors", "bad.png", picture, colours, "--output", "out", "--skip-bad"
        )
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1] == "skipped 2 of 3 images"
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["right.png"]

    def test_a_missing_package(self, failed, tmp_path, monkeypatch):
        self.saved(tmp_path, segnet((1, 8, 8), 2, depth=1, channels=2))
        np.save(tmp_path / "a.npy", np.zeros((9, 9), np.uint8))
        monkeypatch.setitem(sys.modules, "PIL", None)
        message = failed("predict", "m.safetensors", "a.npy", "--output", "out")
        assert message.startswith("predict needs PIL")

    def test_other_errors(self, failed, tmp_path, picture):
        self.saved(tmp_path, segnet((1, 8, 8), 2, depth=1, channels=2))
        tinyml.save(segnet((1, 8, 8), 2, depth=1, channels=2), tmp_path / "bare.safetensors")
        out = ("--output", "out")
        assert failed("predict", "no.safetensors", picture, *out) == (
            "no.safetensors: No such file or directory"
        )
        assert "does not say what its model does" in failed(
            "predict", "bare.safetensors", picture, *out
        )
        assert "is no safetensors file" in failed("predict", picture, picture, *out)
        assert "image no.png cannot be read" in failed("predict", "m.safetensors", "no.png", *out)
        same = tmp_path / "right.png"
        same.write_bytes(picture.read_bytes())
        message = failed("predict", "m.safetensors", picture, same, *out)
        assert message == "two images would be written to out/right.png; predict them one at a time"
        message = failed("predict", "m.safetensors", picture, "--output", picture.parent)
        assert "is one of the images; name another file" in message
        deep = np.full((9, 9), 300, np.uint16)
        (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(deep))
        message = failed("predict", "m.safetensors", "deep.png", *out)
        assert "the image is uint16; the model was trained on uint8" in message
        self.saved(tmp_path, lenet((1, 8, 8), 2))
        message = failed("predict", "m.safetensors", same, *out)
        assert "the image has 512×256 pixels, which Sequential('lenet') cannot take" in message


@pytest.mark.parametrize("tile", [32, 100])
@pytest.mark.parametrize("size", [(200, 333), (128, 256)])
@pytest.mark.parametrize("name", ["segnet", "unet", "autoencoder"])
def test_tiles_have_the_scores_of_the_whole_image(name, size, tile):
    rng = np.random.default_rng(0)
    model = {
        "segnet": lambda: segnet((1, 64, 64), 2, depth=3, channels=4),
        "unet": lambda: unet((1, 64, 64), 2, depth=2, channels=4),
        "autoencoder": lambda: autoencoder((1, 64, 64), channels=(4, 8)),
    }[name]()
    model(rng.standard_normal((2, 1, 64, 64)).astype(np.float32))
    task = Task("segment", ("a", "b"), (100.0,), (50.0,), "uint8")
    image = rng.integers(0, 255, (1, *size)).astype(np.uint8)
    ((_, whole),) = tiled_scores(model, task, image, tile=1000)
    covered = np.zeros(size, int)
    for part, scores in tiled_scores(model, task, image, tile=tile):
        covered[part] += 1
        np.testing.assert_allclose(scores, whole[:, *part], rtol=0, atol=1e-5 * abs(whole).max())
    assert (covered == 1).all()
    assert model.training  # its mode is restored


def test_tiles_of_a_large_image():
    """By default, tiles are smaller than 2,000×2,000 pixels."""
    rng = np.random.default_rng(0)
    model = segnet((1, 64, 64), 2, depth=3, channels=4).eval()
    task = Task("segment", ("a", "b"), (100.0,), (50.0,), "uint8")
    image = rng.integers(0, 255, (1, 2000, 2000)).astype(np.uint8)
    whole = model(task.scaled(image)[None])[0]
    parts = list(tiled_scores(model, task, image))
    assert len(parts) > 1
    for part, scores in parts:
        np.testing.assert_allclose(scores, whole[:, *part], rtol=0, atol=1e-5 * abs(whole).max())


class TestSummary:
    def test_task_and_table(self, run, tmp_path):
        task = Task("segment", ("sky", "road"), (0.5, 1.0), (2.0, 3.0), "uint16")
        model = segnet((2, 16, 16), 2, depth=1, channels=4)
        tinyml.save(model, tmp_path / "m.safetensors", info=task.as_info())
        result = run("summary", "m.safetensors", "--size", "47x33")
        assert result.exit_code == 0, result.output
        lines = result.output.splitlines()
        assert lines[0] == "segment into 2 classes: sky, road"
        assert lines[1] == "inputs: uint16, (pixel - 0.5, 1) / 2, 3"
        assert "4×23×16" in result.output
        assert f"{model.summary().parameters:,}" in result.output

    def test_errors(self, failed, tmp_path):
        tinyml.save(segnet((1, 16, 16), 2, depth=1, channels=4), tmp_path / "m.safetensors")
        assert "it must be height and width, for example 360x480" in failed(
            "summary", "m.safetensors", "--size", "47"
        )
        assert "no.safetensors cannot be read: No such file" in failed("summary", "no.safetensors")
        assert "takes images" not in failed("summary", "m.safetensors", "--size", "1x1")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "x"}, "kind is 'x'; it must be 'classify' or 'segment'"),
        ({"deviation": [0.0]}, "no deviation may be 0"),
        ({"mean": [0.0, 1.0]}, "they must have a number for each channel"),
        ({"surprise": 1}, "the checkpoint's task is not valid"),
    ],
)
def test_tasks_that_are_not_valid(values, message):
    valid = {
        "kind": "segment",
        "classes": ["a"],
        "mean": [0.0],
        "deviation": [1.0],
        "dtype": "uint8",
    }
    assert Task.of_info({"task": valid}).channels == 1
    with pytest.raises(ValueError, match=message):
        Task.of_info({"task": valid | values})
