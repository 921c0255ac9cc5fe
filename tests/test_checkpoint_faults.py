"""Damaged and hostile checkpoint files, and writers that are killed or find the disk full.

With ``--hypothesis-profile full`` as many as a release deserves: 10,000 files and 200 kills.
"""

import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import settings

import tinyml
from tinyml import CheckpointError
from tinyml.arrays import to_numpy
from tinyml.checkpoint import file, read
from tinyml.models import lenet

pytestmark = pytest.mark.host


def number(few, many):
    return many if settings().max_examples >= 1000 else few


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def header_of(data):
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


HUGE = (-1, 0, 2**31, 2**63, 2**64 - 1, 10**30)
NAMES = ("../../etc/passwd", "", "a" * 5000, "\0", "__metadata__", "conv1.weight", "ü\ud800")


def flip_bits(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 50))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def flip_in_header(data, rng):
    data = bytearray(data)
    (length,) = struct.unpack("<Q", data[:8])
    data[8 + rng.randrange(length)] = rng.randrange(256)
    return bytes(data)


def truncate(data, rng):
    return data[: rng.choice((rng.randrange(len(data)), rng.randrange(40)))]


def random_header(data, rng):
    length = rng.choice((len(data), 2**63, 0, 1, rng.randrange(5000)))
    return struct.pack("<Q", length) + rng.randbytes(rng.randrange(3000))


def hostile_sizes(data, rng):
    header, tensors = header_of(data)
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    kind = rng.randrange(3)
    if kind == 0:
        entry["shape"] = [rng.choice(HUGE) for _ in range(rng.randrange(40))]
    elif kind == 1:
        entry["data_offsets"] = [rng.choice(HUGE), rng.choice(HUGE)]
    else:
        entry["dtype"] = rng.choice(("F64", "BF16", "BOOL", "X", "F8_E4M3"))
    return joined(header, tensors)


def hostile_names(data, rng):
    header, tensors = header_of(data)
    name = rng.choice([name for name in header if name != "__metadata__"])
    header[rng.choice(NAMES)] = header.pop(name)
    return joined(header, tensors)


def hostile_configuration(data, rng):
    """Another configuration with the right checksum, since an attacker can compute that."""
    header, _ = header_of(data)
    text = header["__metadata__"]["tinyml"]
    for _ in range(rng.choice((1, 1, 3))):
        numbers = [i for i, sign in enumerate(text) if sign.isdigit()]
        at = rng.choice(numbers)
        new = rng.choice(("999999999", "-3", "1e400", "[[[]]]", "null", '"x"', "0", "7", "NaN"))
        text = text[:at] + new + text[at + 1 :]
    tensors = file._tensors(data)
    metadata = {"tinyml": text, "tinyml.sha256": file._checksum(text, tensors)}
    return safetensors.numpy.save(tensors, metadata)


FAULTS = (
    flip_bits,
    flip_in_header,
    truncate,
    random_header,
    hostile_sizes,
    hostile_names,
    hostile_configuration,
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_an_error_or_the_right_tensors(fault, path, tmp_path):
    model = lenet((1, 8, 8), 3)
    tinyml.save(model, path)
    data = path.read_bytes()
    right = {name: to_numpy(p.tensor) for name, p in enumerate(model.parameters)}
    target, rng = lenet((1, 8, 8), 3, rng=1), random.Random(0)
    for _ in range(number(60, 1500)):
        bad = fault(data, rng)
        path.write_bytes(bad)
        tracemalloc.start()
        start = time.perf_counter()
        try:
            found = tinyml.load(path)
        except CheckpointError:
            found = None
        with suppress(CheckpointError):
            target.load_weights(path)
        assert time.perf_counter() - start < 5
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * len(bad) + (16 << 20)
        if found is not None and fault is not hostile_configuration:
            for name, p in enumerate(found.parameters):
                np.testing.assert_array_equal(p.tensor, right[name])
    assert os.listdir(tmp_path) == ["model.safetensors"]


WRITER = """
import sys
import tinyml
from tinyml.models import mlp
models = [mlp(64, 10, hidden=(256,), rng=seed) for seed in range(2)]
tinyml.save(models[0], sys.argv[1], info={"number": 0})
print("ready", flush=True)
number = 1
while True:
    tinyml.save(models[number % 2], sys.argv[1], info={"number": number})
    number += 1
"""


def test_a_killed_writer_leaves_a_whole_file(path):
    rng, most = random.Random(0), 0
    for _ in range(number(3, 200)):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, path],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        writer.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.2))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        found = read(path)
        assert found.model.out_dim == (10,)
        most = max(most, found.info["number"])
        for left_over in path.parent.glob(".*.part"):
            left_over.unlink()
    assert most > 1


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"),
    reason="a small tmpfs needs root on Linux",
)
def test_a_full_disk_leaves_the_old_file(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder]
    if subprocess.run(small, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        path = Path(folder) / "m.safetensors"
        first = lenet((1, 8, 8), 3)
        tinyml.save(first, path)
        data = path.read_bytes()
        for size in range(number(5, 50)):
            with pytest.raises(OSError, match="No space left"):
                tinyml.save(lenet((1, 8, 8), 3, hidden=(2000 + 50 * size, 84)), path)
            assert path.read_bytes() == data
            assert os.listdir(folder) == ["m.safetensors"]
    finally:
        subprocess.run(["umount", folder], check=True)
