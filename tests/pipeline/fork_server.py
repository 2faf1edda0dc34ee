"""Starts the command line in processes of their own without paying for its imports each time.

Run as a script it is the server: it has imported what runs need, and forks a child for each line of JSON it reads. The
child is like a fresh interpreter that has got as far as its own imports: it can be killed at any moment, and nothing
that it does is seen by another one.
"""

import contextlib
import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

QUICK = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
"""For an interpreter that imports much: the next one finds it compiled."""

PLAIN = QUICK | {"PYTHONDONTWRITEBYTECODE": "1"}
"""For the rest: a module that a test writes anew within a second is compiled anew."""


class Child:
    """One process that the server has forked."""

    def __init__(self, server, pid, out, err):
        self.server, self.pid, self.out, self.err = server, pid, out, err
        self.returncode = None
        self.started = time.monotonic()

    @property
    def stdout(self):
        return self.out.read_text(errors="replace")  # it may be in the middle of a character

    @property
    def stderr(self):
        return self.err.read_text(errors="replace")

    def poll(self):
        if self.returncode is None:
            self.returncode = self.server.ask(wait=self.pid)["code"]
        return self.returncode

    def wait(self, timeout=60):
        """The exit code, negative for a signal; whoever hangs is killed, and fails the test."""
        if self.poll() is None:
            ended = os.pidfd_open(self.pid)  # its number stays taken until the server has asked how it ended
            try:
                if not select.select([ended], [], [], timeout)[0]:
                    os.kill(self.pid, signal.SIGKILL)
                    raise TimeoutError(f"hangs after {timeout} s:\n{self.stdout[-2000:]}\n{self.stderr[-2000:]}")
            finally:
                os.close(ended)
            assert self.poll() is not None
        return self.returncode

    def until(self, word, timeout=60):
        """Waits until it has printed something."""
        limit = time.monotonic() + timeout
        while word not in self.stdout:
            assert self.poll() is None, f"ended without {word!r}:\n{self.stdout}\n{self.stderr}"
            assert time.monotonic() < limit, f"never said {word!r}:\n{self.stdout}\n{self.stderr}"
            time.sleep(0.002)
        return self

    def send(self, number):
        """Sends a signal to it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)
        return self


class ForkServer:
    """Starts `ridgepole` commands; `preload` names the modules that they need not import."""

    def __init__(self, folder, *preload):
        self.folder, self.count = Path(folder), 0
        self.process = subprocess.Popen(
            [sys.executable, __file__, *preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | QUICK,
        )
        assert self.process.stdout.readline() == "ready\n", "the server did not start"

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *arguments, cwd, script=None, **environment):
        """Starts the command line (or a script) with some arguments."""
        self.count += 1
        out, err = (self.folder / f"{self.count}.{kind}" for kind in ("out", "err"))
        out.touch()
        err.touch()
        answer = self.ask(
            arguments=list(map(str, arguments)),
            script=None if script is None else str(script),
            cwd=str(cwd),
            environment=os.environ | PLAIN | environment,
            out=str(out),
            err=str(err),
        )
        return Child(self, answer["pid"], out, err)

    def call(self, *arguments, cwd, script=None, timeout=60, **environment):
        """Runs it to its end."""
        child = self.start(*arguments, cwd=cwd, script=script, **environment)
        code = child.wait(timeout)
        return SimpleNamespace(returncode=code, stdout=child.stdout, stderr=child.stderr, pid=child.pid)

    def close(self):
        self.process.kill()  # rather than let torch go down in its own time
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()


# --- the server


def serve(preload):
    for name in preload:
        __import__(name)
    gc.freeze()  # a collection in a child would copy all of it
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(json.dumps({"code": ended(request["wait"])}), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            become(request)
        print(json.dumps({"pid": pid}), flush=True)


def ended(pid):
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def become(request):
    """The child: runs the command, and never comes back."""
    code = 70
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for number, name in ((1, "out"), (2, "err")):
            fd = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(fd, number)
            os.close(fd)
        before = os.environ.get("PYTHONPATH", "")
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.dont_write_bytecode = True
        tempfile.tempdir = None  # what the server has found out is not the child's
        os.chdir(request["cwd"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        after = os.environ.get("PYTHONPATH", "")
        more = after if after != before else ""
        sys.path[:1] = [request["cwd"], *filter(None, more.split(os.pathsep))]
        if request["script"]:
            code = run_script(request["script"], request["arguments"])
        else:
            sys.argv = ["ridgepole", *request["arguments"]]
            code = __import__("ridgepole.cli").cli.main(request["arguments"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:  # before a run had begun, or after it: an interpreter of its own would say so and leave
        code = 130
    except BaseException as error:
        import traceback

        traceback.print_exc()
        sys.last_value = error  # as an interpreter does, for what runs at its exit
        code = 1
    finally:
        leave(code)


def run_script(path, arguments):
    import runpy

    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")
    return 0


def leave(code):
    """As an interpreter ends: what was registered is done, and nothing of the server's."""
    import atexit
    import threading

    with contextlib.suppress(BaseException):
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1:])
