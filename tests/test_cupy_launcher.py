"""Launching CUDA kernels on emulated devices: checks of arguments, compiling, caching."""

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from emulation import cupy, record
from tinyml_backends.cupy_backend import kernels as k
from tinyml_backends.cupy_backend.cubins import Cubins, cupy_folder
from tinyml_backends.cupy_backend.launcher import MAX_INT32, Launcher, index_dtype
from tinyml_backends.cupy_backend.structs import divisor_struct, geometry_struct, struct_dtype
from tinyml_backends.errors import TinymlError
from tinyml_backends.geometry import Window

pytestmark = [pytest.mark.host, pytest.mark.emulation]


class TestLauncher:
    """The launcher refuses arguments that CuPy would pass to the kernel."""

    window = Window.of(2, 2)
    index = np.dtype("i4")
    instance = MappingProxyType({"T": np.dtype("f4"), "W": np.dtype("u1"), "I": index, "N": 1})

    def arguments(self):
        x, values = cupy.zeros((1, 4, 4), "f4"), cupy.empty((1, 2, 2), "f4")
        winners = cupy.empty((1, 2, 2), "u1")
        return [x, values, winners, geometry_struct(1, 1, (4, 4), self.window, self.index)]

    def launch(self, arguments, kernel=k.MAX_POOL, instance=None):
        Launcher(cupy, Cubins(None))(kernel, instance or self.instance, 4, *arguments)

    def test_correct_arguments_run(self):
        self.launch(self.arguments())

    @pytest.mark.parametrize(
        ("number", "wrong", "reason"),
        [
            (0, lambda: cupy.zeros((1, 4, 8), "f4")[..., ::2], "argument 0: must be contiguous"),
            (0, lambda: cupy.zeros((1, 4, 4), "f8"), "must be an array of float32; got float64"),
            (0, lambda: np.zeros((1, 4, 4), "f4"), "must be a device array; got a ndarray"),
            (2, lambda: cupy.empty((1, 2, 2), "u2"), "argument 2: must be an array of uint8"),
            (
                3,
                lambda: geometry_struct(1, 1, (4, 4), Window.of(2, 2), np.dtype("i8")),
                "argument 3: must be a Geometry of int32",
            ),
            (3, lambda: 7, "argument 3: must be a Geometry of int32; got 7"),
        ],
    )
    def test_wrong_arguments(self, number, wrong, reason):
        arguments = self.arguments()
        arguments[number] = wrong()
        record.clear()
        with pytest.raises(TypeError, match=reason):
            self.launch(arguments)
        assert not record

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_arrays_that_are_too_small(self, number):
        arguments = self.arguments()
        arguments[number] = arguments[number].reshape(-1)[:3]
        with pytest.raises(
            TypeError, match=rf"argument {number}: must have \d+ elements; its shape"
        ):
            self.launch(arguments)

    def test_arrays_of_another_device(self):
        arguments = self.arguments()
        with cupy.cuda.Device(1):
            arguments[0] = cupy.zeros((1, 4, 4), "f4")
        with pytest.raises(TypeError, match="is on device 1; the launch is on device 0"):
            self.launch(arguments)

    def test_wrong_number_of_arguments(self):
        with pytest.raises(TypeError, match="takes 4 arguments; got 3"):
            self.launch(self.arguments()[:3])

    def test_python_numbers(self):
        array = cupy.zeros(4, "f4")
        numbers = (np.float32(1), np.float32(0), 4)
        with pytest.raises(TypeError, match=r"argument 5: must be a NumPy number of int32; got 4"):
            self.launch((array, array, array, *numbers), k.SGD)

    def test_packs_must_be_aligned(self):
        arguments = self.arguments()
        arguments[0] = cupy.zeros(17, "f4")[1:].reshape(1, 4, 4)
        with pytest.raises(TypeError, match="must be aligned to 16 bytes"):
            self.launch(arguments, instance={**self.instance, "N": 4})

    def test_instances_that_do_not_exist(self):
        with pytest.raises(ValueError, match="max_pool has no instance with T = int32"):
            self.launch(self.arguments(), instance={**self.instance, "T": np.dtype("i4")})

    def test_a_compile_error_carries_the_log(self, monkeypatch):
        broken = "template <class T, class W, class I, int N> __global__ void max_pool() { oops; }"
        monkeypatch.setattr("tinyml_backends.cupy_backend.launcher.source", lambda file: broken)
        with pytest.raises(TinymlError, match=r"(?s)does not compile here.*oops"):
            self.launch(self.arguments())

    def test_each_instance_is_compiled_once(self, monkeypatch):
        launcher, made = Launcher(cupy, Cubins(None)), []
        make = cupy.cuda.compiler.compile_using_nvrtc
        monkeypatch.setattr(
            cupy.cuda.compiler, "compile_using_nvrtc", lambda *a: made.append(a) or make(*a)
        )
        for _ in range(3):
            launcher(k.MAX_POOL, self.instance, 4, *self.arguments())
        assert [a[4] for a in made] == [("max_pool<float, unsigned char, int, 1>",)]


