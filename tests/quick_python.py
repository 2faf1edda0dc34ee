"""Starts interpreters without paying for their imports each time, which take from one second to three.

Run as a script it is the server: it has imported what most of our processes need, and forks one for each message. That
process is like a fresh interpreter that has got as far as its imports. It is a child of whoever asked for it and has
the command line that it was asked for: it is waited for, killed and found like one that `subprocess` has started.
"""

import contextlib
import ctypes
import fcntl
import gc
import importlib
import inspect
import json
import multiprocessing.process
import multiprocessing.util
import os
import queue
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

PRELOAD = (
    "cloudpickle",
    "multiprocessing.spawn",
    "numpy",
    "optuna",
    "optuna.storages.journal",
    "PIL.Image",
    "psutil",
    "ridgepole.cli",
    "ridgepole.devices",
    "ridgepole.loggers.wandb.logger",
    "ridgepole.loggers.wandb.writer",
    "ridgepole.pipeline.spec.compile",
    "ridgepole.pipeline.run.attempt",
    "ridgepole.sweeps.api",
    "ridgepole.sweeps.executors.process",
    "ridgepole.sweeps.executors.slurm",
    "ridgepole.sweeps.executors.wandb",
    "ridgepole.sweeps.wandb.agent",
    "submitit.core.submission",
    "submitit.local.local",
    "wandb.agents.pyagent",
    "yaml",
)
HEARTBEAT_SECONDS = 0.1
"""How long W&B's agent waits between two looks, where its own 5 s are for servers that are far away."""
EXECUTABLE = sys.executable
REAL_POPEN, SPAWN = subprocess.Popen, multiprocessing.util.spawnv_passfds
SIZE = 1 << 17
ROOM = 8192
"""Bytes for the command line of a process."""
HIGH = 200
"""Streams are kept from here on while the ones below are closed."""
SET_CHILD_SUBREAPER = 36
NESTED: list[int] = []
IGNORABLE = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Forks:
    """The server, as the process sees it that it serves."""

    def __init__(self, channel):
        self.socket, self.lock = channel, threading.Lock()
        self.popen = type("Popen", (Popen,), {"forks": self})

    @classmethod
    def started(cls):
        """Start a server."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        with theirs:
            process = subprocess.Popen(
                [EXECUTABLE, __file__, str(theirs.fileno()), "x" * ROOM],
                env=environ | {"WANDB_ERROR_REPORTING": "false", "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        assert ours.recv(SIZE) == b"ready", "the server did not start"
        made = cls(ours)
        made.process = process
        return made

    def close(self):
        self.socket.close()
        self.process.wait(30)

    def fork(self, args, streams, numbers, *, environ=None, cwd=None, session=False):
        """Start a process, a child of this one, and return its number.

        Args:
            args: Its command line.
            streams: What it has open.
            numbers: Under which numbers.
            environ: Its environment; that of this process where left out.
            cwd: Its working directory; likewise.
            session: Whether it begins a session of its own.
        """
        request = {
            "args": args,
            "numbers": numbers,
            "environ": dict(os.environ if environ is None else environ),
            "cwd": str(Path.cwd() if cwd is None else cwd),
            "session": session,
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "ignored": [number for number in IGNORABLE if signal.getsignal(number) == signal.SIG_IGN],
        }
        with self.lock, adopting():
            socket.send_fds(self.socket, [json.dumps(request).encode()], streams)
            return int(self.socket.recv(SIZE))

    def spawn(self, path, args, streams):
        """Start an interpreter for `multiprocessing`, in the place of its own function."""
        words = [os.fsdecode(word) for word in args]
        if words[-1:] != ["--multiprocessing-fork"] or words[1] != "-c" or max(streams) >= HIGH:
            return SPAWN(path, args, streams)
        return self.fork(words, [0, 1, 2, *streams], [0, 1, 2, *streams])


class Popen(subprocess.Popen):
    """Forks interpreters, and starts everything else as always."""

    forks: Forks

    def _execute_child(self, *given):
        asked = inspect.signature(super()._execute_child).bind(*given).arguments
        args = list(map(os.fspath, asked["args"])) if isinstance(asked["args"], list | tuple) else []
        special = [asked["preexec_fn"], asked["shell"], asked["pass_fds"], asked["executable"]]
        if any(special) or not is_known(args):
            super()._execute_child(*given)
            return
        pipes = [asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        streams = [pipe if pipe >= 0 else number for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        try:
            self.pid = self.forks.fork(
                args,
                streams,
                [0, 1, 2],
                environ=asked["env"],
                cwd=asked["cwd"],
                session=asked["start_new_session"],
            )
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)


def is_known(args):
    """Tell whether a command starts an interpreter that can be forked."""
    from ridgepole.children import _BOOT

    if args[:1] != [EXECUTABLE]:
        return False
    match args[1:]:
        case ["-c", code, *_]:
            return code == _BOOT
        case ["-m", *_] | ["-u", "-m", *_]:
            return True
        case [script, *_]:
            return script.endswith(".py")
    return False


@contextlib.contextmanager
def adopting():
    """Make this process the parent of a grandchild whose own parent ends meanwhile."""
    libc = ctypes.CDLL(None)
    libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


# --- the server


def main():
    from wandb.agents import pyagent

    pyagent.queue = SimpleNamespace(Queue=ShortQueue, Empty=queue.Empty)
    pyagent.time = SimpleNamespace(time=time.time, sleep=lambda seconds: time.sleep(min(seconds, HEARTBEAT_SECONDS)))
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork loses threads"
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(channel.fileno(), False)
    channel.send(b"ready")
    serve(channel)


class ShortQueue(queue.Queue):
    """Has W&B's agent look more often whether it has been told to end."""

    def get(self, block=True, timeout=None):
        return super().get(block, None if timeout is None else min(timeout, HEARTBEAT_SECONDS))


