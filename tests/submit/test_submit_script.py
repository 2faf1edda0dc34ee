"""The batch script of a job: its text, and its shell, which runs without SLURM too."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import job_project
import pytest

from ridgepole.errors import RunDirError
from ridgepole.rundir import list_runs
from ridgepole.submit.job import Job, find_job, list_jobs
from ridgepole.submit.script import batch_script
from ridgepole.submit.slurm import states
from ridgepole.submit.spec import JobSpec


def spec_of(folder, **fields):
    given = {"name": "work", "file": "work.toml", "directory": str(folder), "root": str(folder / "runs")}
    return JobSpec(**(given | fields))


def script_of(spec):
    return batch_script(spec, Job.create(spec, "slurm"))


def lines_of(script):
    return [line for line in script.splitlines() if line.startswith("#SBATCH")]


@pytest.fixture
def call(ridgepole, tmp_path):
    def call(*arguments, code=0):
        done = ridgepole("submit", *arguments, cwd=tmp_path)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    return call


def test_a_dry_run_shows_two_nodes_with_a_rendezvous_and_submits_nothing(call, tmp_path):
    job_project.write_project(tmp_path / "p")
    options = ["--nodes=2", "--gpus-per-node=8", "--time=4:00:00", "--partition=gpu", "--sbatch=--exclude=n1"]
    text = call("p/work.toml", "--executor", "slurm", "--dry-run", *options, "held.start=7")
    for line in (
        "#SBATCH --nodes=2",
        "#SBATCH --gpus-per-node=8",
        "#SBATCH --time=4:00:00",
        "#SBATCH --partition=gpu",
        "#SBATCH --exclude=n1",
        "#SBATCH --signal=B:USR1@120",
        "#SBATCH --requeue",
        "export PET_NNODES=2",
        "export PET_NPROC_PER_NODE=8",
        'export PET_RDZV_ENDPOINT="$head:$((20000 + SLURM_JOB_ID % 20000))"',
    ):
        assert line in text.splitlines()
    (step,) = [line for line in text.splitlines() if line.startswith("srun ")]
    assert "--kill-on-bad-exit=1" in step
    assert f"{shlex.quote(sys.executable)} -m torch.distributed.run -m ridgepole run p/work.toml --resume" in step
    assert "held.start=7" in step
    assert not (tmp_path / "p" / "runs").exists()


def test_one_process_needs_no_launcher(tmp_path):
    text = script_of(spec_of(tmp_path))
    assert f"\n{shlex.quote(sys.executable)} -m ridgepole run work.toml --resume --runs-dir {tmp_path}/runs &\n" in text
    assert "torch" not in text
    assert "srun" not in text


def test_a_script_of_several_processes_is_one_run_on_the_first_node(tmp_path):
    spec = spec_of(tmp_path, file="train.py", name="train", arguments=("--lr", "0.1"), processes=4)
    assert spec.command[1:8] == ("-m", "ridgepole", "run", "-m", "torch.distributed.run", "--resume", "--runs-dir")
    assert spec.command[-6:] == ("--name", "train", "--", "train.py", "--lr", "0.1")
    assert spec.other_command[1:] == ("-m", "torch.distributed.run", "train.py", "--lr", "0.1")


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("file", ["work.toml", "train.py"])
def test_the_shell_takes_any_path_and_any_argument(tmp_path, nodes, file):
    folder = tmp_path / 'it\'s $HOME `a` "b" \\c 100%'
    arguments = ("it's", '$x "y"', "") if file == "train.py" else ()
    text = script_of(spec_of(folder, file=file, arguments=arguments, nodes=nodes, processes=2))
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""
    assert "%%/runs" in lines_of(text)[1], "a % stands for something in --output"
    if shutil.which("shellcheck"):
        checked = subprocess.run(
            ["shellcheck", "-s", "bash", "-S", "warning", "-"], input=text, text=True, capture_output=True
        )
        assert checked.returncode == 0, checked.stdout


def test_a_line_break_is_refused(tmp_path):
    with pytest.raises(RunDirError, match="line breaks"):
        spec_of(tmp_path, sbatch=("--comment=a\n#SBATCH --account=other",))


class Batch:
    """A batch script as SLURM would start it."""

    def __init__(self, script, restart):
        own = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restart), "SLURMD_NODENAME": "n1"}
        self.process = subprocess.Popen(
            ["bash", "-c", script], env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def until(self, line):
        for each in self.process.stdout:
            if each.strip() == line:
                return
        raise AssertionError(f"{line} never came")

    def end(self):
        text, _ = self.process.communicate(timeout=90)
        return self.process.returncode, text


def test_the_shell_forwards_a_warning_and_the_next_start_resumes(tmp_path):
    """Without `scontrol` it ends with 75, for a cluster that requeues by itself."""
    spec = spec_of(job_project.write_project(tmp_path))
    job = Job.create(spec, "slurm")
    script = batch_script(spec, job)
    first = Batch(script, 0)
    first.until("step 5")
    first.process.send_signal(signal.SIGUSR1)
    code, text = first.end()
    assert code == 75, text
    second = Batch(script, 1)
    (tmp_path / "enough").touch()
    code, text = second.end()
    assert code == 0, text
    (run,) = list_runs(tmp_path / "runs")
    assert (run.status, run.fields["attempt"], job.run()) == ("finished", 2, run.id)
    assert [(each["restart"], each["event"], each["code"]) for each in job.events()] == [
        (0, "began", 0),
        (0, "ended", 75),
        (1, "began", 0),
        (1, "ended", 0),
    ]


def test_a_cancelled_job_is_not_queued_again_though_it_was_warned(tmp_path):
    spec = spec_of(tmp_path, file="wait.py", name="wait")
    (tmp_path / "wait.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.1)\n"
    )
    scontrol = tmp_path / "bin" / "scontrol"  # would tell if it were called
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\n[ "$1" = show ] || touch {tmp_path}/requeued\n')
    scontrol.chmod(0o755)
    batch = Batch(f"PATH={scontrol.parent}:$PATH\n{script_of(spec)}", 0)
    batch.until("ready")
    batch.process.send_signal(signal.SIGUSR1)
    batch.process.send_signal(signal.SIGTERM)
    assert batch.end()[0] == 143
    assert not (tmp_path / "requeued").exists()


def test_jobs_are_found_by_id_prefix_number_and_latest(tmp_path):
    jobs = []
    for number in ("11", "12"):
        jobs.append(Job.create(spec_of(tmp_path), "slurm"))
        jobs[-1].fields["number"] = number
        jobs[-1].write()
        while jobs[-1].id == time.strftime("%Y%m%d-%H%M%S", time.gmtime()):
            pass
    root = tmp_path / "runs"
    assert {job.id for job in list_jobs(root)} == {job.id for job in jobs}
    assert find_job("11", root).id == find_job(jobs[0].id, root).id == jobs[0].id
    assert find_job("latest", root).id == max(job.id for job in jobs)
    with pytest.raises(RunDirError, match="no job 'x'"):
        find_job("x", root)
    with pytest.raises(RunDirError, match="no jobs in"):
        find_job("latest", tmp_path)


def test_a_job_that_another_process_submits_is_not_lost(tmp_path):
    job = Job.create(spec_of(tmp_path), "slurm")
    code = (
        "import pathlib, sys\nfrom ridgepole.submit.job import submitting\n"
        "with submitting(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "runs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert states([job]) == {job.id: ("waiting", "it is being submitted")}
        assert job.end() is None
        other.stdin.close()


def test_the_end_of_a_job_is_recorded_once(tmp_path):
    job = Job.create(spec_of(tmp_path), "slurm")
    assert job.end() is None
    assert job.record_end("finished", "") == ("finished", "")
    assert job.record_end("failed", "later") == ("finished", "")
    assert sorted(path.name for path in job.path.iterdir()) == ["ended.json", "job.json"]
    assert json.loads((job.path / "ended.json").read_text())["state"] == "finished"


@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="there is an sbatch here")
def test_without_slurm_it_says_where_to_submit(call, tmp_path):
    job_project.write_project(tmp_path / "p")
    errors = call("p/work.toml", "--executor", "slurm", code=2)
    assert "no 'sbatch' on the PATH" in errors
    assert "login node" in errors
    assert list((tmp_path / "p" / "runs" / ".jobs").glob("2*")) == []


def test_a_wrong_call_is_refused_before_any_cluster_is_asked(call, tmp_path):
    job_project.write_project(tmp_path / "p")
    for arguments, message in (
        (["p/none.py"], "no script p/none.py"),
        (["p/work.csv"], "neither a pipeline (.toml) nor a script (.py)"),
        (["p/work.toml", "--", "x"], "takes -s KEY=VALUE and no arguments behind --"),
        (["p/work.toml", "wrok.x=1"], "wrok"),
        (["p/work.toml", "--address", "auto"], "--address can't be used with --executor slurm"),
        (["p/work.toml", "--sbatch", "exclude"], "expected an option of sbatch"),
    ):
        assert message in call(arguments[0], "--executor", "slurm", *arguments[1:], code=2)


def test_secrets_are_shown_nowhere_but_reach_the_job(tmp_path):
    spec = spec_of(tmp_path, file="train.py", arguments=("--api-key", "s3cr3t"), options=("-s", "net.token=s3cr3t"))
    job = Job.create(spec, "slurm")
    assert batch_script(spec, job).count("s3cr3t") == 2
    assert "s3cr3t" not in batch_script(spec, job, hide_secrets=True)
    assert "s3cr3t" not in (job.path / "job.json").read_text()
