"""Folders of images, and the commands that train on them."""

import re

import numpy as np
import pytest
from click.testing import CliRunner

from support.compare import assert_same_bits
from tinyml.checkpoint import read
from tinyml.cli import main
from tinyml.data import holdout, load_digits, load_nuclei, read_classes, read_masks
from tinyml.prediction import Task

pytestmark = pytest.mark.host

Image = pytest.importorskip("PIL.Image")
imagecodecs = pytest.importorskip("imagecodecs")


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(array)))


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def classes(tmp_path):
    """Four images of each of three digits."""
    images, labels = load_digits()
    for label in range(3):
        for number in np.flatnonzero(labels == label)[:4]:
            write(tmp_path / "data" / f"digit {label}" / f"{number:04}.png", images[number] * 15)
    (tmp_path / "data" / "readme.txt").write_text("no class")
    (tmp_path / "data" / "digit 0" / "notes.txt").write_text("no image")
    (tmp_path / "data" / ".hidden").mkdir()
    return tmp_path / "data"


@pytest.fixture
def masks(tmp_path):
    """Ten image and mask pairs of the packaged image, of different sizes."""
    image, instances = load_nuclei()
    for number in range(10):
        row, column = 100 * (number // 5), 100 * (number % 5)
        window = np.s_[row : row + 96 + number, column : column + 100]
        write(tmp_path / "data" / "images" / f"{number}.png", image[window])
        write(
            tmp_path / "data" / "masks" / f"{number}.png", (instances[window] > 0) * np.uint8(255)
        )
    return tmp_path / "data"


class TestClasses:
    def test_what_is_read(self, classes):
        data = read_classes(classes)
        assert data.images.shape == (12, 1, 8, 8)
        assert data.images.dtype == np.uint8
        assert data.classes == ("digit 0", "digit 1", "digit 2")
        assert_same_bits(data.labels, np.repeat(np.arange(3), 4))
        assert [f.parent.name for f in data.files[::4]] == list(data.classes)
        expected = np.asarray(Image.open(data.files[5]))
        assert_same_bits(data.images[5, 0], expected)

    def test_sizes(self, classes):
        write(classes / "digit 1" / "large.png", np.full((20, 30), 9, np.uint8))
        with pytest.raises(
            ValueError, match=r"large.png has 20×30 pixels, and .* 8×8; give a size"
        ):
            read_classes(classes)
        data = read_classes(classes, size=(16, 12))
        assert data.images.shape == (13, 1, 16, 12)
        assert (data.images[-5] == 9).all()

    def test_bad_files(self, classes):
        (classes / "digit 2" / "bad.png").write_bytes(b"no image")
        with pytest.raises(ValueError, match=r"bad.png cannot be read"):
            read_classes(classes)
        data = read_classes(classes, skip_bad=True)
        assert len(data.images) == 12
        (problem,) = data.skipped
        assert "bad.png cannot be read" in problem

    def test_errors(self, classes, tmp_path):
        (tmp_path / "empty" / "a").mkdir(parents=True)
        with pytest.raises(ValueError, match="has no images; it must have a folder for each class"):
            read_classes(tmp_path / "empty")
        write(classes / "lonely" / "a.png", np.zeros((8, 8), np.uint8))
        with pytest.raises(ValueError, match=r"class 'lonely' in .* has 1 image that can be read"):
            read_classes(classes)
        write(classes / "lonely" / "b.png", np.zeros((8, 8, 3), np.uint8))
        with pytest.raises(ValueError, match=r"b.png has channels 3, and .* 1; all images must be"):
            read_classes(classes)
        write(classes / "lonely" / "b.png", np.zeros((8, 8), np.uint16))
        with pytest.raises(ValueError, match=r"b.png has dtype uint16, and .* uint8"):
            read_classes(classes)
        one = tmp_path / "one"
        for name in "ab":
            write(one / "only" / f"{name}.png", np.zeros((8, 8), np.uint8))
        with pytest.raises(ValueError, match="has one class, 'only'; it must have 2 or more"):
            read_classes(one)

    def test_train(self, run, classes, tmp_path):
        result = run("train", "classify", "--data", "data", "--epochs", 1, "--model", "mlp")
        assert result.exit_code == 0, result.output
        assert "on 3 images held out" in result.output  # one of each class
        task = Task.of_info(read(tmp_path / "model.safetensors").info)
        assert task.classes == ("digit 0", "digit 1", "digit 2")
        file = next((classes / "digit 1").iterdir())
        result = run("predict", "model.safetensors", file, "--output", "out")
        assert result.exit_code == 0, result.output
        assert re.search(r"digit [012]  \d+\.\d%", result.output)

    def test_train_without_bad_files(self, run, classes):
        (classes / "digit 2" / "bad.png").write_bytes(b"no image")
        result = run("train", "classify", "--data", "data", "--epochs", 1)
        assert result.exit_code == 2
        assert "Traceback" not in result.output
        options = ("--epochs", 1, "--skip-bad", "--size", "12x12")
        result = run("train", "classify", "--data", "data", *options)
        assert result.exit_code == 0, result.output
        assert result.stderr.splitlines()[1] == "skipped 1 files of data"


class TestMasks:
    def test_what_is_read(self, masks):
        data = read_masks(masks)
        assert len(data.pairs) == 10
        assert data.classes == ("background", "foreground")
        image, instances = load_nuclei()
        pair = data.pairs[7]  # row 1, column 2
        assert_same_bits(pair.image[0], image[100:203, 200:300])
        assert_same_bits(pair.mask, (instances[100:203, 200:300] > 0).astype(np.int64))

    def test_several_classes(self, masks):
        write(masks / "masks" / "3.png", np.full((99, 100), 2, np.uint8))
        for number in {*range(10)} - {3}:
            mask = np.asarray(Image.open(masks / "masks" / f"{number}.png")) // 255
            write(masks / "masks" / f"{number}.png", mask)
        assert read_masks(masks).classes == ("0", "1", "2")
        data = read_masks(masks, classes=["sky", "road", "car", "tree"])
        assert (data.pairs[3].mask == 2).all()
        with pytest.raises(
            ValueError, match=r"3.png has the value 2; with 2 classes values must be"
        ):
            read_masks(masks, classes=["sky", "road"])

    def test_errors(self, masks, tmp_path):
        extra = masks / "masks" / "extra.png"
        write(extra, np.zeros((9, 9), np.uint8))
        with pytest.raises(ValueError, match=r"mask .*extra.png has no image; there must be one"):
            read_masks(masks)
        extra.rename(masks / "images" / "extra.png")
        with pytest.raises(ValueError, match=r"image .*extra.png has no mask; there must be one"):
            read_masks(masks)
        write(extra, np.zeros((9, 8), np.uint8))
        with pytest.raises(
            ValueError, match=r"9×9 pixels and mask .* 9×8; they must have the same"
        ):
            read_masks(masks)
        assert len(read_masks(masks, skip_bad=True).pairs) == 10
        write(extra, np.zeros((9, 9, 3), np.uint8))
        with pytest.raises(ValueError, match=r"extra.png has 3 channels; it must have one"):
            read_masks(masks)
        np.save(masks / "images" / "extra.npy", np.zeros((9, 9), np.uint8))
        with pytest.raises(ValueError, match="has several files named extra; leave one of them"):
            read_masks(masks)
        with pytest.raises(ValueError, match="is no folder; a folder of images and masks has both"):
            read_masks(tmp_path)
        for name in ("images", "masks"):
            (tmp_path / "few" / name).mkdir(parents=True)
        with pytest.raises(ValueError, match="few/images has no images"):
            read_masks(tmp_path / "few")
        for name in ("images", "masks"):
            (tmp_path / "few" / name / "a.png").write_bytes(b"no image")
        with pytest.raises(ValueError, match="has no image and mask that can be read"):
            read_masks(tmp_path / "few", skip_bad=True)

    def test_train(self, run, masks, monkeypatch, tmp_path):
        monkeypatch.setattr("tinyml.cli.recipes.CROP_BATCHES", 3)
        options = ("--data", "data", "--epochs", 1, "--classes", "outside,inside")
        result = run("train", "segment", *options)
        assert result.exit_code == 2  # the masks hold 255
        assert "has the value 255; with 2 classes values must be 0 to 1" in result.stderr
        result = run("train", "segment", *options[:4])
        assert result.exit_code == 0, result.output
        assert "on 2 images held out" in result.output


class TestHoldout:
    def test_shares(self):
        kept, held = holdout(1797, 0.2, seed=3)
        assert (len(kept), len(held)) == (1438, 359)
        assert_same_bits(np.sort(np.concatenate([kept, held])), np.arange(1797))
        again = holdout(1797, 0.2, seed=3)
        assert_same_bits(held, again[1])
        assert (held[:100] != holdout(1797, 0.2, seed=4)[1][:100]).any()
        assert [len(part) for part in holdout(2, 0.9)] == [1, 1]

    def test_of_each_class(self):
        labels = np.repeat([5, 7], [10, 4])
        kept, held = holdout(14, 0.3, labels=labels)
        assert sorted(labels[held]) == [5, 5, 5, 7]
        assert len(kept) == 10

    def test_errors(self):
        with pytest.raises(ValueError, match="there is 1 sample; there must be 2 or more"):
            holdout(1)
        with pytest.raises(ValueError, match="there is 1 sample of class 7"):
            holdout(3, labels=np.array([5, 5, 7]))
        with pytest.raises(ValueError, match="share is 1; it must be more than 0 and less than 1"):
            holdout(3, 1)
        with pytest.raises(ValueError, match=r"labels has shape \(2,\); it must be \(3,\)"):
            holdout(3, labels=np.array([1, 2]))
