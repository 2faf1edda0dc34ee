"""`ridgepole devices`, on the fake driver library: in a pipe, on a terminal, watched."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import pexpect
import pyte
import pytest

from ridgepole.devices.host import describe_process
from ridgepole.devices.leases import LeaseHolder, LeaseRegistry

GIB = 1024**3
INTEL = "13th Gen Intel(R) Core(TM) i9-13900KS CPU @ 3.20GHz"
VERB = [sys.executable, "-m", "ridgepole", "devices"]


@pytest.fixture
def devices(elsewhere):
    """Calls the verb on a machine whose cards have that much in use."""

    def call(*arguments, used="30,4,33", **environment):
        return subprocess.run(
            [*VERB, *arguments], env=elsewhere(used) | environment, capture_output=True, text=True, timeout=60
        )

    return call


@pytest.fixture
def ada(tmp_path):
    """A lease of somebody's on the second card."""
    registry = LeaseRegistry(tmp_path / "leases")
    with registry.lock():
        lease = registry.take(
            "GPU-00000001-0000-0000-0000-000000000000",
            LeaseHolder(pid=4711, user="ada", start="2026-01-01T10:00:00+00:00", exclusive=True, run="20260101-abc"),
        )
    yield lease
    lease.release()


def test_the_table_has_every_device_and_the_choice(devices):
    done = devices()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["device", "name", "used"]
    first, second, third, cpu = lines[1:5]
    assert re.search(r"cuda:0 .*30\.0 / 40\.0 .*75\.0% .*and 96 more +free$", first), first
    assert re.search(r"cuda:1 .*4\.0 / 40\.0 .*10\.0% .*chosen$", second), second
    assert third.endswith("above 80%")
    assert cpu.split()[0] == "cpu"
    assert "numbers from the NVIDIA driver (NVML), every process on the machine counted" in done.stdout
    assert lines[-1] == "Device() would choose cuda:1: the best of 2: 10 % used, 0 leases"
    assert "\x1b" not in done.stdout, "no escapes off a terminal"


def test_leases_are_shown_with_their_holders_and_change_the_choice(devices, ada):
    lines = devices().stdout.splitlines()
    assert (
        "  cuda:1 is leased by pid 4711 (ada, run 20260101-abc), exclusively, since 2026-01-01T10:00:00+00:00" in lines
    )
    assert lines[-1].startswith("Device() would choose cuda:0: ")


def test_json_is_the_survey(devices, ada):
    found = json.loads(devices("--json").stdout)
    assert (found["chosen"], len(found["devices"])) == ("cuda:0", 4)
    second = found["devices"][1]
    assert (second["used_bytes"], second["total_bytes"], second["verdict"]) == (4 * GIB, 40 * GIB, "rejected")
    assert [holder["user"] for holder in second["leases"]] == ["ada"]


def test_an_error_that_device_would_raise_is_told_and_is_no_failure(devices):
    done = devices(used="33,34")
    assert done.returncode == 0
    assert "Device() would raise an error: All devices are using more than 80% of VRAM" in done.stdout


def test_a_driver_that_does_not_match_its_library_is_told(devices):
    done = devices(FAKE_NVML_INIT="18")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(
        r"would raise an error: the NVIDIA driver can't be asked: .*different versions.*reboot", done.stdout
    )
    assert json.loads(devices("--json", FAKE_NVML_INIT="18").stdout)["chosen"] is None


def test_the_variables_of_cuda_count(devices):
    done = devices(CUDA_VISIBLE_DEVICES="2,0")
    assert "Device() would choose cuda:1: " in done.stdout
    assert re.search(r"#1 .*hidden by CUDA_VISIBLE_DEVICES$", done.stdout, re.MULTILINE)


def test_nothing_of_another_user_reaches_the_terminal_as_an_escape(devices, tmp_path):
    registry = LeaseRegistry(tmp_path / "leases")
    with registry.lock():
        lease = registry.take(
            "GPU-00000000-0000-0000-0000-000000000000", LeaseHolder(pid=1, user="\x1b[2Jeve", run="a\nb")
        )
    done = devices()
    lease.release()
    assert "\x1b" not in done.stdout
    assert "?[2Jeve, run a?b" in done.stdout


def test_watching_in_a_pipe_prints_look_after_look_until_interrupted(elsewhere):
    with subprocess.Popen([*VERB, "--watch", "0.1"], env=elsewhere("4,30"), stdout=-1, stderr=-1, text=True) as watch:
        looks = 0
        while looks < 3:  # each look is written out at once
            looks += watch.stdout.readline().startswith("Device() would choose cuda:0")
        watch.send_signal(signal.SIGINT)
        rest, errors = watch.communicate(timeout=30)
    assert (watch.returncode, errors) == (130, "")
    assert "\x1b" not in rest


def test_watching_as_json_gives_a_document_a_line_and_ends_with_its_reader(elsewhere):
    with subprocess.Popen([*VERB, "--watch", "0.1", "--json"], env=elsewhere("4,30"), stdout=-1, stderr=-1) as watch:
        looks = [json.loads(watch.stdout.readline()) for _ in range(3)]
        watch.stdout.close()
        assert (watch.wait(timeout=30), watch.stderr.read()) == (0, b""), "as with `| head`"
    assert [look["chosen"] for look in looks] == ["cuda:0"] * 3