class TestCubins:
    """Compiled kernels are reused by later processes; trouble with the disk costs only time."""

    def compiled(self, cubins, key=("code", "options")):
        calls = []
        path, name = cubins.get(key, lambda: calls.append(1) or ("name", b"cu\nbin"))
        assert (path.read_bytes(), name) == (b"cu\nbin", "name")
        return bool(calls)

    def test_once(self, tmp_path):
        cubins = Cubins(tmp_path / "new folder")
        assert [self.compiled(cubins) for _ in range(3)] == [True, False, False]
        assert not self.compiled(Cubins(tmp_path / "new folder"))
        assert self.compiled(cubins, ("other code", "options"))

    @pytest.mark.parametrize("suffix", [".cubin", ".name"])
    @pytest.mark.parametrize("damage", [None, b"", b"junk", b"other\nbin", b"\xff\n", b"a\nb\nc"])
    def test_damaged_files_are_replaced(self, tmp_path, suffix, damage):
        cubins = Cubins(tmp_path)
        self.compiled(cubins)
        assert {file.suffix for file in tmp_path.iterdir()} == {".cubin", ".name"}
        (file,) = tmp_path.glob(f"*{suffix}")
        file.unlink() if damage is None else file.write_bytes(damage)
        assert self.compiled(cubins)
        assert not self.compiled(cubins)

    def test_a_name_of_another_kernel_is_refused(self, tmp_path):
        cubins = Cubins(tmp_path)
        self.compiled(cubins)
        (file,) = tmp_path.glob("*.name")
        file.write_text(file.read_text().replace("name", "game"))
        assert self.compiled(cubins)

    @pytest.mark.parametrize("folder", [Path("/proc/nowhere"), "file", None])
    def test_a_folder_that_cannot_be_written(self, tmp_path, folder):
        (tmp_path / "file").write_text("not a folder")
        cubins = Cubins(folder and tmp_path / folder)
        assert self.compiled(cubins)
        path, _ = cubins.get(("code", "options"), lambda: ("name", b"cu\nbin"))
        assert path.parent.parent == Path(tempfile.gettempdir())

    def test_a_process_leaves_no_temporary_folder(self, tmp_path):
        code = """
            from tinyml_backends.cupy_backend.cubins import Cubins, cupy_folder
            print(*(Cubins(None).get((key,), lambda: ("name", b"")) [0] for key in "ab"))
        """
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", textwrap.dedent(code)]
        paths = subprocess.check_output(command, env=environment, text=True).split()
        assert len({Path(path).parent for path in paths}) == 1
        assert list(tmp_path.iterdir()) == []

    @pytest.fixture(autouse=True)
    def keeps_kernels(self, monkeypatch):
        monkeypatch.setenv("CUPY_CACHE_IN_MEMORY", "0")

    def test_which_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
        assert cupy_folder() == tmp_path
        monkeypatch.delenv("CUPY_CACHE_DIR")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cupy_folder() == tmp_path / ".cupy/kernel_cache"

    def test_a_user_without_a_home_directory(self, monkeypatch):
        monkeypatch.delenv("HOME")
        monkeypatch.delenv("CUPY_CACHE_DIR", raising=False)
        monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])  # KeyError, as for an unknown user
        assert cupy_folder() is None
        assert os.environ["CUPY_CACHE_IN_MEMORY"] == "1"  # else CuPy's own kernels would fail

    @pytest.mark.parametrize("folder", ["/proc/nowhere", "file", "file/below"])
    def test_a_cache_that_cannot_be_written_is_not_used(self, tmp_path, monkeypatch, folder):
        (tmp_path / "file").write_text("not a folder")
        monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / folder))
        assert cupy_folder() is None
        assert os.environ["CUPY_CACHE_IN_MEMORY"] == "1"

    @pytest.mark.parametrize(("value", "is_used"), [("1", False), ("2", False), ("", True)])
    def test_a_cache_in_memory(self, tmp_path, monkeypatch, value, is_used):
        monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("CUPY_CACHE_IN_MEMORY", value)
        assert (cupy_folder() is not None) == is_used
        assert (tmp_path / "cache").exists() == is_used

    def test_a_full_disk_leaves_no_part_of_a_file(self, tmp_path, monkeypatch):
        write = Path.write_bytes

        def fail(path, data):
            if path.parent == tmp_path:
                write(path, data[:1])
                raise OSError(28, "No space left on device")
            return write(path, data)

        monkeypatch.setattr(Path, "write_bytes", fail)
        assert self.compiled(Cubins(tmp_path))
        assert list(tmp_path.iterdir()) == []


