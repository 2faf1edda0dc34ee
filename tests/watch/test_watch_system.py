"""System metrics: what is sampled, where it goes, and that it never disturbs a run."""

import os
import threading
from types import SimpleNamespace

import orjson
import pytest

from ridgepole import Pipeline, process, rundir, track
from ridgepole.errors import ConfigError
from ridgepole.loggers.composite import LoggerGroup, NullLogger
from ridgepole.ticks import Ticks
from ridgepole.watch import cgroup, steptime
from ridgepole.watch.processes import ProcessTree
from ridgepole.watch.recorder import Recorder, WatchedRun
from ridgepole.watch.settings import interval_of_scripts
from ridgepole.watch.system import SystemSampler


def lines(directory, name=rundir.SYSTEM):
    return [orjson.loads(line) for line in (directory / name).read_bytes().splitlines()]


def test_a_sample_has_the_host_the_processes_and_the_disk(tmp_path):
    sampler = SystemSampler(tmp_path, os.getpid())
    first = sampler.sample()
    second = sampler.sample()
    sampler.close()
    assert {"memory_bytes", "processes", "host_memory_bytes", "host_memory_percent", "disk_free_bytes"} <= first.keys()
    assert not [name for name in first if name.endswith("per_second") or name == "cpu_percent"], (
        "rates need two samples"
    )
    assert "cpu_percent" in second
    assert second["cpu_percent"] >= 0
    assert 0 <= second.get("host_cpu_percent", 0) <= 100
    assert first["memory_bytes"] > 1 << 20
    assert first["processes"] >= 1
    header = sampler.header()
    assert (header["cpus"], header["format"]) == (os.cpu_count(), 1)


def test_the_processes_below_count_and_those_that_end_do_not_hurt():
    import multiprocessing

    tree = ProcessTree(os.getpid())
    alone = tree.sample(None)["processes"]
    context = multiprocessing.get_context("fork")
    go = context.Event()
    child = context.Process(target=go.wait, daemon=True)
    child.start()
    try:
        tree._scan_at = 0.0
        assert tree.sample(10.0)["processes"] == alone + 1
        assert child.pid in tree.pids
    finally:
        go.set()
        child.join()
    assert tree.sample(10.0)["processes"] == alone


