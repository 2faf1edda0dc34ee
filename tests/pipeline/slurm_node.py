"""One node of Debian's SLURM with its own folder, ports, key and daemons, beside any that may run already."""

import os
import shutil
import socket
import subprocess
import time

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "squeue", "sinfo")
INSTALL = "apt-get install --no-install-recommends slurm-wlm munge, as root"

CONF = """
ClusterName=ridgepole
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
KillWait=30
ReturnToService=2
JobRequeue=1
RequeueExit=75
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES OverSubscribe=FORCE:4 State=UP
"""


def missing():
    """Why there can be no node here; empty where there can."""
    if os.geteuid() or not all(map(shutil.which, PROGRAMS)):
        return f"needs SLURM: {INSTALL}"
    return ""


class Node:
    """The daemons, until `close`; their settings are `CONF` without some lines, and more."""

    def __init__(self, folder, *, without=(), more=""):
        self.folder, self.daemons = folder, []
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        conf = folder / "slurm.conf"
        host = socket.gethostname().partition(".")[0]
        text = CONF.format(folder=folder, host=host, ports=free_ports(2), cpus=os.cpu_count())
        lines = [line for line in text.splitlines() if not line.startswith(tuple(without))]
        conf.write_text("\n".join([*lines, more, ""]))
        self.environment = os.environ | {"SLURM_CONF": str(conf)}
        own = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "log-file")]
        self.start("munged", "--foreground", "--force", f"--key-file={key}", f"--seed-file={folder}/munge.seed", *own)
        self.wait_for(lambda: (folder / "munge.socket").exists(), "munged")
        self.start("slurmctld", "-D", "-c")
        self.start("slurmd", "-D")
        self.wait_for(lambda: self.ask("sinfo", "--noheader", "--format=%t").strip() in ("idle", "mix"), "the node")

    def start(self, *command):
        with (self.folder / f"{command[0]}.out").open("wb") as out:
            daemon = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out, start_new_session=True)
        self.daemons.append(daemon)

    def ask(self, *command):
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60).stdout

    def wait_for(self, ready, what, seconds=60):
        limit = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < limit, f"{what} never came: {self.said()}"
            time.sleep(0.02)

    def said(self):
        logs = [*self.folder.glob("*.log"), *self.folder.glob("*.out")]
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)

    def submit(self, script, *options, cwd):
        file = cwd / "job.sh"
        file.write_text(script)
        return self.ask("sbatch", "--parsable", "--requeue", f"--output={cwd}/job.out", "--open-mode=append",
                        f"--chdir={cwd}", *options, str(file)).strip()  # fmt: skip

    def state(self, job):
        return self.ask("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}").strip()

    def begin_now(self, job):
        """A requeued job waits for two minutes otherwise.

        Not in this very second: slurmd refuses a job whose permit is as old as the end of its last start.
        """
        self.wait_for(lambda: self.state(job) == "PENDING", "the requeued job")
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now+3")

    def close(self):
        self.ask("scancel", "--user=root", "--signal=KILL", "--full")
        self.ask("scancel", "--user=root")
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def free_ports(count):
    held = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