def test_where_64_bit_indices_begin():
    assert index_dtype(MAX_INT32) == np.int32
    assert index_dtype(5, MAX_INT32 + 1) == np.int64
    assert index_dtype(2**31) == np.int64


@pytest.mark.parametrize("number", [1, 2, 3, 5, 7, 10, 641, 2**16 + 1, 2**30, 2**31 - 1])
def test_division_by_multiplication(number):
    """The host's factor and shift, in the arithmetic of the kernel."""
    magic = divisor_struct(number, np.dtype("i4"), "n").data
    rng = np.random.default_rng(number)
    multiples = rng.integers(0, 2**31 // number, 1000, dtype=np.uint64) * np.uint64(number)
    n = np.concatenate([multiples, multiples[multiples > 0] - np.uint64(1), [0, 2**31 - 1]])
    n = n.astype(np.uint64)
    high = n * np.uint64(magic["factor"]) >> np.uint64(32)
    assert (n + high).max() < 2**32
    np.testing.assert_array_equal((n + high) >> np.uint64(magic["shift"]), n // np.uint64(number))


@pytest.mark.parametrize("name", ["Divisor", "Geometry", "Counted", "Columns", "Flat", "Images"])
def test_structs_have_the_fields_of_their_source(name):
    """The host's struct has the fields of the kernel's declaration, in the same order."""
    declared = []
    for file in {kernel.file for kernel in k.KERNELS}:
        start = "template <> struct Divisor<int> {" if name == "Divisor" else f"> struct {name} {{"
        _, found, body = k.source(file).partition(start)
        if found:
            for line in body.partition("};")[0].partition("__device__")[0].splitlines():
                declaration = line.partition("//")[0].strip()
                if declaration.endswith(";"):
                    names = declaration.removesuffix(";").partition(" ")[2]
                    declared = [*declared, *(n.strip().partition("[")[0] for n in names.split(","))]
            break
    fields = struct_dtype(name, np.dtype("i4")).names
    assert [field.split()[-1] for field in declared] == list(fields)
