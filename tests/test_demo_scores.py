"""What the demo says of its results, and the data it trains on."""

import numpy as np
import pytest

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

    def test_crops_show_every_turn_of_the_left_half(self):
        data = demo.halves(*demo.nuclei())
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
