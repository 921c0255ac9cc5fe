"""``tinyml bench``: files that it writes and compares, invalid arguments, and interrupts."""

import json
import re
import sys

import pytest

import tinyml
from support.bench import SMALL, Planted, bench, plant, refused
from tinyml.bench import cases, measure, plot, results
from tinyml.bench.results import Measured, Report, Timing
from tinyml.cli import bench as bench_command
from tinyml_backends.numpy_backend import NumpyBackend

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("quick")]


class TestFiles:
    def test_json_holds_everything_and_is_read_back(self, tmp_path, torch):
        file = tmp_path / "run.json"
        result = bench("--cases", "pool 8x6", "--peers", "torch", "--json", file)
        assert result.exit_code == 0, result.output
        assert result.stdout.endswith(f"written: {file}\n")
        content = json.loads(file.read_text())
        assert content["complete"] is True
        assert content["environment"]["Python"] == ".".join(map(str, sys.version_info[:3]))
        assert content["environment"]["torch version"] == torch.__version__
        pool, gradient = content["measured"]
        assert (pool["case"], gradient["case"]) == (str(SMALL[0]), str(SMALL[2]))
        ours, contiguous, last = pool["timings"]
        assert len(ours["seconds"]) == 7
        assert ours["median"] == sorted(ours["seconds"])[3]
        assert ours["minimum"] == min(ours["seconds"])
        better = min(contiguous["median"], last["median"])
        assert ours["ratios"] == {"torch": better / ours["median"]}
        again = Report.read(file)
        again.write(tmp_path / "again.json")
        assert json.loads((tmp_path / "again.json").read_text()) == content

    def test_plot(self, tmp_path):
        pytest.importorskip("matplotlib")
        file = tmp_path / "run.svg"
        result = bench("--cases", "8x6", "--plot", file)
        assert result.exit_code == 0, result.output
        assert file.stat().st_size > 5000

    def test_the_chart_names_the_form_of_a_peer_and_carries_the_warning(self, tmp_path):
        matplotlib = pytest.importorskip("matplotlib")
        seconds = [0.002] * 7
        report = Report({"CPU": "a CPU"})
        for case, slower in (("a", ""), ("b", " channels_last")):
            timings = [Timing("numpy", "backend", "numpy", "cpu", [0.001] * 7)]
            for form in ("", " channels_last"):
                times = [0.004] * 7 if form == slower else seconds
                timings.append(Timing(f"torch{form}", "peer", "torch", "cpu", times))
            timings.append(Timing("onnxruntime", "peer", "onnxruntime", "cpu", seconds))
            report.measured.append(Measured(case, "pool", 1, timings=timings, others=0.5))
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            plot.draw(tmp_path / "x.svg", report, "the machine")
        text = (tmp_path / "x.svg").read_text()
        assert text.count(">2 ms, channels_last<") == text.count(">2 ms, contiguous<") == 1
        assert text.count(">2 ms<") == 2
        assert "WARNING in 2 of 2 cases other programs used up to 50%" in text
        assert "the machine" in text

    def test_nothing_right_is_nothing_to_plot(self, tmp_path, monkeypatch):
        pytest.importorskip("matplotlib")
        plant(monkeypatch, lambda right: right + 1)
        monkeypatch.setattr(cases, "CASES", SMALL[1:2])
        result = bench("--backends", "planted", "--plot", tmp_path / "x.png")
        assert result.exit_code == 1, result.output
        assert not list(tmp_path.iterdir())

    def test_a_disk_that_fills_up(self, tmp_path, monkeypatch):
        def full(self, path):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Report, "write", full)
        result = bench("--cases", "pool 8x6", "--json", tmp_path / "run.json")
        assert result.exit_code == 2
        assert "No space left on device" in result.stderr
        assert "  numpy  " in result.stdout


def timing(*seconds, name="numpy", kind="backend"):
    return Timing(name, kind, "numpy", "cpu", list(seconds))


