"""``tinyml bench``: its cases, measurements, checks and output."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

import tinyml
from conftest import peer
from support.bench import SMALL, Planted, bench, plant
from tinyml.bench import cases, load, peers, runner, tables
from tinyml.bench.cases import Convolution
from tinyml.bench.environment import instruction_set
from tinyml.bench.pytorch import PyTorch
from tinyml.bench.results import Measured, Report, Timing
from tinyml.bench.torch_network import torch_network
from tinyml.layers import Conv2D, Layer, MaxPool2D, ReLU
from tinyml_backends.numpy_backend import NumpyBackend

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("quick")]


class TestOutput:
    def test_columns_and_environment(self, torch):
        result = bench("--cases", "unpool 8x6", "--peers", "torch")
        assert result.exit_code == 0, result.output
        environment, header, *lines = result.stdout.splitlines()
        assert f"tinyml {tinyml.__version__}" in environment
        assert f"NumPy {np.__version__}" in environment
        assert f", {instruction_set()}, " in environment
        assert f"torch threads {torch.get_num_threads()}" in environment
        assert " ".join(header.split()) == "median ms min ms GB/s of copy vs torch"
        assert lines[0] == "unpool 2x3x8x6 2x2/2"
        assert [line.split("  ")[1] for line in lines[1:4]] == [
            "numpy",
            "torch",
            "torch channels_last",
        ]
        ours = lines[1].split()
        median, minimum, speed = map(float, ours[1:4])
        assert 0 < minimum <= median
        moved = SMALL[1].size_in_bytes
        assert moved == 2 * 3 * (8 * 6 * 4 + 4 * 3 * (4 + 1))
        assert speed == pytest.approx(moved / median / 1e6, abs=0.1)
        assert ours[-1].endswith("×")

    def test_forced_blas_kernels_are_printed(self, monkeypatch):
        monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
        assert "(forced by OPENBLAS_CORETYPE=Haswell" in bench("--cases", "pool 8x6").stdout
        monkeypatch.delenv("OPENBLAS_CORETYPE")
        monkeypatch.delenv("OPENBLAS_L2_SIZE", raising=False)
        assert "forced" not in bench("--cases", "pool 8x6").stdout

    @pytest.mark.parametrize(
        ("found", "name"),
        [
            ({"baseline": ["X86_V2"], "found": ["X86_V3"]}, "AVX2"),
            ({"baseline": ["X86_V3"], "found": ["X86_V4"]}, "AVX-512"),
            ({"baseline": ["SSE"], "found": ["FMA3", "AVX2", "AVX512F", "AVX512_SKX"]}, "AVX-512"),
            ({"baseline": ["NEON", "ASIMD"]}, "NEON"),
            ({}, "no known vector instructions"),
        ],
    )
    def test_the_instruction_set_is_the_widest_found(self, monkeypatch, found, name):
        monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": found})
        assert instruction_set() == name

    def test_the_share_is_that_of_the_fastest_copy(self):
        measured = Measured("case", "group", 8_000_000_000)
        measured.timings = [
            Timing("numpy", "backend", "numpy", "cpu", [4.0]),
            Timing("torch", "peer", "torch", "cpu", [12.0]),
            Timing("torch channels_last", "peer", "torch", "cpu", [6.0]),
            Timing("torch cuda", "peer", "torch", "gpu", [0.1]),
            Timing("slow copy", "copy", "copy", "cpu", [2.0]),
            Timing("copy", "copy", "copy", "cpu", [1.0]),
        ]
        ours = measured.timings[0]
        assert measured.speed(ours) == 2
        assert measured.share(ours) == 0.25
        assert measured.ratios(ours) == {"torch": 1.5}  # the better form, and not the GPU's
        assert measured.ratios_to_forms(ours) == {"torch": 3, "torch channels_last": 1.5}
        printed = "\n".join(tables.rows(measured, ["torch"]))
        assert "1.50×" in printed
        assert "slow copy" not in printed

    def test_memory_is_copied_in_the_turns_of_a_large_case(self, monkeypatch):
        monkeypatch.setattr(runner, "LEAST_COPIED", 0)
        result = bench("--cases", "pool 8x6")
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-1].split()[-1] == "100%"

    def test_reuse_times_given_arrays_too(self):
        result = bench("--cases", "2x3x8x6", "--reuse", "--backends", "numpy")
        assert result.exit_code == 0, result.output
        assert result.stdout.count("  numpy out=  ") == 4

    def test_geometric_means(self):
        report = Report({})
        for seconds in (1.0, 4.0):
            ours = Timing("numpy", "backend", "numpy", "cpu", [1.0])
            theirs = Timing("torch", "peer", "torch", "cpu", [seconds])
            report.measured.append(Measured(str(seconds), "pool", None, [ours, theirs]))
        _, mean = tables.means(report)
        assert " ".join(mean.split()) == "pool numpy vs torch 2.00× (2 cases)"

    def test_list(self):
        result = bench("--list", "--cases", "conv")
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            "conv 2x3x8x6 3x3 to 4",
            "conv gradient 2x3x8x6 3x3 to 4",
            "conv 2x4x9x7 5x5/2 to 6 in 2 groups",
            "conv gradient 2x4x9x7 5x5/2 to 6 in 2 groups",
        ]

    def test_a_busy_machine_is_reported(self):
        report = Report({}, [Measured("case", "group", None, others=0.5)])
        assert "used up to 50% of the CPUs" in "".join(tables.disturbance(report))
        report.measured[0].others = 0.01
        assert not list(tables.disturbance(report))

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/stat is Linux's")
    def test_the_share_of_others_sees_another_process_and_not_ourselves(self):
        code = "import time\nend = time.time() + 9\nwhile time.time() < end: pass"
        with subprocess.Popen([sys.executable, "-c", code]) as other:
            share = load.watch()
            time.sleep(1)
            other_share = share()
            other.kill()
        assert other_share > 0.3 / os.cpu_count()


class TestCases:
    def test_words_select(self):
        def names(text):
            return {case.operation for case in cases.chosen(text)}

        assert names("unpool") == {"unpool", "unpool gradient"}
        assert "unpool" not in names("pool")
        assert names("conv") == {"conv", "conv gradient"}
        assert [str(case) for case in cases.chosen("8x6 gradient unpool")] == [str(SMALL[3])]
        assert cases.chosen("  ") == SMALL

    def test_names_in_the_table_are_unique(self, monkeypatch):
        monkeypatch.undo()
        names = [str(case) for case in cases.CASES]
        assert len(set(names)) == len(names) > 40

    @pytest.mark.parametrize("library", ["torch", "onnxruntime"])
    def test_peers_agree_with_the_reference(self, library):
        """Every case of every peer; the output names those that it lacks."""
        peer("onnx" if library == "onnxruntime" else library)
        peer(library)
        result = bench("--peers", library, "--budget", "0")
        assert result.exit_code == 0, result.output
        overlapping = "unpool 2x3x9x7 3x3/2 pad 1"
        without = {
            "torch": {overlapping},
            "onnxruntime": {overlapping, *(str(c) for c in SMALL if "gradient" in str(c))}
            | {str(c) for c in SMALL if "training" in str(c)},
        }[library]
        lines = result.stdout.splitlines()
        missing = [n for n, line in enumerate(lines) if line.startswith(f"  without {library}: ")]
        assert len(missing) == len(without)
        assert all(lines[n - 2] in without for n in missing)

    @pytest.mark.parametrize("library", ["torch", "onnxruntime"])
    def test_a_network_with_a_layer_that_a_peer_lacks_is_refused(self, library):
        """Otherwise another network would be timed."""

        class Twice(Layer):
            def forward(self, x):
                return 2 * x

        peer("onnx" if library == "onnxruntime" else library)
        peer(library)
        build = {
            "torch": torch_network,
            "onnxruntime": lambda layers: peers.load(library)._network(layers, np.zeros((1, 1))),
        }[library]
        with pytest.raises(cases.Unsupported, match="layer 'double' is a Twice, which has no"):
            build([ReLU("relu"), Twice("double")])

    @pytest.mark.parametrize("kind", ["conv", "pool"])
    def test_peers_take_every_option_of_a_layer(self, torch, kind):
        """The table's networks use none of them, so they cannot show a missing one."""
        peer("onnx")
        peer("onnxruntime")
        options = {"stride": (2, 1), "padding": (1, 3), "dilation": (1, 2)}
        if kind == "conv":
            layer = Conv2D("conv", (4, 9, 8), 6, (3, 2), **options, groups=2, rng=0)
            layer.bias.tensor[...] = np.arange(6)
        else:
            options["padding"] = 1  # PyTorch's limit is half of the window
            layer = MaxPool2D("pool", (4, 9, 8), (3, 2), **options)
        x = cases.values((2, 4, 9, 8))
        expected = (layer(x),)
        theirs = torch_network([layer])(torch.from_numpy(x)).detach().numpy()
        assert cases.difference((theirs,), expected, 1e-5) == ""
        prepared = peers.load("onnxruntime")._network([layer], x)
        assert cases.difference(prepared.results(prepared.run()), expected, 1e-5) == ""

    @pytest.mark.parametrize(("library", "module"), [("opencv", "cv2"), ("ncnn", "ncnn")])
    def test_peers_of_convolutions_agree_with_the_reference(self, library, module):
        peer("onnx")
        peer(module)
        result = bench("--peers", library, "--cases", "2x", "--budget", "0")
        assert result.exit_code == 0, result.output
        assert result.stdout.count(f"\n  {library}  ") == 2
        assert result.stdout.count(f"\n  without {library}: ") == len(cases.chosen("2x")) - 2

    @pytest.mark.parametrize(("library", "module"), [("opencv", "cv2"), ("ncnn", "ncnn")])
    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_peers_of_convolutions_take_every_option(self, library, module, groups):
        peer("onnx")
        peer(module)
        options = {"stride": (2, 1), "padding": (1, 3), "dilation": (1, 2), "groups": groups}
        layer = Conv2D("conv", (4, 9, 8), 8, (3, 2), **options, rng=0)
        layer.bias.tensor[...] = np.arange(8)
        x = cases.values((2, 4, 9, 8))
        prepared = peers.load(library).convolution(layer, x)
        assert cases.difference(prepared.results(prepared.run()), (layer(x),), 1e-5) == ""

    def test_the_reference_runs_generic_kernels(self, monkeypatch):
        def broken(*_, **__):
            raise AssertionError("the backend under test is not its own reference")

        monkeypatch.setattr(NumpyBackend, "max_unpool", broken)
        assert cases.reference(SMALL[1])[0].shape == (2, 3, 8, 6)

    def test_a_training_step_repeats_itself(self):
        run, read = SMALL[-1].prepare()
        first = read(run())
        kept = [array.copy() for array in first]
        assert cases.difference(read(run()), tuple(kept), 1e-6) == ""


