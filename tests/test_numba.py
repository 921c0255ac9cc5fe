"""The compiled kernels: equal to NumPy's in chunks of any size, cached on disk; and no Numba."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from conftest import peer
from support.chunks import backwards, use_small_compiled_chunks
from support.compare import assert_same_bits, assert_same_sums
from support.guarded import guarded
from support.strategies import arrays, geometries
from tinyml_backends import Backend, Window, resolve
from tinyml_backends.numpy_backend import NumpyBackend

pytestmark = pytest.mark.host

ROOT = Path(__file__).parent.parent
NUMPY = NumpyBackend()


@pytest.fixture
def numba() -> Backend:
    peer("numba")
    return resolve("numba")


@pytest.fixture(params=["usual chunks", "small chunks", "last rows first"])
def chunked(request, numba, monkeypatch):
    """The backend as usual; or in small chunks, in three threads, with non-temporal stores.

    Or in chunks of three items, the last ones first: none may write items after its own.
    """
    from tinyml_backends.numba_backend import backend

    if request.param == "last rows first":
        monkeypatch.setattr(backend, "run", backwards(3))
    if request.param == "small chunks":
        use_small_compiled_chunks(monkeypatch)
        monkeypatch.setattr(backend, "STREAMED_BYTES", 0)
    return numba


@hypothesis.given(data=st.data())
def test_the_bits_of_numpy(chunked, data):
    spatial, geometry = data.draw(geometries())
    window = Window.of(len(spatial), **geometry)
    channels = data.draw(st.sampled_from([(), (), (1,), (3,)]))
    same(chunked, data, window, spatial, channels)


#: Windows for which kernels of their own are compiled, and some similar ones.
COMMON = [
    Window.of(2, 2),
    Window.of(2, 3, 2, 1),
    Window.of(2, 3, 1, 1),
    Window.of(1, 2),
    Window.of(1, 3, 2, 1),
    Window.of(3, 2),
    Window.of(3, 3, 2, 1),
    Window.of(3, (2, 1, 2), (2, 1, 2)),
    Window.of(2, 2, 2, dilation=(2, 1)),
]


@pytest.mark.parametrize("channels", [(), (1,), (5,), (64,)], ids=str)
@hypothesis.given(data=st.data())
def test_the_bits_of_numpy_on_the_common_windows(chunked, data, channels):
    window = data.draw(st.sampled_from(COMMON))
    before = st.integers(3, 9 if window.axes < 3 else 5)
    spatial = tuple(data.draw(before) for _ in range(window.axes - 1))
    spatial += (data.draw(st.integers(2, 40)),)
    same(chunked, data, window, spatial, channels)


def same(backend, data, window, spatial, channels):
    """All kernels on a drawn stack, and all but the first on values other than its maxima."""
    planes = data.draw(st.integers(0, 3))
    x = data.draw(arrays((planes, *spatial, *channels)))
    y, winners = NUMPY.max_pool(x, window)
    for array, expected in zip(backend.max_pool(x, window), (y, winners), strict=True):
        assert_same_bits(array, expected)
    values = data.draw(arrays(y.shape, dtypes=[x.dtype.name]))
    # the rules, the arguments, and whether a sum may form a NaN
    calls = [
        ("max_unpool", (values, winners, window, spatial, "last"), False),
        ("max_unpool", (values, winners, window, spatial, "sum"), True),
        ("max_pool_gradient", (values, winners, window, spatial), True),
        ("max_unpool_gradient", (x, winners, window, "last"), False),
        ("max_unpool_gradient", (x, winners, window, "sum"), False),
        ("avg_pool", (x, window, data.draw(st.booleans()), None), True),
        ("avg_pool", (x, window, True, 3), True),
        ("avg_pool_gradient", (values, window, spatial, data.draw(st.booleans()), None), True),
    ]
    for name, arguments, summed in calls:
        expected = getattr(NUMPY, name)(*arguments)
        check = assert_same_sums if summed else assert_same_bits
        check(getattr(backend, name)(*arguments), expected)
        memory = np.full(expected.size + 66, 77, expected.dtype)
        start = data.draw(st.sampled_from([32, 33]))  # aligned for non-temporal stores, or not
        end = start + expected.size
        out = memory[start:end].reshape(expected.shape)
        assert getattr(backend, name)(*arguments, out=out) is out
        check(out, expected)
        assert (memory[:start] == 77).all()
        assert (memory[end:] == 77).all()


@pytest.mark.parametrize("at_end", [True, False], ids=["ends there", "begins there"])
@pytest.mark.parametrize("channels", [(), (3,), (20,)], ids=str)
@pytest.mark.parametrize("window", COMMON, ids=str)
def test_nothing_outside_is_touched(chunked, window, channels, at_end):
    """Arrays end or begin next to protected memory; the results are equal to NumPy's."""
    spatial = ((4, 6, 44) if at_end else (5, 6, 45))[-window.axes :]
    x = np.random.default_rng(0).standard_normal((2, *spatial, *channels), np.float32)
    y, winners = NUMPY.max_pool(x, window)
    values, cells = guarded(0 * y, at_end), guarded(0 * winners, at_end)
    x = guarded(x, at_end)
    chunked.max_pool(x, window, out=(values, cells))
    assert_same_bits(values, y)
    assert_same_bits(cells, winners)
    values.reshape(-1)[::5] = -0.0
    for name, *arguments in (
        ("max_unpool", values, cells, window, spatial, "last"),
        ("max_unpool", values, cells, window, spatial, "sum"),
        ("max_pool_gradient", values, cells, window, spatial),
        ("max_unpool_gradient", x, cells, window, "last"),
        ("max_unpool_gradient", x, cells, window, "sum"),
        ("avg_pool", x, window, True, None),
        ("avg_pool", x, window, False, None),
        ("avg_pool_gradient", values, window, spatial, True, None),
        ("avg_pool_gradient", values, window, spatial, False, None),
    ):
        expected = getattr(NUMPY, name)(*arguments)
        out = guarded(np.full_like(expected, 77), at_end)
        getattr(chunked, name)(*arguments, out=out)
        assert_same_sums(out, expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_rows_that_end_with_the_array(numba, size, stride):
    """Vectors read neither before the first nor after the last element."""
    window = Window.of(1, size, stride)
    for length in range(3, 70):
        x = np.random.default_rng(length).standard_normal((1, length), np.float32)
        x = guarded(x, at_end=length % 2 == 0)
        for array, expected in zip(
            numba.max_pool(x, window), NUMPY.max_pool(x, window), strict=True
        ):
            assert_same_bits(array, expected)


IMAGES = [(1, 1501, 1003), (1, 700, 301, 3), (40, 112, 112)]
VOLUMES = [(2, 33, 64, 150), (2, 12, 41, 50, 7)]
LARGE = [
    *((window, shape) for window in COMMON[:2] for shape in IMAGES),
    *((window, shape) for window in COMMON[5:8] for shape in VOLUMES),
    (Window.of(2, 3, 1, 1), (40, 112, 112)),
    (Window.of(1, 2), (3, 300001)),
    (Window.of(2, 3), (1, 1501, 1003)),
]


@pytest.mark.parametrize(("window", "shape"), LARGE, ids=str)
def test_large_stacks(numba, window, shape):
    """Arrays so large that planes are divided, into chunks of the usual size for each thread."""
    x = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32)
    spatial = x.shape[1 : window.axes + 1]
    y, winners = NUMPY.max_pool(x, window)
    for array, expected in zip(numba.max_pool(x, window), (y, winners), strict=True):
        assert_same_bits(array, expected)
    for name, *arguments in (
        ("max_unpool", y, winners, window, spatial, "last"),
        ("max_unpool", y, winners, window, spatial, "sum"),
        ("max_pool_gradient", y, winners, window, spatial),
        ("max_unpool_gradient", x, winners, window, "last"),
        ("max_unpool_gradient", x, winners, window, "sum"),
        ("avg_pool", x, window, True, None),
        ("avg_pool_gradient", y, window, spatial, True, None),
    ):
        assert_same_bits(getattr(numba, name)(*arguments), getattr(NUMPY, name)(*arguments))


