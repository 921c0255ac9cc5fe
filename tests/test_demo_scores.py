"""What the demo says of its results, and the data it trains on."""

import numpy as np
import pytest

from tinyml import prediction
from tinyml.cli import demo

pytestmark = pytest.mark.host

matplotlib = pytest.importorskip("matplotlib")
tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")


class TestScores:
    def test_score(self):
        a = np.array([[True, True, False, False]])
        b = np.array([[True, False, True, False]])
        assert demo.score(a, b) == (1 / 3, 0.5)
        assert demo.score(a & False, b & False) == (0.0, 1.0)

    def test_threshold_is_chosen_on_the_left_half(self):
        image = np.array([[[0, 0, 9, 9, 0, 9, 3, 9]]], np.uint8)
        mask = np.array([[0, 0, 1, 1, 0, 1, 1, 1]], bool)
        assert demo.threshold(image, mask, 4) == (1.0, 1.0)  # any level from 0 to 3 is best
        assert demo.threshold(9 - image, mask, 4).iou == 2 / 3  # dark foreground; 3 is too bright

    @pytest.mark.parametrize("seed", range(20))
    def test_threshold_is_the_best_of_all_levels(self, seed):
        rng = np.random.default_rng(seed)
        dtype = rng.choice([np.uint8, np.uint16])
        top = int(rng.choice([2, 5, 200, 255] if dtype == np.uint8 else [3, 300, 65535]))
        image = rng.integers(0, top + 1, (rng.choice([1, 3]), 9, 14)).astype(dtype)
        mask = (image.sum(0) > top * len(image) // 2) ^ (rng.random((9, 14)) < 0.2)
        mask ^= bool(rng.integers(2))
        grey = image.sum(0, dtype=int)
        levels = np.linspace(grey.min(), grey.max(), 257)[:-1]
        rules = [(sign, level) for sign in (1, -1) for level in levels]
        sign, level = max(
            rules, key=lambda r: demo.score(r[0] * grey[:, :7] > r[0] * r[1], mask[:, :7]).iou
        )
        expected = demo.score(sign * grey[:, 7:] > sign * level, mask[:, 7:])
        assert demo.threshold(image, mask, 7) == expected

    def test_tiles_find_what_the_whole_image_shows(self, monkeypatch):
        data = demo.halves(*demo.nuclei()[:2])
        learner = demo.build(data, 0)
        demo.train(learner, data, 3, 0)
        whole = demo.find(learner, data, 0.0)
        logits = learner.predict(data.image[None, :, :, data.cut :])
        monkeypatch.setattr(prediction, "_TILE_BYTES", 1 << 22)
        strips = demo.find(learner, data, 0.0)
        np.testing.assert_array_equal(whole.found, logits[0].argmax(0) == 1)
        np.testing.assert_array_equal(strips.found, whole.found)
        assert strips.switch_bytes == whole.switch_bytes == 688_128

    def test_crops_show_every_turn_of_the_left_half(self):
        data = demo.halves(*demo.nuclei()[:2])
        left = data.image[:, :, :256]
        assert left.mean() == pytest.approx(0, abs=1e-5)
        assert left.std() == pytest.approx(1, rel=1e-5)
        batches = list(demo.Crops(data, 20, 0))
        assert len(batches) == len(demo.Crops(data, 20, 0)) == 20
        x, y = batches[0]
        assert x.shape == (8, 1, 64, 64)
        assert x.dtype == np.float32
        assert y.shape == (8, 64, 64)
        assert y.dtype == np.int64
        # nuclei are bright: the mask was turned with its image
        assert all(x[:, 0][y == 1].mean() > x[:, 0][y == 0].mean() + 1 for x, y in batches)
