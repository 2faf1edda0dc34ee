"""`Device` on a real card: what no fake library can show.

Every check runs in a process of its own, because the variables of CUDA are read once and a context can't be given back.
Other people may be using the card: differences are looked for, and a card that is full already is a reason to skip.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

CARDS = torch.cuda.device_count() if torch.version.cuda else 0
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(CARDS == 0, reason=f"needs an NVIDIA GPU: torch {torch.__version__} sees none"),
]

GIB = 1024**3
HEAD = """
import json, os, sys
from ridgepole.errors import DeviceUnavailableError, VRAMUsageError
from ridgepole.devices import Device, survey

GIB = 1024**3

def cards():
    return {row["uuid"]: row for row in survey(lease="off", rank="off").rows if row["index"] is not None}

def show(**facts):
    print(json.dumps(facts), flush=True)

def body(uuid):
    return str(uuid).lower().removeprefix("gpu-").removeprefix("mig-")
"""
HOLD = """
import torch
device = Device(max_usage=1, **json.loads(sys.argv[1]))
device.initialize()
held = torch.empty(int(float(sys.argv[2]) * GIB), dtype=torch.uint8, device=device.device)
torch.cuda.synchronize()
show(device=str(device), uuid=device.uuid)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def _one_at_a_time():
    """Two checks at once would see each other's memory."""
    with (Path(tempfile.gettempdir()) / "ridgepole-gpu-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def environment(tmp_path):
    dropped = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "RANK", "WORLD_SIZE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "OMPI_"))}
    # Where the machine shows this process only some cards, that stays so; the checks of the variable set their own.
    shown = {"CUDA_VISIBLE_DEVICES": os.environ["CUDA_VISIBLE_DEVICES"]} if "CUDA_VISIBLE_DEVICES" in os.environ else {}
    kept = {name: value for name, value in kept.items() if name not in dropped}
    return kept | shown | {"RIDGEPOLE_LEASE_DIR": str(tmp_path / "leases")}


@pytest.fixture
def python(environment):
    """Runs a script in a fresh process and gives the facts that it shows last."""

    def run(script, **variables):
        done = subprocess.run(
            [sys.executable, "-c", HEAD + script],
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1]) | {"stderr": done.stderr}

    return run


class Holder:
    """Another process that holds memory on a card, and its lease, until it is told to end."""

    def __init__(self, environment, gib, **options):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HEAD + HOLD, json.dumps(options), str(gib)],
            env=environment,
            stdin=-1,
            stdout=-1,
            stderr=-1,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.facts = json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def first(python):
    """The first card that CUDA shows, as the driver tells it."""
    row = python("show(row=[row for row in cards().values() if row['index'] == 0][0])")["row"]
    assert row["total_bytes"], f"the memory of {row['name']} can't be read: {row['reason']}"
    return row


@pytest.fixture
def whole_cards(first):
    if first["uuid"].startswith("MIG-"):
        pytest.skip("the card is cut into MIG instances, of which CUDA shows a process one")


def room(row, share, gib):
    """Skips where the card hasn't that much free, or is in use already by more than a share."""
    if row["free_bytes"] < gib * GIB:
        pytest.skip(f"{row['name']} has only {row['free_bytes'] / GIB:.1f} GiB free, {gib} are needed")
    if row["used_bytes"] > share * row["total_bytes"]:
        pytest.skip(f"others use {row['used_bytes'] / GIB:.1f} GiB of {row['name']}")


def test_choosing_opens_no_context_and_loads_no_torch(python):
    facts = python("""
before = {uuid: row["used_bytes"] for uuid, row in cards().items()}
device = Device(max_usage=1)
grown = {uuid: row["used_bytes"] - before[uuid] for uuid, row in cards().items()}
mine = [row["uuid"] for row in cards().values() for one in row["processes"] or () if one["pid"] == os.getpid()]
files = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
maps = open("/proc/self/maps").read()
show(device=str(device), grown=grown, mine=mine, uvm=any("nvidia-uvm" in file for file in files),
     cuda="libcuda.so" in maps, torch="torch" in sys.modules)
""")
    assert facts["device"].startswith("cuda:"), facts
    assert not facts["torch"]
    assert not facts["cuda"], "CUDA's library was loaded"
    assert not facts["uvm"], "a context has this device file open"
    assert facts["mine"] == [], "the driver counts a process with a context"
    # A context takes hundreds of megabytes; other people's jobs may have grown meanwhile, but hardly on every card.
    assert min(facts["grown"].values()) < 64 * 1024**2


