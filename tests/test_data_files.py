"""idx and CIFAR-10 files, downloads from a local server, and augmentation."""

import gzip
import hashlib
import http.server
import struct
import threading

import numpy as np
import pytest

from support.compare import assert_same_bits
from tinyml import TinymlError
from tinyml.data import Augmented, fetch_mnist, mnist, read_cifar10, read_idx
from tinyml.layers import Conv2D
from tinyml.learner import Learner
from tinyml.losses import SoftmaxCrossEntropy
from tinyml.optims import SGD
from tinyml_backends.errors import DownloadError

pytestmark = pytest.mark.host

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array):
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


class TestIdx:
    @pytest.mark.parametrize("suffix", [".idx", ".gz"])
    @pytest.mark.parametrize("dtype", CODES)
    def test_arrays(self, tmp_path, dtype, suffix):
        array = np.arange(24).reshape(2, 3, 4).astype(dtype)
        path = tmp_path / f"a{suffix}"
        path.write_bytes(gzip.compress(idx(array)) if suffix == ".gz" else idx(array))
        assert_same_bits(read_idx(path), array)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "is no idx file"),
            (b"\0\0\x08", "is no idx file"),
            (b"\1\0\x08\1\0\0\0\0", "is no idx file"),
            (b"\0\0\x07\1\0\0\0\0", "is no idx file"),
            (b"\0\0\x08\0", "is no idx file"),
            (b"\0\0\x08\2\0\0\0\1", "but not that much data"),
            (b"\0\0\x08\2" + b"\xff" * 8, "but not that much data"),
            (b"\0\0\x08\1\0\0\0\2a", "has less data than its header says"),
            (b"\0\0\x08\1\0\0\0\1ab", "has more data than its header says"),
        ],
    )
    def test_hostile_headers(self, tmp_path, data, message):
        for suffix, contents in ((".idx", data), (".gz", gzip.compress(data))):
            path = tmp_path / f"bad{suffix}"
            path.write_bytes(contents)
            with pytest.raises(ValueError, match=message if suffix == ".gz" else r"bad\.idx"):
                read_idx(path)

    def test_damaged_gzip(self, tmp_path):
        path = tmp_path / "a.gz"
        for data in (b"no gzip at all", gzip.compress(idx(np.arange(9, dtype="u1")))[:-9]):
            path.write_bytes(data)
            with pytest.raises(ValueError, match="cannot be decompressed"):
                read_idx(path)


def test_cifar(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 3, 32, 32)).astype(np.uint8)
    labels = np.arange(5, dtype=np.uint8)
    records = np.concatenate([labels[:, None], images.reshape(5, -1)], axis=1)
    records[:3].tofile(tmp_path / "1.bin")
    records[3:].tofile(tmp_path / "2.bin")
    found = read_cifar10(tmp_path / "1.bin", tmp_path / "2.bin")
    assert_same_bits(found[0], images)
    assert_same_bits(found[1], labels)
    (tmp_path / "bad.bin").write_bytes(b"a" * 3074)
    with pytest.raises(ValueError, match="has 3074 bytes; a file of CIFAR-10 has 3073 for each"):
        read_cifar10(tmp_path / "bad.bin")
    (tmp_path / "bad.bin").write_bytes(b"a" * 3073)
    with pytest.raises(ValueError, match="has the label 97; it must be 0 to 9"):
        read_cifar10(tmp_path / "bad.bin")
    with pytest.raises(ValueError, match="paths are missing"):
        read_cifar10()


class Server:
    """An HTTP server on this machine, with or without Range, which may cut answers off."""

    def __init__(self, files):
        self.files, self.ranges, self.cut, self.requests = files, True, None, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                data = outer.files.get(self.path.strip("/"))
                outer.requests.append((self.path, self.headers.get("Range")))
                if data is None:
                    self.send_error(404)
                    return
                first = 0
                if outer.ranges and self.headers.get("Range"):
                    first = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                self.send_response(206 if first else 200)
                self.send_header("Content-Length", str(len(data) - first))
                self.end_headers()
                self.wfile.write(data[first:][: outer.cut])

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch):
    rng = np.random.default_rng(0)
    shapes = {"train-images-idx3": (6, 4, 4), "train-labels-idx1": (6,)}
    shapes |= {"t10k-images-idx3": (3, 4, 4), "t10k-labels-idx1": (3,)}
    arrays = {n: rng.integers(0, 10, shape).astype(np.uint8) for n, shape in shapes.items()}
    files = {f"{name}-ubyte.gz": gzip.compress(idx(array)) for name, array in arrays.items()}
    known = {name: (len(d), hashlib.sha256(d).hexdigest()) for name, d in files.items()}
    monkeypatch.setattr(mnist, "FILES", known)
    with Server(files) as running:
        running.arrays = list(arrays.values())
        yield running