class TestCompare:
    @pytest.mark.parametrize(
        ("old", "new", "slower"),
        [
            ([1, 2, 3, 4, 5], [11, 12, 13, 14, 15], True),
            ([11, 12, 13, 14, 15], [1, 2, 3, 4, 5], False),
            ([1, 2, 3, 4, 5], [3, 4, 5, 6, 7], False),  # quartiles 2 to 4 and 4 to 6: they touch
            ([1, 2, 3, 4, 5], [3.1, 4.1, 5.1, 6.1, 7.1], True),
            ([1, 2, 3, 4, 99], [5, 5, 5, 5, 5], True),  # one outlier is no noise
            ([1, 1, 1], [1, 1, 1], False),
            ([1], [2], True),
        ],
    )
    def test_the_rule(self, old, new, slower):
        assert results.Change("case", timing(*old), timing(*new), None).slower is slower

    def test_only_ours_are_compared(self):
        before = Report({}, [Measured("a", "g", None, [timing(1), timing(1, kind="peer")])])
        after = Report({}, [Measured("a", "g", None, [timing(2), timing(2, kind="peer")])])
        after.measured.append(Measured("b", "g", None, [timing(2)]))
        assert [change.new.kind for change in results.changes(before, after)] == ["backend"]

    def test_what_got_slower_is_named_and_is_exit_code_1(self, tmp_path):
        file = tmp_path / "old.json"
        bench("--cases", "pool 8x6", "--json", file)
        old = Report.read(file)
        for measured in old.measured:
            measured.timings[0].seconds = [1e-12] * 7
        old.measured[1].timings[0].seconds = [1e3] * 7
        old.environment["CPU"] = "another one"
        old.write(file)
        result = bench("--cases", "pool 8x6", "--compare", file)
        assert result.exit_code == 1
        assert f"1 of 2 times got slower than in {file} (median above" in result.stdout
        assert "  not the same CPU: another one then, " in result.stdout
        (slower,) = [line for line in result.stdout.splitlines() if "SLOWER" in line]
        assert slower.startswith(f"  SLOWER {SMALL[0]}, numpy: 0.0000 ms -> ")

    def test_nothing_slower(self, tmp_path):
        file = tmp_path / "old.json"
        bench("--cases", "pool 8x6", "--json", file)
        old = Report.read(file)
        for measured in old.measured:
            measured.timings[0].seconds = [1e3] * 7
        old.write(file)
        result = bench("--cases", "pool 8x6", "--compare", file)
        assert result.exit_code == 0
        assert "0 of 2 times got slower" in result.stdout
        assert "not the same" not in result.stdout


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--backends", "numpi"], "unknown backend 'numpi'; .* did you mean 'numpy'"),
            (["--backends", "numpy,"], "--backends is 'numpy,'; it must be names between commas"),
            (["--backends", ""], "--backends is ''; it must be names"),
            (["--peers", "troch"], "unknown peer 'troch'; .* did you mean 'torch'"),
            (["--cases", "nothing"], "no case has all words of 'nothing'; .*--list"),
            (["--compare", "absent.json"], "absent.json cannot be read: No such file"),
            (["--json", "absent/x.json"], "--json absent/x.json cannot be written: No such file"),
            (["--plot", "x.gif"], "--plot x.gif is none of .jpg, .pdf, .png, .svg"),
            (["--plot", "absent/x.png"], "--plot absent/x.png cannot be written"),
            (["--json", "x.png", "--plot", "./x.png"], "--plot and --json are both x.png"),
            (["--rounds", "6"], "'--rounds': 6 is not in the range x>=7"),
            (["--budget", "-1"], "'--budget': -1.0 is not in the range x>=0"),
            (["--json", "."], "'--json': File '.' is a directory"),
            (["more"], "unexpected extra argument"),
        ],
    )
    def test_refused(self, arguments, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert re.search(message, refused(*arguments))
        assert not list(tmp_path.iterdir())

    def test_a_backend_that_cannot_run(self):
        def absent():
            raise tinyml.BackendUnavailableError("there is no such chip here")

        tinyml.register_backend("absent", absent)
        reason = "backend 'absent' cannot run: there is no such chip here"
        assert refused("--backends", "numpy,absent") == reason

    def test_one_backend_under_two_names(self):
        tinyml.register_backend("twin", NumpyBackend)
        message = "--backends is 'numpy,twin'; two of these are one backend, name it once"
        assert refused("--backends", "numpy,twin") == message

    @pytest.mark.parametrize(
        ("name", "module", "missing"),
        [
            ("torch", "torch", "torch"),
            ("onnxruntime", "onnxruntime", "onnxruntime"),
            ("opencv", "cv2", "opencv-python-headless"),
            ("ncnn", "ncnn", "ncnn"),
        ],
    )
    def test_a_peer_that_is_not_installed(self, name, module, missing, monkeypatch):
        from tinyml.bench import peers

        monkeypatch.setattr(peers, "find_spec", lambda name: None if name == module else True)
        message = f"peer '{name}' needs {missing}; run: python3 -m pip install {missing}"
        assert refused("--peers", name) == message

    def test_a_peer_that_does_not_load(self, monkeypatch):
        from tinyml.bench import peers

        def broken(module):
            raise OSError("libsomething.so: cannot open shared object file")

        monkeypatch.setattr(peers, "find_spec", lambda name: True)
        monkeypatch.setattr(peers, "import_module", broken)
        assert "peer 'torch' does not load here: libsomething.so" in refused("--peers", "torch")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is no JSON file"),
            ("no json", "is no JSON file"),
            ("[1]", "was not written by `tinyml bench --json`"),
            ('{"format": "other"}', "was not written by `tinyml bench --json`"),
            ('{"format": "tinyml-bench-1"}', "is damaged: KeyError: 'environment'"),
            (
                '{"format": "tinyml-bench-1", "environment": {}, "complete": 1, "measured": [1]}',
                "is damaged: TypeError",
            ),
        ],
    )
    def test_other_files_are_refused(self, tmp_path, text, message):
        file = tmp_path / "old.json"
        file.write_text(text)
        assert message in refused("--compare", file)

    def test_binary_files(self, tmp_path):
        file = tmp_path / "old.json"
        file.write_bytes(b"\xff\xfe\x00")
        assert "is no JSON file" in refused("--compare", file)

    @pytest.mark.parametrize("seconds", [[], [0], [-1], [float("nan")], ["a"], None])
    def test_invalid_samples(self, tmp_path, seconds):
        file = tmp_path / "old.json"
        bench("--cases", "pool 8x6", "--json", file)
        content = json.loads(file.read_text())
        content["measured"][0]["timings"][0]["seconds"] = seconds
        file.write_text(json.dumps(content))
        assert "is damaged" in refused("--compare", file)

    def test_a_file_without_the_chosen_cases(self, tmp_path):
        file = tmp_path / "old.json"
        bench("--cases", "pool 8x6", "--json", file)
        before = file.read_bytes()
        assert "has none of the chosen cases" in refused("--cases", "conv", "--compare", file)
        message = refused("--cases", "pool 8x6", "--compare", file, "--json", file)
        assert message == f"--json {file} is the file to compare with; name another file"
        assert file.read_bytes() == before

    def test_a_plot_without_matplotlib(self, tmp_path, monkeypatch):
        monkeypatch.setattr(bench_command, "find_spec", lambda name: None)
        message = "--plot needs matplotlib; run: python3 -m pip install matplotlib"
        assert refused("--plot", tmp_path / "x.png") == message


