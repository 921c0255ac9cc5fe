"""Backends in processes of their own: among threads, after forks, and at a process's end."""

import os
import subprocess
import sys

import pytest

from conftest import peer

pytestmark = pytest.mark.host

WORK = """
import atexit, os, sys, threading, time
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

def fit():
    from tinyml.learner import Learner
    from tinyml.losses import SoftmaxCrossEntropy
    from tinyml.models import segnet
    from tinyml.optims import Adam
    model = segnet((1, 16, 16), 2, depth=2, channels=4, rng=0)
    learner = Learner(model, SoftmaxCrossEntropy(), Adam(0.001))
    learner.fit((np.ones((8, 1, 16, 16), "f4"), np.zeros((8, 16, 16), int)), epochs=2, batch_size=4)
    return learner.history["loss"]

def conv():
    window = tinyml_backends.Window.of(2, 3, 1, 1)
    return tinyml.current_backend().conv(x, weight, None, window, 1).tobytes()
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
results, start = [], threading.Barrier(3)

def first():
    start.wait()
    results.append(work())

threads = [threading.Thread(target=first) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert results == [work()] * 3
"""

AT_THE_END = """
def last():
    try:
        work(), conv(), fit()
    except BaseException as error:
        print(error, flush=True)
        os._exit(1)

if sys.argv[1:] == ["used before"]:
    work(), conv()
atexit.register(last)
threading.Thread(target=lambda: (time.sleep(0.5), last())).start()
"""

NO_THREADS = """
expected = work(), conv()

def refuse(thread):
    raise RuntimeError("can't start new thread")

threading.Thread.start = refuse
tinyml_backends.threads._workers.clear()
assert (work(), conv()) == expected and len(fit()) == 4
"""


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("count", ["1", "3"])
@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (FORK, []),
        (TOGETHER, []),
        (COLD, []),
        (AT_THE_END, []),
        (AT_THE_END, ["used before"]),
        (NO_THREADS, []),
    ],
    ids=[
        *("fork after use", "together", "first calls together", "at the end", "at the end again"),
        "no threads",
    ],
)
def test_in_a_process_of_its_own(name, code, arguments, count):
    if name == "numba":
        peer("numba")
    if code is FORK and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    warnings = "ignore" if code is FORK else "error"  # Python warns of a fork beside threads
    subprocess.run(
        [sys.executable, "-W", warnings, "-c", WORK + code, *arguments],
        env={**os.environ, "TINYML_BACKEND": name, "TINYML_NUM_THREADS": count},
        check=True,
        timeout=120,
    )