class TestChecks:
    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (lambda x: x + 1, "288 of 288 values differ, the first at (0, 0, 0, 0)"),
            (lambda x: np.where(x == x.max(), np.nan, x), "1 of 288 values differ"),
            (lambda x: 1 / 0, "ZeroDivisionError: division by zero"),
        ],
    )
    def test_a_wrong_result_is_an_error_and_has_no_time(self, monkeypatch, fault, message):
        plant(monkeypatch, fault)
        monkeypatch.setattr(cases, "CASES", SMALL[1:2])
        result = bench("--backends", "numpy,planted")
        assert result.exit_code == 1
        (error,) = [line for line in result.stdout.splitlines() if "ERROR" in line]
        assert error.startswith("  ERROR planted: ")
        assert message in error
        assert "  planted  " not in result.stdout
        assert "  numpy  " in result.stdout  # the others go on

    def test_a_peer_that_fails_is_an_error_and_not_left_out(self, monkeypatch, torch):
        def broken(self, case, x):
            return {}[case.operation]

        monkeypatch.setattr(PyTorch, "_pooling", broken)
        result = bench("--cases", "unpool 8x6", "--peers", "torch")
        assert result.exit_code == 1
        assert "  ERROR torch: KeyError: 'unpool'" in result.stdout

    def test_an_error_during_the_timed_calls_is_found(self, monkeypatch):
        plant(monkeypatch, lambda x: x + 1 if Planted.calls > 6 else x)
        monkeypatch.setattr(cases, "CASES", SMALL[1:2])
        result = bench("--backends", "planted")
        assert result.exit_code == 1
        assert "  planted  " not in result.stdout
        assert "wrong result" in result.stdout

    def test_a_wrong_winner_is_an_error(self, monkeypatch):
        class Wrong(NumpyBackend):
            name = "wrong"

            def max_pool(self, x, window, *, out=None):
                y, winners = super().max_pool(x, window, out=out)
                return y, winners ^ 1

        tinyml.register_backend("wrong", Wrong)
        result = bench("--cases", "pool 8x6", "--backends", "wrong")
        assert result.exit_code == 1
        assert "  ERROR wrong: wrong result: " in result.stdout

    def test_sums_may_differ_by_rounding_and_not_by_a_value(self):
        right = (np.random.default_rng(0).standard_normal(10**6, np.float32),)
        rounded = (right[0] * np.float32(1 + 1e-6),)
        assert cases.difference(rounded, right, Convolution.tolerance) == ""
        assert cases.difference(rounded, right, 0)
        one_wrong = (right[0].copy(),)
        one_wrong[0][7] += 1
        assert "1 of 1,000,000" in cases.difference(one_wrong, right, Convolution.tolerance)

    @pytest.mark.parametrize("found", [np.ones((2, 3), np.float32), np.ones((3, 2))])
    def test_shapes_and_dtypes_count(self, found):
        expected = np.ones((3, 2), np.float32)
        message = f"{found.dtype} {found.shape}, expected float32 (3, 2)"
        assert cases.difference((found,), (expected,), 1) == message

    def test_indices_are_never_rounded(self):
        assert cases.difference((np.array([10**9]),), (np.array([10**9 + 1]),), 1e-3)


def test_no_peer_is_imported_unless_named():
    arguments = ["bench", "--cases", "pool 1x1x4x4", "--rounds", "7", "--backends", "numpy"]
    code = (
        "import atexit, sys\n"
        "from tinyml.cli import main\n"
        "atexit.register(lambda: print(*sys.modules))\n"
        f"main({arguments!r})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "  numpy  " in run.stdout
    loaded = {name.partition(".")[0] for name in run.stdout.splitlines()[-1].split()}
    assert "click" in loaded
    assert (
        not {"torch", "onnx", "onnxruntime", "cv2", "ncnn", "matplotlib", "numba", "cupy"} & loaded
    )