def serve(channel):
    """Fork a process for each message, until the channel is closed."""
    while True:
        message, streams, _, _ = socket.recv_fds(channel, SIZE, 16)
        if not message:
            os._exit(0)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            between = os.getpid()
            if os.fork():
                os._exit(0)
            become(json.loads(message), streams, between, writing)
        os.waitpid(between, 0)
        channel.send(os.read(reading, 64))
        for fd in (reading, writing, *streams):
            os.close(fd)


def become(request, streams, parent, ready):
    """Do what the command line of the new process says; never return."""
    code = 1
    try:
        if request["session"]:
            os.setsid()
        rename(request["args"])
        while os.getppid() == parent:
            time.sleep(0.001)
        os.write(ready, str(os.getpid()).encode())
        place(streams, request["numbers"])
        for number in IGNORABLE:
            signal.signal(number, signal.SIG_IGN if number in request["ignored"] else signal.SIG_DFL)
        if signal.SIGINT not in request["ignored"]:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
        os.environ.clear()
        os.environ.update(request["environ"])
        os.chdir(request["cwd"])
        multiprocessing.process.ORIGINAL_DIR = request["cwd"]
        sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
        sys.modules["numpy"].random.seed()
        run(request["args"])
        code = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        import traceback

        traceback.print_exc()
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    finally:
        leave(code)


def place(streams, numbers):
    """Close everything but some streams, and give these their numbers."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, HIGH) for fd in streams]
    os.closerange(3, HIGH)
    for fd, number in zip(high, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)


def rename(args):
    """Show the command line of the process to those that look for it."""
    start, end = map(int, Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()[45:47])
    words = b"\0".join(map(os.fsencode, args))[: end - start - 1]
    ctypes.memmove(start, words.ljust(end - start, b"\0"), end - start)


def run(args):
    """Run what an interpreter with this command line runs."""
    words = args[1:]
    if words[0] == "-u":
        words = words[1:]
        sys.stdout.reconfigure(write_through=True)
    more = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if words[0] != "-c":
        nest()
    if words[0] == "-m":
        sys.path[:0] = [str(Path.cwd()), *more]
        sys.argv[:] = ["-m", *words[2:]]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] != "-c":
        sys.path[:0] = [str(Path(words[0]).absolute().parent), *more]
        sys.argv[:] = words
        runpy.run_path(words[0], run_name="__main__")
    else:
        sys.path[:0] = ["", *more]
        sys.argv[:] = ["-c", *words[2:]]
        exec(words[1], {"__name__": "__main__"})


def nest():
    """Fork the interpreters that this process starts, too, from a server that ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    nested = os.fork()
    if nested == 0:
        ours.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        serve(theirs)
    theirs.close()
    NESTED.append(nested)
    forks = Forks(ours)
    subprocess.Popen = forks.popen
    multiprocessing.util.spawnv_passfds = forks.spawn


def leave(code):
    """End as an interpreter does: wait for threads, and call what was registered."""
    import atexit

    with contextlib.suppress(BaseException):
        threading._shutdown()
        atexit._run_exitfuncs()
    for pid in NESTED:
        os.kill(pid, signal.SIGKILL)  # it would end by itself, and be an orphan for a moment
        os.waitpid(pid, 0)
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    del sys.path[0]  # the folder of the tests
    for _name in PRELOAD:
        importlib.import_module(_name)
    main()