def test_the_driver_and_torch_tell_the_same_memory(python, first):
    room(first, 0.8, 2)
    facts = python("""
import torch
found = []
for attempt in range(5):  # others may take memory between the two readings
    rows = {row["index"]: row for row in cards().values()}
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        row = {row["index"]: row for row in cards().values()}[index]
        found.append((row["uuid"], row["total_bytes"], row["free_bytes"], total, free))
    if all(abs(row[2] - row[4]) < 0.01 * row[1] for row in found):
        break
empty = cards()[found[0][0]]["used_bytes"]
held = torch.empty(GIB, dtype=torch.uint8, device="cuda:0")
torch.cuda.synchronize()
now = cards()[found[0][0]]
own = [one["used_bytes"] for one in now["processes"] or () if one["pid"] == os.getpid()]
show(found=found, grown=now["used_bytes"] - empty, own=own)
""")
    for uuid, total, free, cuda_total, cuda_free in facts["found"]:
        assert abs(total - cuda_total) < 0.05 * total, f"{uuid}: NVML says {total} in all, CUDA {cuda_total}"
        assert abs(free - cuda_free) < 0.02 * total, f"{uuid}: NVML says {free} free, CUDA {cuda_free}"
    assert facts["grown"] >= 0.9 * GIB, "a gibibyte that was taken shows"
    # In a container the driver may know our process by another number, or tell no amounts.
    assert all(amount is None or amount >= GIB for amount in facts["own"])


def test_cudas_own_order_is_the_one_that_is_read(python, whole_cards):
    facts = python("""
from ridgepole.devices.probe.nvidia import cuda_order
asked = cuda_order()
import torch
seen = [body(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
chosen = [Device(only=f"cuda:{index}", max_usage=1, lease="off", rank="off").uuid for index in range(len(seen))]
show(asked=asked, seen=seen, chosen=[body(uuid) for uuid in chosen])
""")
    assert facts["asked"] == facts["seen"], "the child process that asks CUDA for its order"
    assert facts["chosen"] == facts["seen"]


VALUES = ["{all}", "{reversed}", "{uuids}", "{prefix}", "0,99", "0,0", "0x", " 0 "]


@pytest.mark.parametrize("order", ["FASTEST_FIRST", None])
@pytest.mark.parametrize("value", VALUES)
def test_every_spelling_of_the_visible_devices(python, whole_cards, value, order):
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        pytest.skip("this process was itself given only some cards")
    uuids = [f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in range(CARDS)]
    numbers = [str(index) for index in range(CARDS)]
    filled = value.format(
        all=",".join(numbers), reversed=",".join(numbers[::-1]), uuids=",".join(uuids[::-1]), prefix=uuids[-1][:14]
    )
    facts = python(
        """
chosen = [row["uuid"] for row in sorted(cards().values(), key=lambda row: row["index"])]
try:
    device = Device(max_usage=1)
    device.initialize()  # compares the UUID with torch's and would raise
except DeviceUnavailableError:
    device = None
import torch
seen = [body(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
current = torch.cuda.current_device() if device else None
show(chosen=[body(uuid) for uuid in chosen], seen=seen, current=current, device=str(device) if device else None)
""",
        CUDA_VISIBLE_DEVICES=filled,
        **({} if order is None else {"CUDA_DEVICE_ORDER": order}),
    )
    assert facts["chosen"] == facts["seen"], f"CUDA_VISIBLE_DEVICES={filled!r} is read otherwise than CUDA reads it"
    assert facts["device"] == (f"cuda:{facts['current']}" if facts["seen"] else None)


def test_hidden_and_misspelt_cards(python):
    script = """
try:
    show(device=str(Device()))
except DeviceUnavailableError as error:
    show(error=str(error))
"""
    assert python(script, CUDA_VISIBLE_DEVICES="")["device"] == "cpu"
    assert python(script, CUDA_VISIBLE_DEVICES="-1")["device"] == "cpu"
    assert "names no device" in python(script, CUDA_VISIBLE_DEVICES="99")["error"]
    facts = python("import torch\nshow(count=torch.cuda.device_count())", CUDA_VISIBLE_DEVICES="99")
    assert facts["count"] == 0, "CUDA agrees that nothing is left"


def test_the_chosen_device_is_torchs_current_one(python):
    facts = python("""
import torch
with Device(max_usage=1) as device:
    device.validate()
    made = torch.ones(3, device="cuda")
    show(device=str(device), uuid=device.uuid, made=str(made.device), same=made.device == device.device,
         current=torch.cuda.current_device(), total=float(made.sum()))
""")
    assert facts["made"] == facts["device"] == f"cuda:{facts['current']}"
    assert facts["same"]
    assert facts["total"] == 3


def test_an_exclusive_lease_and_its_end_by_kill(python, environment, first):
    room(first, 0.9, 1)
    only = f"cuda:{first['index']}"
    script = f"""
try:
    show(device=str(Device(only={only!r}, lease="exclusive", max_usage=1)))
except VRAMUsageError as error:
    show(refused=str(error).splitlines()[0])
"""
    with Holder(environment, 0.1, only=only, lease="exclusive") as other:
        assert other.facts["uuid"] == first["uuid"]
        assert python(script)["refused"] == "All devices are leased"
    assert python(script)["device"] == only, "the kernel gave the lease of the killed process back"


