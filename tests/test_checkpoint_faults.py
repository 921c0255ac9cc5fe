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
        start = time.process_time()
        try:
            found = tinyml.load(path)
        except CheckpointError:
            found = None
        with suppress(CheckpointError):
            target.load_weights(path)
        assert time.process_time() - start < 5
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * len(bad) + (16 << 20)
        if found is not None and fault is not hostile_configuration:
            for name, p in enumerate(found.parameters):
                np.testing.assert_array_equal(p.tensor, right[name])
    assert os.listdir(tmp_path) == ["model.safetensors"]


def described(model):
    """Metadata of a file with this network, whether or not it is one."""
    rest = {"shared": {}, "extra": [], "info": {}, "training": None}
    text = json.dumps({"format": 1, "model": model, **rest})
    tensors = {"a": np.zeros(2, np.float32)}
    return {"tinyml": text, "tinyml.sha256": file._checksum(text, tensors)}


def nested(depth, name, layers):
    steps = [{"layer": layer, "reads": [number]} for number, layer in enumerate(layers)]
    network = {"class": "Sequential", "inputs": [None], "output": None}
    inside = {**network, "name": name, "steps": steps}
    return nested(depth - 1, name, [inside]) if depth else inside


RELUS = [{"class": "ReLU", "arguments": {"name": str(number)}} for number in range(300)]
ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
VALUES = [{str(number): []} for number in range(21_000)]
LARGE = {
    "text": lambda: {"__metadata__": {"tinyml": "x" * (8 << 20)}},
    "other signs": lambda: {"__metadata__": {"tinyml": "x" * (4 << 20) + "\U0001f600"}},
    "of another writer": lambda: {"__metadata__": {"x": "x" * (4 << 20) + "\U0001f600"}},
    "name": lambda: {"x" * (8 << 20): ENTRY},
    "a little less text": lambda: {"__metadata__": {"x": "x" * 2_300_000}},
    "a little less of other signs": lambda: {"__metadata__": {"x": "x" * 850_000 + "\U0001f600"}},
    "a shorter name": lambda: {"x" * 2_300_000: ENTRY},
    "a shorter other name": lambda: {"x" * 850_000 + "\U0001f600": ENTRY},
    "values": lambda: {"a": ENTRY, "__metadata__": described(VALUES)},
    "too many values": lambda: {"a": ENTRY, "__metadata__": described([[]] * 80_000)},
    "deep": lambda: {"a": ENTRY, "__metadata__": described(nested(120, "n" * 2000, RELUS))},
}

#: Lets glibc return freed memory at once, which would otherwise hide later peaks.
FREED = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}

READER = """
import sys
import tinyml
from tinyml.models import lenet

def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(name))

target = lenet((1, 8, 8), 3)
tinyml.save(target, sys.argv[1])
tinyml.load(sys.argv[1])
for path in sys.argv[2:]:
    for load in (tinyml.load, target.load_weights):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak is now what is used
        before = memory("VmRSS")
        try:
            load(path)
        except tinyml.CheckpointError:
            pass
        print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_a_large_header_takes_little_memory(path, tmp_path):
    """Of the process, since the parser of safetensors is not Python's."""
    paths = [tmp_path / name for name in LARGE]
    for one, header in zip(paths, LARGE.values(), strict=True):
        text = json.dumps(header(), ensure_ascii=False).encode()
        one.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    found = subprocess.run(
        [sys.executable, "-c", READER, path, *paths],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **FREED},
    )
    peaks = [int(line) for line in found.stdout.split()]
    for number, one in enumerate(paths):
        assert max(peaks[2 * number :][:2]) < 2 * one.stat().st_size + (16 << 20), one.name


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