class TestFetch:
    def test_once(self, server, tmp_path):
        for _ in range(2):
            found = fetch_mnist(tmp_path, url=server.url)
            for ours, theirs in zip(found, server.arrays, strict=True):
                assert_same_bits(ours, theirs)
        assert len(server.requests) == 4

    @pytest.mark.parametrize("ranges", [True, False])
    def test_an_interrupted_download_goes_on(self, server, tmp_path, ranges):
        server.cut = 20
        with pytest.raises(
            DownloadError, match=r"ended after 20 of \d+ bytes; call again to go on"
        ):
            fetch_mnist(tmp_path, url=server.url)
        server.cut, server.ranges = None, ranges
        assert_same_bits(fetch_mnist(tmp_path, url=server.url)[0], server.arrays[0])
        assert server.requests[1][1] == "bytes=20-"
        assert len(list(tmp_path.iterdir())) == 4

    def test_a_part_of_another_file(self, server, tmp_path):
        name = next(iter(mnist.FILES))
        (tmp_path / f"{name}.part").write_bytes(b"x" * 20)
        with pytest.raises(DownloadError, match="is not the right file: its SHA-256 is not"):
            fetch_mnist(tmp_path, url=server.url)
        fetch_mnist(tmp_path, url=server.url)  # it begins anew
        (tmp_path / f"{name}.part").write_bytes(b"x" * 20000)
        (tmp_path / name).write_bytes(b"damaged")
        fetch_mnist(tmp_path, url=server.url)

    def test_a_wrong_or_missing_file(self, server, tmp_path):
        name = next(iter(mnist.FILES))
        right = server.files[name]
        server.files[name] = right + b"more"
        with pytest.raises(DownloadError, match="is not the right file"):
            fetch_mnist(tmp_path, url=server.url)
        del server.files[name]
        with pytest.raises(DownloadError, match="cannot be downloaded: Not Found; check the conn"):
            fetch_mnist(tmp_path, url=server.url)
        assert not any(tmp_path.iterdir())

    def test_offline(self, tmp_path):
        with pytest.raises(TinymlError) as caught:
            fetch_mnist(tmp_path, url="http://127.0.0.1:9")
        assert isinstance(caught.value, OSError)
        assert "\n" not in str(caught.value)
        assert f"check the connection and call again, or put the file into {tmp_path}" in str(
            caught.value
        )


def pictures(n=8, height=6, width=6):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 2, height, width)).astype(np.float32)
    return x, np.arange(n * height * width).reshape(n, height, width)


def batches(data, seed=0):
    return list(data.epoch(np.random.default_rng(seed)))


class TestAugmented:
    @pytest.mark.parametrize(
        "options",
        [
            {"flip": "both"},
            {"flip": "horizontal"},
            {"turns": True},
            {"crop": (3, 4), "flip": "vertical"},
            {"crop": 4, "turns": True},
        ],
    )
    def test_images_and_masks_move_alike(self, options):
        x, masks = pictures()
        seen = set()
        for seed in range(40):
            for images, labels in batches(Augmented(x, masks, 3, **options), seed):
                assert len(images) in (3, 2)
                flat = labels.reshape(-1)
                samples, places = flat // 36, flat % 36
                expected = x[samples, :, places // 6, places % 6]
                found = np.moveaxis(images, 1, -1).reshape(-1, 2)
                assert_same_bits(np.ascontiguousarray(found), expected)
                seen |= {tuple(label.reshape(-1)) for label in labels}
        kinds = {"both": 4, "horizontal": 2}.get(options.get("flip"), 4)
        assert len(seen) >= kinds * 8

    def test_every_sample_once_and_a_new_order(self):
        x, _ = pictures()
        first, second = (batches(Augmented(x, np.arange(8), 3), seed) for seed in (0, 1))
        for epoch in (first, second):
            assert sorted(np.concatenate([y for _, y in epoch])) == list(range(8))
        assert any((a[1] != b[1]).any() for a, b in zip(first, second, strict=True))
        again = batches(Augmented(x, np.arange(8), 3), 0)
        for a, b in zip(first, again, strict=True):
            assert_same_bits(a[0], b[0])

    def test_padding(self):
        x = np.ones((50, 1, 4, 4), np.float32)
        ((images, masks),) = batches(Augmented(x, np.ones((50, 4, 4), int), 50, pad=2, crop=4))
        assert images.shape == (50, 1, 4, 4)
        assert_same_bits(images[:, 0].astype(int), masks)
        assert len({image.tobytes() for image in images}) > 10

    def test_noise_and_brightness(self):
        x = np.zeros((400, 1, 8, 8), np.float32)
        y = np.zeros(400, int)
        ((noisy, _),) = batches(Augmented(x, y, 400, noise=0.5))
        assert noisy.std() == pytest.approx(0.5, rel=0.02)
        ((bright, _),) = batches(Augmented(x, y, 400, brightness=0.25))
        assert (bright == bright[:, :, :1, :1]).all()
        assert 0.2 < bright.max() <= 0.25
        assert bright.dtype == np.float32
        assert not x.any()

    def test_in_a_training(self):
        x, masks = pictures()
        data = Augmented(x, masks % 2, 3, flip="both")
        model = Conv2D("conv", (2, 6, 6), 2, 1, rng=0)
        history = Learner(model, SoftmaxCrossEntropy(), SGD(0.1)).fit(data, epochs=2)
        assert len(history["loss"]) == 6

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"x": np.zeros((8, 6, 6))}, "it must hold floats"),
            ({"x": np.zeros((8, 2, 6, 6), int)}, "it must hold floats"),
            ({"y": np.zeros(7)}, "x has 8 samples and y 7"),
            ({"flip": "yes"}, "flip is 'yes'; it must be"),
            ({"crop": 7}, r"crop is \(7, 7\); the images have \(6, 6\) pixels"),
            ({"turns": True, "crop": (3, 4)}, "they must be square, for example by crop"),
            ({"noise": -1}, "noise is -1; it must be at least 0"),
            ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ],
    )
    def test_errors(self, change, message):
        x, masks = pictures()
        with pytest.raises((ValueError, TypeError), match=message):
            Augmented(**{"x": x, "y": masks} | change)
