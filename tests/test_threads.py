"""The CPU backends among threads and processes."""

import os
import subprocess
import sys

import pytest

from conftest import peer

WORK = """
import os, threading
import numpy as np
import tinyml
import tinyml_backends

rng = np.random.default_rng(0)
x = rng.standard_normal((32, 8, 96, 96), np.float32)  # enough for several threads
weight = rng.standard_normal((8, 8, 3, 3), np.float32)

def work():
    y, switches = tinyml.max_pool(x, 2)
    wide, more = tinyml.max_pool(x, 3, 2, 1)
    gradients = tinyml.max_pool_gradient(wide, more), tinyml.max_unpool_gradient(x, switches)
    return [a.tobytes() for a in (y, tinyml.max_unpool(y, switches), *gradients)]

def conv():
    window = tinyml_backends.Window.of(2, 3, 1, 1)
    return tinyml.current_backend().conv(x, weight, None, window, 1).shape
"""

FORK = """
expected = work(), conv()
child = os.fork()
if child == 0:
    os._exit(0 if (work(), conv()) == expected == (work(), conv()) else 1)
assert os.waitpid(child, 0)[1] == 0
assert (work(), conv()) == expected  # the parent goes on
"""

TOGETHER = """
expected, found = work(), []
start = threading.Barrier(4)

def several():
    start.wait()
    found.extend(work() == expected for _ in range(5))

threads = [threading.Thread(target=several) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert found == [True] * 20
"""

COLD = """
import tinyml_backends
results, start = [], threading.Barrier(3)

def first():
    start.wait()
    results.append(work())

threads = [threading.Thread(target=first) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert results == [work()] * 3
"""


@pytest.mark.host
@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize(
    "code", [FORK, TOGETHER, COLD], ids=["fork after use", "together", "first calls together"]
)
def test_in_a_process_of_its_own(name, code, threads):
    if name == "numba":
        peer("numba")
    if code is FORK and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORK + code],
        env={**os.environ, "TINYML_BACKEND": name, "TINYML_NUM_THREADS": threads},
        check=True,
        timeout=120,
    )
