"""Leases, with real locks and real processes."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from isolation import send
from ridgepole.devices import Device, leases, survey
from ridgepole.devices.leases import LeaseHolder, LeaseRegistry
from ridgepole.errors import DeviceWaitTimeout, VRAMUsageError
from ridgepole.files import Flock

GIB = 1024**3
HERE = Path(__file__).parent

HOLDER = """
import json, os, sys
sys.modules["torch"] = None  # a machine without torch: the choice needs none
sys.path.insert(0, {here!r})
import fake_nvml
fake_nvml.install(json.loads({machine!r}))
from ridgepole.errors import DeviceWaitTimeout, VRAMUsageError
from ridgepole.devices import Device
sys.stdin.readline()
try:
    device = Device(**json.loads({options!r}))
    print(device, flush=True)
except VRAMUsageError as error:
    print("refused:", str(error).splitlines()[0], flush=True)
sys.stdin.readline()
"""


class Other:
    """Another process that makes a `Device` when told to, and holds it until told to end."""

    def __init__(self, cards, **options):
        script = HOLDER.format(here=str(HERE), machine=json.dumps({"cards": cards}), options=json.dumps(options))
        self.process = subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, stderr=-1, text=True)

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def answer(self):
        return self.process.stdout.readline().strip() or self.process.communicate()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def count(registry, key="GPU-0"):
    return len(registry.holders([key])[key])


@pytest.fixture
def registry(tmp_path):
    return LeaseRegistry(tmp_path / "leases")


def take(registry, key="GPU-0", **fields):
    with registry.lock():
        return registry.take(key, LeaseHolder(pid=os.getpid(), **fields))


def test_later_starts_prefer_the_card_with_fewer_leases(machine, card):
    machine([card(0), card(1, used=10 * GIB), card(2, used=39 * GIB)])
    first, second, third = Device(), Device(), Device()
    assert [str(one) for one in (first, second, third)] == ["cuda:0", "cuda:1", "cuda:0"]
    second.cleanup()
    assert str(Device()) == "cuda:1", "given back at cleanup"


def test_sixteen_simultaneous_starts_on_four_cards(machine, card, environment):
    cards = [card(number) for number in range(4)]
    others = [Other(cards, lease="exclusive") for _ in range(16)]
    try:
        for other in others:
            other.go()
        answers = [other.answer() for other in others]
    finally:
        for other in others:
            other.__exit__()
    winners = sorted(answer for answer in answers if answer.startswith("cuda"))
    assert winners == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"], answers
    assert answers.count("refused: All devices are leased") == 12, answers


def test_killing_a_holder_frees_its_lease(machine, card):
    cards = [card(0)]
    machine(cards)
    with Other(cards, lease="exclusive", min_free="2GiB") as other:
        other.go()
        assert other.answer() == "cuda:0"
        with pytest.raises(VRAMUsageError, match="All devices are leased") as caught:
            Device()
        (held,) = caught.value.devices[0]["leases"]
        assert (held["pid"], held["exclusive"], held["min_free"]) == (other.process.pid, True, 2 * GIB)
        assert f"leased by pid {other.process.pid}" in str(caught.value)
        other.process.send_signal(signal.SIGKILL)
        other.process.wait()
        device = Device(lease="exclusive")
        assert device.get_state()["lease"] == {"mode": "exclusive", "held": True}
        device.cleanup()


def test_the_lease_outlives_the_device_object(machine, card):
    machine([card(0), card(1)])
    kept = Device().device
    gc.collect()
    assert kept == "torch.device(cuda:0)"
    assert str(Device()) == "cuda:1", "the first card still has its lease, though its Device is gone"


def test_no_lease_is_taken_or_minded_where_it_is_off(machine, card, environment):
    machine([card(0)])
    Device(lease="off")
    assert not (environment / "leases").exists()
    Device(lease="exclusive")
    assert str(Device(lease="off")) == "cuda:0"


def test_a_forked_child_holds_nothing_and_gives_nothing_back(registry):
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "from ridgepole.devices.leases import LeaseHolder, LeaseRegistry\n"
        f"registry = LeaseRegistry(Path({str(registry.directory)!r}))\n"
        "with registry.lock():\n"
        "    lease = registry.take('GPU-0', LeaseHolder(pid=os.getpid()))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    lease.release()\n"  # as a cleanup that the child inherited would
        "    print('child', lease.held, lease.foreign, len(registry.holders(['GPU-0'])['GPU-0']), flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print('parent', lease.held, lease.foreign, len(registry.holders(['GPU-0'])['GPU-0']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["child False True 1", "parent True False 1"], done.stderr


def test_a_forked_child_that_lives_on_does_not_keep_the_lease(registry):
    script = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from ridgepole.devices.leases import LeaseHolder, LeaseRegistry\n"
        f"registry = LeaseRegistry(Path({str(registry.directory)!r}))\n"
        "with registry.lock():\n"
        "    registry.take('GPU-0', LeaseHolder(pid=os.getpid()))\n"
        "ready, tell = os.pipe()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.write(tell, b'x')\n"
        "    time.sleep(60)\n"
        "os.read(ready, 1)\n"
        "print(child, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=-1, text=True)
    child = int(holder.stdout.readline())
    try:
        holder.wait()
        assert count(registry) == 0
    finally:
        send(child, signal.SIGKILL)
        holder.stdout.close()


def test_a_copy_holds_nothing(registry):
    lease = take(registry)
    for twin in (pickle.loads(pickle.dumps(lease)), copy.deepcopy(lease)):
        assert not twin.held
        twin.release()
    assert lease.held
    lease.release()
    assert count(registry) == 0


@pytest.mark.isolated
def test_releasing_never_touches_a_descriptor_that_was_reused(registry, tmp_path):
    lease = take(registry)
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    stranger = os.dup2(other, lease._fd)  # as after a daemon has closed all and opened its own
    os.close(other)
    assert not lease.held
    lease.release()
    os.fstat(stranger)
    os.close(stranger)


def test_slots_are_reused_and_never_unlinked(registry):
    first, second = take(registry), take(registry)
    first.release()
    third = take(registry)
    assert third.path == first.path
    assert sorted(path.name for path in registry.directory.iterdir()) == [
        f"GPU-0.{os.getuid()}.0",
        f"GPU-0.{os.getuid()}.1",
        "choose.lock",
    ]
    second.release()
    third.release()
    assert len(list(registry.directory.iterdir())) == 3


def test_one_card_is_not_taken_for_another_whose_name_begins_alike(registry):
    lease = take(registry, "GPU-1")
    assert (count(registry, "GPU-1"), count(registry, "GPU-11"), count(registry, "GPU")) == (1, 0, 0)
    lease.release()


def test_every_user_can_use_the_directory(registry):
    old = os.umask(0o077)
    try:
        lease = take(registry)
    finally:
        os.umask(old)
    assert stat.S_IMODE(registry.directory.stat().st_mode) == 0o1777
    assert {stat.S_IMODE(path.stat().st_mode) for path in registry.directory.iterdir()} == {0o644}
    lease.release()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff\xfe", b"[" * 4000])
def test_a_slot_with_nonsense_in_it_is_still_a_lease(registry, text):
    lease = take(registry, exclusive=True)
    lease.path.write_bytes(text)
    assert registry.holders(["GPU-0"])["GPU-0"] == (LeaseHolder(),)
    lease.release()


def test_links_and_pipes_in_the_directory_are_not_followed(registry, tmp_path):
    target = tmp_path / "precious"
    target.write_text("precious")
    lease = take(registry)
    lease.release()
    lease.path.unlink()
    lease.path.symlink_to(target)
    os.mkfifo(registry.directory / f"GPU-0.{os.getuid()}.1")
    assert registry.holders(["GPU-0"])["GPU-0"] == ()
    with registry.lock():
        registry.take("GPU-0", LeaseHolder())
    assert target.read_text() == "precious"


@pytest.mark.parametrize("obstacle", ["file", "missing parent that is a file"])
def test_an_unusable_directory_warns_and_goes_on(machine, card, environment, monkeypatch, caplog, obstacle):
    machine([card(0)])
    (environment / "file").write_text("")
    directory = environment / "file" / ("" if obstacle == "file" else "leases")
    monkeypatch.setenv("RIDGEPOLE_LEASE_DIR", str(directory))
    assert str(Device(lease="exclusive")) == "cuda:0"
    assert "no device lease" in caplog.text
    assert "RIDGEPOLE_LEASE_DIR" in caplog.text


def test_a_stuck_lock_is_passed_by_with_a_warning(registry, monkeypatch, caplog):
    monkeypatch.setattr(leases, "LOCK_TIMEOUT_S", 0.05)
    with registry.lock():
        lease = take(registry)
    assert "another process has held" in caplog.text
    assert lease.held
    lease.release()


def test_the_lock_serialises_threads(registry):
    inside, most = [], []

    def work():
        with registry.lock():
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 12


def test_looking_does_not_disturb_another_look_or_a_holder(registry):
    lease = take(registry)
    lease.release()
    barrier = threading.Barrier(4)
    seen = []

    def look():
        barrier.wait()
        seen.extend(count(registry) for _ in range(200))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {0}, "a free slot that several look at must not seem held"


def test_a_survey_shows_who_holds_what(machine, card):
    machine([card(0)])
    with Device(lease="exclusive"):
        row = survey().rows[0]
    assert row["leases"][0]["pid"] == os.getpid()
    assert row["verdict"] == "rejected"
    assert "this process, exclusively" in row["reason"]


def test_a_lease_without_a_descriptor_is_nobodys(tmp_path):
    lease = Flock(tmp_path / "none")
    assert not lease.held
    assert lease.foreign
    lease.release()


def test_a_directory_without_permission_warns_and_goes_on(machine, card, environment):
    directory = environment / "leases"
    directory.mkdir()
    directory.chmod(0o555)
    environment.chmod(0o755)
    script = (
        "import json, logging, os, sys\n"
        "sys.modules['torch'] = None\n"
        "logging.basicConfig(format='%(message)s', stream=sys.stdout)\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "import fake_nvml\n"
        "from ridgepole.devices import Device\n"
        f"fake_nvml.install(json.loads({json.dumps({'cards': [card(0)]})!r}))\n"
        "os.geteuid() == 0 and os.setuid(65534)\n"  # root may write everywhere
        "with Device() as device:\n"
        "    print(device, device.get_state()['lease']['held'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    warning, *_, chosen = done.stdout.splitlines()
    assert warning.startswith(f"no device lease: {directory} can't be used ([Errno 13] Permission denied")
    assert "RIDGEPOLE_LEASE_DIR" in warning
    assert chosen == "cuda:0 False"


def test_where_a_pipeline_does_not_say_the_environment_does(machine, card, monkeypatch):
    """As in the worker processes of a sweep."""
    monkeypatch.setenv("RIDGEPOLE_DEVICE_LEASE", "exclusive")
    machine([card(0)])
    held = Device()
    assert held.get_state()["lease"] == {"mode": "exclusive", "held": True}
    with pytest.raises(VRAMUsageError, match="All devices are leased"):
        Device()
    monkeypatch.setenv("RIDGEPOLE_DEVICE_WAIT", "0.2")
    with pytest.raises(DeviceWaitTimeout):
        Device(lease="shared")
    held.cleanup()
    assert Device(lease="shared").get_state()["lease"]["mode"] == "shared", "what is said wins"


@pytest.mark.parametrize(("name", "value"), [("LEASE", "mine"), ("WAIT", "long")])
def test_a_wrong_word_in_the_environment_is_said(machine, card, monkeypatch, name, value):
    monkeypatch.setenv(f"RIDGEPOLE_DEVICE_{name}", value)
    machine([card(0)])
    with pytest.raises(ValueError, match=value):
        Device()