class TestInterrupt:
    def interrupt(self, monkeypatch, tmp_path, call):
        def fault(right):
            if Planted.calls == call:
                raise KeyboardInterrupt
            return right

        plant(monkeypatch, fault)
        file = tmp_path / "run.json"
        result = bench("--cases", "2x3x8x6", "--backends", "planted", "--json", file)
        assert result.exit_code == 130
        assert "interrupted after" in result.stderr
        return result, Report.read(file)

    def test_what_was_measured_stays(self, monkeypatch, tmp_path):
        """Call 1 is checked before the case is timed; the case before is whole."""
        result, report = self.interrupt(monkeypatch, tmp_path, call=1)
        assert [measured.case for measured in report.measured] == [str(SMALL[0])]
        assert not report.complete
        assert f"{SMALL[0]}\n  planted  " in result.stdout

    def test_whole_rounds_of_a_case_stay(self, monkeypatch, tmp_path):
        monkeypatch.setattr(measure, "MOST_REPEATS", 1)
        result, report = self.interrupt(monkeypatch, tmp_path, call=8)
        assert [measured.case for measured in report.measured] == list(map(str, SMALL[:2]))
        rounds = len(report.measured[1].timings[0].seconds)
        assert 0 < rounds < 7
        assert f"  only {rounds} rounds, then interrupted" in result.stdout