@pytest.mark.parametrize("pause", ["0", "-1", "nan", "inf", "soon"])
def test_a_pause_that_is_none_is_refused(devices, pause):
    done = devices(f"--watch={pause}")
    assert done.returncode == 2
    assert "expected seconds from 0.1" in done.stderr


class Watched:
    """The verb on a terminal of some size, and the screen that a person sees."""

    def __init__(self, environment, rows, columns):
        self.screen = pyte.HistoryScreen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.child = pexpect.spawn(
            VERB[0], [*VERB[1:], "--watch", "0.1"], dimensions=(rows, columns), env=environment, timeout=30
        )

    def pump(self):
        try:
            data = self.child.read_nonblocking(65536, timeout=0.2)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self.stream.feed(data)
        return True

    def until(self, wanted):
        end = time.monotonic() + 30
        while not wanted(self.text):
            assert self.pump(), f"it ended early:\n{self.text}"
            assert time.monotonic() < end, f"it never came:\n{self.text}"
        return self.text

    def interrupt(self):
        self.child.sendintr()
        while self.pump():
            pass
        self.child.close()
        return self.child.exitstatus

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display).strip("\n")


@pytest.fixture
def watched(elsewhere):
    started = []

    def start(used="30,4,33", rows=24, columns=160, cpu="Some CPU", **environment):
        without = {name: value for name, value in elsewhere(used, cpu).items() if name not in ("COLUMNS", "LINES")}
        started.append(Watched(without | {"TERM": "xterm-256color"} | environment, rows, columns))
        return started[-1]

    yield start
    for one in started:
        one.child.close(force=True)


def test_watching_on_a_terminal_draws_in_place_and_ends_quietly(watched, tmp_path):
    watch = watched()
    watch.until(lambda text: "would choose cuda:1" in text)
    registry = LeaseRegistry(tmp_path / "leases")
    with registry.lock():
        lease = registry.take("GPU-00000001-0000-0000-0000-000000000000", LeaseHolder(pid=4711, exclusive=True))
    watch.until(lambda text: "would choose cuda:0" in text and "leased by pid 4711" in text)
    lease.release()
    watch.until(lambda text: "would choose cuda:1" in text and "leased" not in text)
    assert watch.interrupt() == 130
    assert watch.text.count("used / total GiB") == 1, "one table, however often it was drawn"
    assert "Traceback" not in watch.text
    assert not watch.screen.history.top, "nothing scrolled away"
    assert b"\x1b[?" not in watch.raw, "no mode of the terminal was changed, so none can be left behind"
    assert b"\x1b[32m" in watch.raw, "the chosen card is green"


def test_no_color_means_no_colour(watched):
    watch = watched(NO_COLOR="1")
    watch.until(lambda text: "would choose cuda:1" in text)
    watch.interrupt()
    assert not re.search(rb"\x1b\[[0-9;]*m", watch.raw)


def test_a_terminal_that_cannot_redraw_gets_plain_looks(watched):
    watch = watched(TERM="dumb", rows=60)
    watch.until(lambda text: text.count("would choose cuda:1") >= 2)
    watch.interrupt()
    assert b"\x1b" not in watch.raw


@pytest.mark.parametrize(
    ("columns", "cpu", "processes", "named"),
    [
        (100, "Some CPU", "5000099 99.0, and 99 more", "Some CPU"),
        (97, INTEL, "5000099 99.0, and 99 more", INTEL[:15] + "…"),
        (125, INTEL, "5000099 99.0, 5000098 98.0, and 98 more", INTEL[:29] + "…"),
        (250, INTEL, "5000096 96.0, and 96 more", INTEL),
        (81, INTEL, "100", INTEL[:15] + "…"),
        (73, INTEL, "100", INTEL[:7] + "…"),
    ],
)
def test_a_narrow_terminal_names_fewer_processes_and_keeps_the_verdict(watched, columns, cpu, processes, named):
    watch = watched(columns=columns, cpu=cpu)
    watch.until(lambda text: "would choose" in text)
    watch.interrupt()
    first, second, third, fourth = watch.text.splitlines()[1:5]
    assert re.search(rf"cuda:0 .* {processes} +free$", first), first
    assert second.endswith("chosen")
    assert third.endswith("above 80%")
    assert fourth.startswith(f"  cpu     {named}  "), fourth
    assert fourth.endswith("free")


def test_a_small_terminal_gets_what_fits(watched):
    watch = watched(used=",".join(["4"] * 12), rows=8, columns=40)
    watch.until(lambda text: "more lines" in text)
    for _ in range(5):
        watch.pump()
    assert watch.interrupt() == 130
    assert not watch.screen.history.top
    assert watch.screen.display[0].startswith("  device")
    assert all(line.rstrip().endswith("…") for line in watch.screen.display[:6])


def test_torch_is_not_imported(devices):
    done = devices("--json")
    assert (done.returncode, done.stderr) == (0, ""), "the torch of this machine dies when it is imported"


def test_a_process_may_be_called_anything(library):
    script = "import sys; open('/proc/self/comm', 'w').write('\\x1b[2J'); print(flush=True); sys.stdin.readline()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1) as process:
        process.stdout.readline()
        assert describe_process(process.pid).startswith("?[2J (")
        process.communicate(b"\n")