def test_a_full_card_is_refused_and_free_again_when_its_user_ends(python, environment, first):
    room(first, 0.5, 1)
    only = f"cuda:{first['index']}"
    script = f"""
try:
    show(device=str(Device(only={only!r}, lease="off")))
except VRAMUsageError as error:
    show(table=str(error), rows=error.devices)
"""
    amount = (0.85 * first["total_bytes"] - first["used_bytes"]) / GIB
    with Holder(environment, amount, only=only, lease="off"):
        facts = python(script)
        assert facts["table"].startswith("All devices are using more than 80% of VRAM\n"), facts
        (row,) = [row for row in facts["rows"] if row["uuid"] == first["uuid"]]
        assert row["used_bytes"] > 0.8 * first["total_bytes"]
        assert row["processes"] is None or len(row["processes"]) >= 1
    assert python(script)["device"] == only


def test_growth_of_another_process_is_noticed(environment, first):
    room(first, 0.5, 4)
    only = f"cuda:{first['index']}"
    script = f"""
import torch
device = Device(only={only!r}, max_usage=1, lease="off", strict=True)
device.initialize()
held = torch.empty(GIB, dtype=torch.uint8, device=device.device)
device.validate()  # memory of one's own is not held against oneself
show(ready=True)
sys.stdin.readline()
try:
    device.validate()
    show(said="")
except VRAMUsageError as error:
    show(said=str(error).splitlines()[0])
sys.stdin.readline()
device.validate()
show(said="")
"""
    watcher = subprocess.Popen(
        [sys.executable, "-c", HEAD + script], env=environment, stdin=-1, stdout=-1, stderr=-1, text=True
    )

    def answer():
        line = watcher.stdout.readline()
        assert line, watcher.communicate()[1]
        return json.loads(line)

    def go_on():
        watcher.stdin.write("\n")
        watcher.stdin.flush()

    try:
        assert answer()["ready"]
        with Holder(environment, 0.15 * first["total_bytes"] / GIB, only=only, lease="off"):
            go_on()
            assert "other processes have taken" in answer()["said"]
        go_on()
        assert answer()["said"] == ""
    finally:
        watcher.kill()
        watcher.communicate()


def test_a_real_out_of_memory_error_is_explained(python):
    facts = python("""
import torch
with Device(max_usage=1) as device:
    held = torch.empty(GIB // 2, dtype=torch.uint8, device=device.device)
    total = torch.cuda.get_device_properties(device.device).total_memory
    try:
        torch.empty(2 * total, dtype=torch.uint8, device=device.device)
        show(error="none")
    except RuntimeError as error:
        known = device.explain_oom(error)
        show(error=type(error).__name__, known=known, notes=error.__notes__, device=str(device))
""")
    assert facts["error"] == "OutOfMemoryError"
    assert facts["known"] is True
    (note,) = facts["notes"]
    assert note.startswith(f"{facts['device']} ran out of memory; this process holds ")
    assert "chosen" in note
    assert "(NVML)" in note or "shares" in note


def test_checkpoints_see_memory_of_ones_own(python, first):
    room(first, 0.9, 2)
    history = python("""
import torch
with Device(max_usage=1) as device:
    held = torch.empty(GIB, dtype=torch.uint8, device=device.device)
    device.checkpoint()
    history = device.get_state()["history"]
    json.dumps(device.get_state(), allow_nan=False)
show(**history)
""")
    assert history["count"] == 2
    assert history["peak"]["own_bytes"] >= GIB
    assert history["peak"]["used_bytes"] >= history["peak"]["own_bytes"] // 2


def test_nothing_is_leaked_by_choosing_often(python, first):
    facts = python("""
def files():
    return len(os.listdir("/proc/self/fd"))

Device(max_usage=1).cleanup()
before, used = files(), cards()
for _ in range(200):
    Device(max_usage=1).cleanup()
now = cards()
show(files=files() - before, leases=sum(len(row["leases"]) for row in now.values()),
     grown=min(now[uuid]["used_bytes"] - used[uuid]["used_bytes"] for uuid in now))
""")
    assert facts["files"] == 0, "file descriptors"
    assert facts["leases"] == 0
    assert facts["grown"] < 64 * 1024**2


def test_memory_is_given_back_where_asked(python, first):
    room(first, 0.9, 2)
    facts = python("""
import torch
device = Device(max_usage=1, empty_cache_on_cleanup=True)
device.initialize()
del_me = torch.empty(GIB, dtype=torch.uint8, device=device.device)
del del_me
before = torch.cuda.memory_reserved(device.device)
device.cleanup()
show(before=before, after=torch.cuda.memory_reserved(0))
""")
    assert facts["before"] >= GIB
    assert facts["after"] == 0


def test_a_rank_that_is_shown_one_card_takes_it(python, whole_cards):
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        pytest.skip("this process was itself given only some cards")
    script = "device = Device(max_usage=1)\ndevice.initialize()\nshow(device=str(device))"
    ranked = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "0"}
    assert python(script, **ranked)["device"] == "cuda:0"


def test_the_verb_lists_the_cards(environment):
    done = subprocess.run(
        [sys.executable, "-m", "ridgepole", "devices", "--json"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len([row for row in found["devices"] if row["device"].startswith("cuda:")]) >= 1
    assert all(row["total_bytes"] for row in found["devices"] if row["device"].startswith("cuda:"))
