"""Run directories: ids, ownership, status, look-up."""

import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from isolation import send
from ridgepole import RunDirError
from ridgepole.files import write_atomically
from ridgepole.rundir import RunDir, find_run, is_owned, list_runs, new_run_id, read_run


def test_ids_sort_by_time():
    ids = [new_run_id(1_790_000_000 + step / 1000) for step in range(0, 100_000, 7)]
    assert ids == sorted(ids)


def test_ids_never_collide(tmp_path):
    made = []

    def make():
        for _ in range(25):
            run = RunDir.create(tmp_path)
            made.append(run.id)
            run.close()

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 200 == len(list(tmp_path.iterdir()))


def test_ids_of_one_moment_differ():
    assert len({new_run_id(1_790_000_000.5) for _ in range(50)}) > 45


def test_running_then_finished(tmp_path):
    run = RunDir.create(tmp_path)
    run.write_run(status="running", pipeline="p")
    assert read_run(run.path).status == "running"
    assert is_owned(run.path)
    run.write_run(status="finished", pipeline="p")
    run.close()
    assert read_run(run.path).status == "finished"
    assert not is_owned(run.path)


def test_a_killed_owner_leaves_a_crashed_run(tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom ridgepole.rundir import RunDir\n"
        "run = RunDir.create(Path(sys.argv[1]))\nrun.write_run(status='running')\n"
        "print(run.id, flush=True)\ntime.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    assert read_run(tmp_path / name).status == "running"
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    assert read_run(tmp_path / name).status == "crashed"


def test_a_worker_that_outlives_its_run_does_not_make_it_look_alive(tmp_path):
    script = (
        "import os, sys, time\nfrom pathlib import Path\nfrom ridgepole.rundir import RunDir\n"
        "run = RunDir.create(Path(sys.argv[1]))\nrun.write_run(status='running')\n"
        "pid = os.fork()\nos.write(1, f'{run.id} {os.getpid()} {bool(pid)}\\n'.encode())\ntime.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline().split() for _ in range(2)]  # both are up
    name = lines[0][0]
    (worker,) = (pid for _, pid, is_parent in lines if is_parent == "False")
    try:
        assert read_run(tmp_path / name).status == "running"
        child.kill()
        child.wait(10)
        send(int(worker), 0)  # the worker lives
        assert read_run(tmp_path / name).status == "crashed"
    finally:
        send(int(worker), signal.SIGKILL)
        child.stdout.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_root_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunDirError, match=r"Permission denied.*--runs-dir"):
        RunDir.create(tmp_path / "runs")


def test_a_file_in_the_place_of_the_root(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunDirError, match=r"can't make a run directory in .*runs: .*; name another with --runs-dir"):
        RunDir.create(tmp_path / "runs")
    with pytest.raises(RunDirError, match="can't make a run directory"):
        RunDir.create(tmp_path / "runs" / "deeper")


def test_a_newer_format_is_refused(tmp_path):
    run = RunDir.create(tmp_path)
    run.write_run(status="finished")
    (run.path / "run.json").write_text('{"format": 99, "status": "finished"}')
    with pytest.raises(RunDirError, match=r"newer Ridgepole.*upgrade"):
        read_run(run.path)
    with pytest.raises(RunDirError, match="newer Ridgepole"):
        find_run(run.id, tmp_path)
    assert list(list_runs(tmp_path)) == []


def test_a_damaged_record_counts_as_crashed(tmp_path):
    run = RunDir.create(tmp_path)
    (run.path / "run.json").write_text('{"format": 1, "sta')
    run.close()
    assert read_run(run.path).status == "crashed"


def test_finding(tmp_path):
    paths = []
    for second in (1, 2, 3):
        path = tmp_path / new_run_id(1_790_000_000 + second)
        path.mkdir()
        RunDir(path).write_run(status="finished")
        paths.append(path)
    (tmp_path / "notes").mkdir()
    assert [run.path for run in list_runs(tmp_path)] == paths[::-1]
    assert find_run("latest", tmp_path).path == paths[-1]
    assert find_run(paths[0].name, tmp_path).path == paths[0]
    assert find_run(paths[0].name[:15], tmp_path).path == paths[0]
    assert find_run(str(paths[1]), tmp_path / "elsewhere").path == paths[1]
    with pytest.raises(RunDirError, match="matches 3 runs"):
        find_run("2026", tmp_path)
    with pytest.raises(RunDirError, match=r"no run 'zzz' in .*; the newest is"):
        find_run("zzz", tmp_path)
    with pytest.raises(RunDirError, match="no run ''"):
        find_run("", tmp_path)
    with pytest.raises(RunDirError, match="no runs in"):
        find_run("latest", tmp_path / "notes")
    with pytest.raises(RunDirError, match="not a run directory"):
        find_run(str(tmp_path / "notes"), tmp_path)


def test_config_is_for_its_owner_alone(tmp_path):
    run = RunDir.create(tmp_path)
    run.write_config(b"a = 1\r\n")
    path = run.path / "config.toml"
    assert path.read_bytes() == b"a = 1\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failed_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_atomically(path, b"old")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