def test_results_that_are_not_aligned(chunked):
    """An element may lie in two cache lines."""
    window, x = Window.of(2, 2), np.random.default_rng(0).standard_normal((3, 8, 64), np.float32)
    y, winners = NUMPY.max_pool(x, window)

    def unaligned(shape):
        count = np.prod(shape) * 4
        return np.ndarray(shape, np.float32, bytearray(count + 1), offset=1)

    out = unaligned(y.shape), np.empty_like(winners)
    assert not out[0].flags.aligned
    for array, expected in zip(chunked.max_pool(x, window, out=out), (y, winners), strict=True):
        assert_same_bits(array, expected)
    for name, *arguments in (
        ("max_unpool", y, winners, window, x.shape[1:], "last"),
        ("max_unpool_gradient", x, winners, window, "last"),
    ):
        expected = getattr(NUMPY, name)(*arguments)
        found = getattr(chunked, name)(*arguments, out=unaligned(expected.shape))
        assert_same_bits(found, expected)


@pytest.mark.parametrize(
    ("rows", "columns", "channels", "given", "expected"),
    [
        (8000, 2000, (), True, True),
        (2000, 2000, (), True, False),
        (8000, 2000, (), False, False),
        (8000, 1000, (2,), True, False),
        (8000, 2002, (), True, False),
    ],
    ids=["large", "small", "new", "channels last", "rows that start between 16 bytes"],
)
def test_what_is_written_with_non_temporal_stores(
    numba, monkeypatch, rows, columns, channels, given, expected
):
    from tinyml_backends.numba_backend import backend

    seen = []
    monkeypatch.setattr(backend, "run", lambda kernel, arguments, *_: seen.append(arguments[-1]))
    x = np.empty((1, rows, columns, *channels), np.float32)
    y = np.empty((1, rows // 2, columns // 2, *channels), np.float32)
    winners = np.empty(y.shape, np.uint8)
    spatial = x.shape[1:3]
    numba.max_unpool(y, winners, Window.of(2, 2), spatial, "last", out=x if given else None)
    assert seen == [(0,) if expected else ()]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_plane_indices(chunked, dtype):
    rng = np.random.default_rng(0)
    y = rng.standard_normal((5, 4, 4), np.float32)
    indices = rng.integers(0, 16, y.shape).astype(dtype)  # many duplicates
    out, first_bad = chunked.unpool_plane_indices(y, indices, (5, 6))
    expected, _ = NUMPY.unpool_plane_indices(y, indices, (5, 6))
    assert first_bad == -1
    assert_same_bits(out, expected)
    indices[3, 1, 2], indices[4, 0, 0] = 30, 31
    assert chunked.unpool_plane_indices(y, indices, (5, 6))[1] == 3 * 16 + 6


def test_winners_that_were_overwritten_stay_inside(chunked):
    """A caller may overwrite winners given as ``out``; kernels stay inside their arrays."""
    for window, spatial, channels in (
        *((window, (9, 9), ()) for window in (COMMON[0], COMMON[1], Window.of(2, 3, 1, 2))),
        *((window, (5, 6, 45)[-window.axes :], ()) for window in COMMON),
        *((window, (5, 6, 7)[-window.axes :], (30,)) for window in COMMON),
    ):
        x = np.ones((2, *spatial, *channels), np.float32)
        y, winners = NUMPY.max_pool(x, window)
        winners[...] = np.random.default_rng(0).integers(0, 256, winners.shape)
        memory = np.full(x.size + 64, 77, np.float32)
        out = memory[32:-32].reshape(x.shape)
        chunked.max_unpool(y, winners, window, spatial, "last", out=out)
        chunked.max_pool_gradient(y, winners, window, spatial, out=out)
        assert (memory[:32] == 77).all()
        assert (memory[-32:] == 77).all()
        for rule in ("last", "sum"):
            gradient = chunked.max_unpool_gradient(x, winners, window, rule)
            assert set(np.unique(gradient)) <= {0, 1}


CALLS = """
import sys
import numpy as np
import tinyml
from tinyml_backends.numba_backend import tiles_2x2

x = np.arange(64, dtype=sys.argv[1]).reshape(1, 1, 8, 8)
with tinyml.use_backend("numba"):
    y, switches = tinyml.max_pool(x, 2)
    assert y[0, 0, 0].tolist() == [9, 11, 13, 15], y
    assert tinyml.max_unpool(y, switches).sum() == y.sum()
stats = tiles_2x2.max_pool.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def start(dtype, site=None, **environment):
    path = {"PYTHONPATH": str(site)} if site else {}
    return subprocess.Popen(
        [sys.executable, "-B", "-c", CALLS, dtype],
        env={**os.environ, **path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    hits, misses = map(int, out.split())
    return hits, misses


def test_a_second_process_loads_what_the_first_compiled(numba, tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert finished(start("f4", **cache)) == (0, 1)
    assert finished(start("f4", **cache)) == (1, 0)


def test_processes_that_compile_at_once(numba, tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    for _ in range(2):
        for process in [start(dtype, **cache) for dtype in ("f4", "f8", "i4", "f4")]:
            finished(process)


def test_a_damaged_cache_is_compiled_again(numba, tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    finished(start("f4", **cache))
    files = [file for pattern in ("*.nbc", "*.nbi") for file in tmp_path.rglob(pattern)]
    assert len(files) >= 4
    for file in files:
        file.write_bytes(b"nonsense")
    assert finished(start("f4", **cache)) == (0, 1)
    assert finished(start("f4", **cache)) == (1, 0)


@pytest.fixture
def site(tmp_path):
    """An install without a cache folder, not even for root: a file has the folder's name."""
    for package in (ROOT / "tinyml", ROOT / "backends" / "tinyml_backends"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, tmp_path / "site" / package.name, ignore=ignored)
    (tmp_path / "site" / "tinyml_backends" / "numba_backend" / "__pycache__").write_text("")
    return tmp_path / "site"


def test_a_read_only_install_uses_the_users_folder(numba, site, tmp_path):
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "NUMBA_CACHE_DIR": ""}
    assert finished(start("f4", site, **home)) == (0, 1)
    assert finished(start("f4", site, **home)) == (1, 0)
    assert list((tmp_path / "cache").rglob("*.nbc"))


def test_without_any_folder_each_process_compiles(numba, site, tmp_path):
    (tmp_path / "file").write_text("")
    home = {"HOME": str(tmp_path / "file"), "XDG_CACHE_HOME": str(tmp_path / "file")}
    for _ in range(2):
        assert finished(start("f4", site, NUMBA_CACHE_DIR="", **home)) == (0, 1)


def test_a_changed_source_is_compiled_again(numba, site, tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    finished(start("f4", site, **cache))
    with (site / "tinyml_backends" / "numba_backend" / "compiled.py").open("a") as file:
        file.write("\n# a comment\n")
    assert finished(start("f4", site, **cache)) == (0, 1)


def test_a_run_without_xxhash():
    peer("numba")
    code = "import sys; sys.modules['xxhash'] = None; import tinyml; tinyml.set_backend('numba')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    reason = "xxhash is not installed; install it: pip install xxhash"
    assert run.stderr.strip().endswith(f"backend 'numba' cannot run: {reason}")


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, "Numba is not installed; install it: pip install 'numba>=0.61'"),
        (
            "version_info, __version__ = (0, 59, 1), '0.59.1'",
            "Numba 0.59.1 is too old; install it: pip install 'numba>=0.61'",
        ),
        (
            "raise ImportError('Numba needs NumPy 2.1 or less')",
            "Numba does not load here (Numba needs NumPy 2.1 or less); install it: "
            "pip install 'numba>=0.61', or a NumPy that it supports",
        ),
    ],
    ids=["missing", "old", "refuses"],
)
def test_what_a_compiled_run_lacks(tmp_path, module, reason):
    hide = "sys.modules['numba'] = None; "
    if module is not None:
        (tmp_path / "numba.py").write_text(module)
        hide = "sys.path.insert(0, sys.argv[1]); "
    code = f"import sys; {hide}import tinyml; tinyml.set_backend('numba')"
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    wanted = f"BackendUnavailableError: backend 'numba' cannot run: {reason}"
    assert run.stderr.strip().endswith(wanted)