# --- limits of a container or a job


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Lays out the files of cgroups: `group("0::/job\\n", {"job/memory.max": "…"})`."""

    def lay_out(own, files):
        root = tmp_path / "cgroup"
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"{text}\n")
        (tmp_path / "self").write_text(own)
        monkeypatch.setattr(cgroup, "ROOT", root)
        monkeypatch.setattr(cgroup, "SELF", tmp_path / "self")
        return cgroup.limits()

    return lay_out


def test_the_tightest_group_of_version_2_counts(group):
    found = group(
        "0::/slurm/job\n",
        {
            "slurm/job/memory.max": "max",
            "slurm/job/cpu.max": "150000 100000",
            "slurm/job/cpu.stat": "usage_usec 12\nnr_periods 40\nnr_throttled 10",
            "slurm/memory.max": str(2 << 30),
            "slurm/memory.current": str(1 << 30),
            "slurm/cpu.max": "max 100000",
        },
    )
    assert (found.memory_bytes, found.memory_used(), found.cpus) == (2 << 30, 1 << 30, 1.5)
    assert found.throttled() == (40, 10)
    assert cgroup.cores() <= 1.5


def test_version_1_has_a_folder_for_each_controller(group):
    found = group(
        "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n",
        {
            "memory/memory.limit_in_bytes": str(200 << 20),  # in the container its group is the root
            "memory/memory.usage_in_bytes": str(50 << 20),
            "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "200000",
            "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
        },
    )
    assert (found.memory_bytes, found.memory_used(), found.cpus) == (200 << 20, 50 << 20, 2.0)
    assert found.throttled() is None


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"memory.max": "max", "cpu.max": "max 100000"},
        {"memory.limit_in_bytes": "9223372036854771712", "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
    ],
)
def test_without_a_limit_nothing_is_known(group, files):
    assert group("0::/\n", files) == cgroup.Limits()


def test_the_limits_are_in_the_samples(group, tmp_path):
    group(
        "0::/\n",
        {
            "memory.max": "1000",
            "memory.current": "250",
            "cpu.max": "100000 100000",
            "cpu.stat": "nr_periods 10\nnr_throttled 5",
        },
    )
    sampler = SystemSampler(tmp_path, os.getpid(), host=False)
    sampler.sample()
    (tmp_path / "cgroup" / "cpu.stat").write_text("nr_periods 30\nnr_throttled 10")
    values = sampler.sample()
    sampler.close()
    assert values["limit_memory_percent"] == 25
    assert values["limit_cpu_held_back_percent"] == 25
    assert sampler.header()["limit_cpus"] == 1.0
    assert not [name for name in values if name.startswith(("host", "disk", "net"))], "one rank of a node samples it"


# --- the recorder


class Heard:
    """What a recorder gives to the loggers and says, with an event for the first."""

    def __init__(self):
        self.samples, self.lines, self.some = [], [], threading.Event()

    def log(self, values, step):
        self.samples.append((dict(values), step))
        self.some.set()

    def say(self, line):
        self.lines.append(line)
        self.some.set()


@pytest.fixture
def heard():
    return Heard()


def recorder(heard, tmp_path, every=0.1, **more):
    made = Recorder(WatchedRun(directory=tmp_path, **more), every, log=heard.log, say=heard.say)
    made.start()
    return made


def test_samples_reach_the_file_and_the_loggers_until_the_end(heard, tmp_path):
    (tmp_path / rundir.SYSTEM).write_bytes(b'{"time": 1, "values": {"torn')  # an attempt that was killed
    ticks = Ticks()
    made = recorder(heard, tmp_path, ticks=ticks, attempt=2)
    ticks.tick(41)
    assert heard.some.wait(60)
    made.close()
    torn, *rest = (tmp_path / rundir.SYSTEM).read_bytes().splitlines()
    assert torn.endswith(b"torn")
    header, first, *_ = map(orjson.loads, rest)
    assert header["header"]["rank"] == 0
    assert header["header"]["cards"] == []
    values, step = heard.samples[0]
    assert (first["rank"], first["attempt"], first["step"], step) == (0, 2, 41, 41)
    assert first["values"] == values
    assert made._thread is not None
    assert not made._thread.is_alive()
    assert len(rest) == 1 + len(heard.samples)


def test_a_run_shorter_than_the_first_interval_leaves_nothing(heard, tmp_path):
    made = recorder(heard, tmp_path, every=3600.0)
    made.close()
    assert list(tmp_path.iterdir()) == []
    assert (heard.samples, heard.lines) == ([], [])


def test_without_an_interval_there_is_no_thread(heard, tmp_path):
    made = recorder(heard, tmp_path, every=None)
    assert made._thread is None
    made.close()


def test_a_fault_ends_the_samples_with_a_word(heard, tmp_path, monkeypatch):
    monkeypatch.setattr(SystemSampler, "sample", lambda _self: 1 / 0)
    made = recorder(heard, tmp_path)
    assert heard.some.wait(60)
    made.close()
    assert heard.lines == ["no more system metrics: ZeroDivisionError: division by zero"]


def test_a_full_disk_is_waited_for(heard, tmp_path, monkeypatch):
    from ridgepole.watch import recorder as module

    failures = iter([OSError(28, "No space left on device")] * 2)
    write = module.append_lines

    def full(path, data):
        for error in failures:
            raise error
        write(path, data)

    monkeypatch.setattr(module, "append_lines", full)
    made = recorder(heard, tmp_path)
    assert heard.some.wait(60)
    made.close()
    assert heard.lines == []
    assert lines(tmp_path)[0]["header"]["rank"] == 0


@pytest.mark.isolated
def test_a_forked_child_has_no_part_in_it(heard, tmp_path):
    made = recorder(heard, tmp_path)
    assert heard.some.wait(60)
    child = os.fork()
    if not child:
        made.close()  # as a child that leaves the run's block does
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    heard.some.clear()
    assert heard.some.wait(60), "the parent's samples continue"
    made.close()


def test_another_process_may_sample_the_rest(heard, tmp_path, monkeypatch):
    monkeypatch.setattr(steptime, "LEAST_SECONDS", 0.0)
    ticks = Ticks()
    made = recorder(heard, tmp_path, ticks=ticks, steps_alone=True, rank=3)
    while not any(values for values, _ in heard.samples):
        ticks.tick()
    made.close()
    (first, *_) = lines(tmp_path, "system-rank-3.jsonl")
    assert first["rank"] == 3
    assert {"steps_per_second", "code_percent", "data_percent"} <= first["values"].keys()
    assert "memory_bytes" not in first["values"]
    assert (tmp_path / "steptime-rank-3.json").exists()


# --- in runs


@process
def wait_for_samples(controller):
    path = controller.run_dir / rundir.SYSTEM
    for _ in track(iter(lambda: path.exists(), True), "wait", tick=True):
        pass


def test_a_pipeline_samples_as_its_table_says(tmp_path):
    pipeline = Pipeline("waits", progress=False, seed=1, system={"every_seconds": 0.1})
    run = pipeline.process("wait", wait_for_samples).run(tmp_path).path
    header, first, *_ = lines(run)
    assert header["header"]["node"]
    assert first["values"]["steps_per_second"] > 0
    assert first["step"] > 0
    config = orjson.loads((run / rundir.RESOLVED).read_bytes())
    assert config["pipeline"]["system"] == {"every_seconds": 0.1}


@pytest.mark.parametrize("given", [{"every_seconds": 0}, {"every": 3}, "often"])
def test_a_wrong_table_is_an_error_with_its_place(given, tmp_path):
    with pytest.raises(ConfigError, match=r"every|system"):
        Pipeline("waits", progress=False, system=given).process("wait", wait_for_samples).run(tmp_path)


@pytest.mark.parametrize(("text", "seconds"), [(None, 10.0), ("", 10.0), ("2.5", 2.5), ("0", None), ("0.001", 0.1)])
def test_scripts_take_the_interval_from_the_environment(text, seconds):
    assert interval_of_scripts({} if text is None else {"RIDGEPOLE_SYSTEM_SECONDS": text}) == seconds


@pytest.mark.parametrize("text", ["often", "-1", "nan", "inf"])
def test_a_wrong_interval_in_the_environment_is_an_error(text):
    with pytest.raises(ValueError, match="RIDGEPOLE_SYSTEM_SECONDS must be a number of seconds"):
        interval_of_scripts({"RIDGEPOLE_SYSTEM_SECONDS": text})


def test_loggers_show_them_and_one_that_fails_hurts_nothing(tmp_path):
    class Broken(NullLogger):
        def show_system(self, values, step):
            raise OSError("gone")

    class Shows(NullLogger):
        shown = None

        def show_system(self, values, step):
            self.shown = (dict(values), step)

    shows = Shows()
    group = LoggerGroup([Broken(), shows])
    group.show_system({"cpu_percent": 12.0}, 7)
    assert shows.shown == ({"cpu_percent": 12.0}, 7)
    assert (group.global_step, group.last_step) == (0, 0)


def test_tensorboard_has_them_below_system(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from ridgepole.loggers.tensorboard import TensorBoardLogger

    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": 1.0})
    logger.show_system({"cpu_percent": 12.0, "gpu0_power_watts": 300.0}, 7)
    assert logger.global_step == 1
    logger.cleanup()
    events = EventAccumulator(str(tmp_path)).Reload()
    (event,) = events.Scalars("system/gpu0_power_watts")
    assert (event.step, event.value) == (7, 300.0)


def test_wandb_gets_them_below_system():
    pytest.importorskip("wandb")
    from ridgepole.loggers.wandb import WandBLogger

    logger, frames = WandBLogger(mode="disabled"), []
    logger.set_wall_time(5.0)
    logger.show_system({"cpu_percent": 12.0}, 7)  # without a client: nothing to do
    logger._link = SimpleNamespace(put=lambda frame, **_: frames.append(frame) or True)
    logger.show_system({"cpu_percent": 12.0}, 7)
    logger._link = None
    logger.cleanup()
    assert frames == [("metrics", 5.0, 7, {"system/cpu_percent": 12.0})]
