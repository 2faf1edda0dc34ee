"""Exceptions, classes and moments that a framework does not expect, each found by trying to break it."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import pytest

from ridgepole import ConfigError, Permanence, Pipeline, PipelineProcess, process
from ridgepole.permanences import BaseLoggerManager, BasicLogger, NullLogger, ProgressManager
from ridgepole.rundir import RunDir, is_owned, list_runs

T = TypeVar("T")


def quiet(**settings) -> Pipeline:
    return Pipeline("hostile", **{"progress": False, "logger": False, "seed": 1} | settings)


class Log(list):
    pass


class Held(Permanence):
    def __init__(self, log, name="held"):
        self.log, self.name = log, name

    def cleanup(self):
        self.log.append(self.name)


# --- exceptions that resist


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818
    code: int = 0


class NoNotes(Exception):  # noqa: N818
    __notes__ = None


class Refusing(Exception):  # noqa: N818
    def __setattr__(self, name, value):
        raise TypeError("hands off")


class NoText(Exception):  # noqa: N818
    def __str__(self):
        raise RuntimeError("speechless")


RESISTING = [Frozen, NoNotes, Refusing, NoText]


@pytest.mark.parametrize("error", RESISTING)
@pytest.mark.parametrize("where", ["process", "cleanup", "initialize"])
def test_an_exception_that_resists_comes_out_as_it_is(error, where, tmp_path):
    log = Log()

    class Burning(Held):
        def initialize(self):
            if where == "initialize":
                raise error()

        def cleanup(self):
            super().cleanup()
            if where == "cleanup":
                raise error()

    @process
    def work():
        if where == "process":
            raise error()

    pipeline = quiet().permanence("a", Held, log=log, name="a").permanence("b", Burning, log=log, name="b")
    with pytest.raises(error):
        pipeline.permanence("c", Held, log=log, name="c").process("work", work).run(tmp_path)
    assert log == ["c", "b", "a"]
    assert next(list_runs(tmp_path)).status != "running"


def test_a_display_that_fails_keeps_nobody_from_clean_up(tmp_path):
    log = Log()

    class Broken(ProgressManager):
        def advance(self, *args, **kwargs):
            raise RuntimeError("no terminal")

    pipeline = quiet(progress=True).permanence("bars", Broken)
    for name in "abc":
        pipeline.permanence(name, Held, log=log, name=name)
    pipeline.run(tmp_path)
    assert log == ["c", "b", "a"]


def test_a_run_directory_that_vanishes_keeps_the_cause(tmp_path):
    import shutil

    class Vanish(PipelineProcess):
        def execute(self):
            shutil.rmtree(self.controller.run_dir)
            raise ValueError("the cause")

    with pytest.raises(ExceptionGroup) as caught:
        quiet().process("vanish", Vanish).run(tmp_path)
    assert [type(error) for error in caught.value.exceptions] == [ValueError, FileNotFoundError]


# --- signals at bad moments

SCRIPT = """
import os, signal, sys, time
from ridgepole import Permanence, Pipeline, PipelineProcess
def say(text): os.write(1, (text + "\\n").encode())
class A(Permanence):
    def cleanup(self): say("a starts"); time.sleep(0.6); say("a ends")
class Late(Permanence):
    def __init__(self):
        # the signal is delivered when this call returns to the interpreter: in the frame that called the constructor
        signal.pthread_kill(__import__("threading").get_ident(), signal.SIGINT) if MODE == "constructor" else None
    def cleanup(self): say("late")
class Work(PipelineProcess):
    def execute(self):
        say("work")
        if MODE == "twice":
            for _ in range(2):
                try: time.sleep(30)
                except KeyboardInterrupt: say("caught")
        elif MODE == "chained":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
MODE = sys.argv[1]
if MODE == "chained":
    signal.signal(signal.SIGTERM, lambda *_: say("previous handler"))
try:
    pipeline = Pipeline(progress=False, logger=False).permanence("a", A).permanence("late", Late)
    pipeline.process("work", Work).run(sys.argv[2])
except BaseException as error:
    say(type(error).__name__)
"""


def start(mode, tmp_path):
    command = [sys.executable, "-c", SCRIPT, mode, str(tmp_path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_an_interrupt_as_the_constructor_returns_loses_nobody(tmp_path):
    child = start("constructor", tmp_path)
    out = child.communicate(timeout=30)[0].split("\n")
    assert out[-4:] == ["a starts", "a ends", "KeyboardInterrupt", ""]
    assert "work" not in out


def test_every_ctrl_c_reaches_a_process_that_catches_the_first(tmp_path):
    child = start("twice", tmp_path)
    assert child.stdout is not None
    for wanted in ("work", "caught"):
        assert child.stdout.readline().strip() == wanted
        time.sleep(0.3)  # until it sleeps inside its `try` again
        child.send_signal(signal.SIGINT)
    rest = child.communicate(timeout=20)[0].split("\n")
    assert rest[:3] == ["caught", "late", "a starts"]
    assert "a ends" in rest


def test_a_signal_handler_from_before_is_told(tmp_path):
    out = start("chained", tmp_path).communicate(timeout=30)[0].split("\n")
    assert out[:2] == ["work", "previous handler"]
    assert "a ends" in out
    assert "StopRequested" in out


def test_random_interrupts_never_lose_a_clean_up(tmp_path):
    """Interrupts at random moments of start-up and work; what was constructed is cleaned up, and the run says so."""
    script = """
import os, random, signal, sys, threading, time
from ridgepole import Permanence, Pipeline, process
from ridgepole.pipeline.run import provenance
provenance.packages = provenance.machine = dict
made, cleaned = [], []
class P(Permanence):
    def __init__(self, n):
        try:
            self.n = n
            made.append(n)
        except BaseException:  # interrupted in here: this one was not constructed
            if made and made[-1] == n: made.pop()
            raise
    def cleanup(self): cleaned.append(self.n)
@process
def work():
    for _ in range(2000): pass
random.seed(int(sys.argv[2]))
bad = []
for round in range(60):
    made.clear(); cleaned.clear()
    pipeline = Pipeline(progress=False, logger=False, checkpoint=False)
    for index in range(5): pipeline.permanence(f"p{index}", P, n=index)
    for index in range(5): pipeline.process(f"w{index}", work)
    timer = threading.Timer(random.random() * 0.02, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        pipeline.run(sys.argv[1])
        timer.join()
    except KeyboardInterrupt: pass
    try: timer.join(); time.sleep(0.001)
    except KeyboardInterrupt: pass
    if cleaned != made[::-1]: bad.append((round, list(made), list(cleaned)))
print(bad)
"""
    command = [sys.executable, "-c", script, str(tmp_path), "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.stdout == "[]\n", done.stdout + done.stderr
    assert not [run.id for run in list_runs(tmp_path) if run.status in ("running", "crashed")]


# --- classes that resist


def test_diamonds_and_mixins():
    class Base(Permanence):
        pass

    class Impl(Permanence):
        def cleanup(self):
            self.done = True

    class Both(Base, Impl):
        pass

    both = Both()
    both.cleanup()
    assert both.done

    class Mixin:
        def cleanup(self):
            self.said = "first"

    class Other(Mixin):
        def cleanup(self):
            super().cleanup()
            self.said += ", second"

    class A(Mixin, Permanence):
        pass

    class B(A, Other):
        pass

    mixed = B()
    mixed.cleanup()
    assert mixed.said == "first, second"


def test_static_and_class_methods_and_copied_marks():
    import functools

    log = []

    class Static(Permanence):
        @staticmethod
        def cleanup():
            log.append("static")

    class Class(Permanence):
        @classmethod
        def cleanup(cls):
            log.append(cls.__name__)

    class Copied(Static):
        @functools.wraps(Static.cleanup)
        def cleanup(self):
            log.append("copied")

    for cls in (Static, Class, Copied):
        held = cls()
        held.defer(log.append, "deferred")
        held.cleanup()
        held.cleanup()
    assert log == ["static", "deferred", "Class", "deferred", "copied", "deferred"]


def test_async_hooks_are_refused():
    with pytest.raises(TypeError, match=r"Wrong\.initialize is async"):

        class Wrong(Permanence):
            async def initialize(self):
                pass

            def cleanup(self):
                pass

    with pytest.raises(TypeError, match="execute is async"):

        class Step(PipelineProcess):
            async def execute(self):
                pass


def test_execute_may_be_a_generator(tmp_path):
    steps = []

    class Generate(PipelineProcess):
        def execute(self):
            for _ in range(3):
                yield
                steps.append(self.controller.step)

    quiet().process("generate", Generate).run(tmp_path)
    assert steps == [1, 2, 3]


def test_positional_parameters_keep_their_places(tmp_path):
    seen = {}

    @process
    def work(controller, a=1, b=2, /, *, c=3):
        seen.update(a=a, b=b, c=c, controller=controller)

    quiet().process("work", work, b=5).run(tmp_path)
    assert (seen["a"], seen["b"], seen["c"]) == (1, 5, 3)
    assert seen["controller"].seed == 1


def test_generic_annotated_and_any_permanences(tmp_path):
    class Data(Permanence, Generic[T]):
        def cleanup(self):
            pass

    seen = {}

    @process
    def work(data: Data[int], maybe: Annotated[Data, "x"] | None, anything: Any):
        seen.update(data=data, maybe=maybe, anything=anything)

    work.__annotations__.update(data=Data[int], maybe=typing.Optional[Annotated[Data, "x"]], anything=Any)  # noqa: UP045
    quiet().permanence("d", Data).process("work", work, anything={"ref": "d"}).run(tmp_path)
    assert seen["data"] is seen["maybe"] is seen["anything"]


def test_names_of_loggers_answer_when_they_are_silenced(tmp_path):
    seen = {}

    class Ask(PipelineProcess):
        def __init__(self, mine: BasicLogger):
            self.mine = mine

        def execute(self):
            seen.update(named=self.controller.get_permanence("record"), mine=self.mine)

    pipeline = quiet().permanence("record", BasicLogger, log_level="DEBUG")
    pipeline.process("ask", Ask, mine={"ref": "record"}).run(tmp_path)
    assert isinstance(seen["named"], NullLogger)
    assert seen["mine"] is seen["named"]


def test_all_loggers_are_not_there_before_the_last(tmp_path):
    class Early(Permanence):
        def __init__(self, controller):
            controller.get_permanence("logger")

        def cleanup(self):
            pass

    class Second(NullLogger):
        pass

    pipeline = quiet(logger=True).permanence("early", Early).permanence("second", Second)
    with pytest.raises(LookupError, match="does not exist yet"):
        pipeline.run(tmp_path)


def test_the_last_process_may_be_due_for_a_checkpoint(tmp_path):
    log = Log()

    class Counted(Held):
        def checkpoint(self):
            log.append("checkpoint")

    @process
    def work():
        pass

    policy = {"after_process": False, "every_minutes": 1e-9}
    quiet(checkpoint=policy).permanence("held", Counted, log=log).process("work", work).run(tmp_path)
    assert log == ["checkpoint", "held"]


# --- forks, readers, plans


def test_a_forked_child_that_leaves_touches_nothing(tmp_path):
    script = (
        "import os, sys\nfrom ridgepole import Permanence, Pipeline, process\n"
        "class Held(Permanence):\n    def cleanup(self): os.write(1, b'cleanup %d\\n' % (os.getpid() == PARENT))\n"
        "PARENT = os.getpid()\n"
        "@process\ndef work(held: Held):\n    pid = os.fork()\n    if pid == 0: sys.exit(4)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)\n"
        "print(Pipeline(progress=False, logger=False).permanence('held', Held).process('work', work)"
        ".run(sys.argv[1]).status)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n") == ["4", "cleanup 1", "finished", ""], done.stderr


@pytest.mark.isolated
def test_looking_at_runs_disturbs_no_new_run(tmp_path):
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                while True:
                    for path in tmp_path.iterdir():
                        is_owned(path)
            finally:
                os._exit(0)
        pids.append(pid)
    try:
        for _ in range(150):
            RunDir.create(tmp_path).close()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.mark.parametrize("value", [10**30, "\ud800", object()], ids=["huge", "surrogate", "object"])
def test_what_has_no_toml_form_runs_all_the_same(value, tmp_path):
    seen = []

    @process
    def take(x):
        seen.append(x)

    pipeline = quiet().process("take", take, x=value)
    with pytest.raises(ConfigError, match="has no TOML form"):
        pipeline.to_toml()
    result = pipeline.run(tmp_path)
    assert seen == [value]
    assert "no TOML form" in (result.path / "config.toml").read_text()


def test_to_toml_says_what_it_means(tmp_path):
    @process
    def take(text: str, width: int | None = 64, depth: int | None = None):
        pass

    text = quiet().process("take", take, text="${env:HOME}", depth=None).to_toml()
    assert "$${env:HOME}" in text
    none = quiet().process("take", take, text="", width=None, depth=None).to_toml()
    written = tomllib.loads(none)["processes"]["take"]
    assert written == {"type": "take", "text": "", "width": {"null": True}}
    listed = quiet().process("take", take, text=[1, None]).to_toml()
    assert tomllib.loads(listed)["processes"]["take"]["text"] == [1, {"null": True}]
    file = tmp_path / "p.toml"
    file.write_text('[processes.take]\ntype = "take"\napi_token = "${env:MY_TOKEN}"\n')
    with pytest.raises(ConfigError, match="is a secret from the environment"):
        Pipeline.from_toml(file, environ={"MY_TOKEN": "canary"}).to_toml()


def test_a_default_that_cannot_be_shown(tmp_path):
    class Mute:
        def __str__(self):
            raise RuntimeError("speechless")

    @process
    def work(x=Mute()):  # noqa: B008
        pass

    result = quiet().process("work", work).run(tmp_path)
    resolved = json.loads((result.path / "config.resolved.json").read_text())
    assert resolved["processes"]["work"]["params"]["x"] == "<Mute>"


def test_from_toml_keeps_its_place(tmp_path, monkeypatch):
    (tmp_path / "p.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    pipeline = Pipeline.from_toml("p.toml")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pipeline.root() == tmp_path / "runs"


def test_loggers_by_base_class_in_a_union(tmp_path):
    seen = []

    @process
    def work(logger: BaseLoggerManager | None = None):
        seen.append(logger)

    quiet(logger=True).process("work", work).run(tmp_path)
    assert seen[0] is not None


# --- ranks


@pytest.mark.parametrize(
    ("rank_name", "size_name"),
    [
        ("RANK", "WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ],
)
def test_many_ranks_make_one_run(rank_name, size_name, command_server, tmp_path):
    """One run, one set of metrics, one closing line, however many ranks there are."""
    (tmp_path / "ranked.py").write_text(
        "from ridgepole import Permanence, process, track\n"
        "from ridgepole.permanences import BaseLoggerManager, BasicLogger, ProgressManager\n"
        "class Store(Permanence):\n    def cleanup(self): print('store closed')\n"
        "@process\n"
        "def train(logger: BaseLoggerManager, mine: BasicLogger, bars: ProgressManager, store: Store | None):\n"
        "    for step in bars.track(range(3), 'train'):\n        logger.log_metrics({'loss': step})\n"
        "    print(type(mine).__name__, type(bars).__name__, store is None)\n"
    )
    (tmp_path / "ranked.toml").write_text(
        '[pipeline]\npackage = "ranked"\n[permanences.store]\ntype = "Store"\nranks = "zero"\n'
        '[processes.train]\ntype = "train"\n'
    )
    ranks = [
        command_server.start("run", "ranked.toml", cwd=tmp_path, **{rank_name: str(rank), size_name: "3"})
        for rank in range(3)
    ]
    assert [rank.wait() for rank in ranks] == [0, 0, 0], [rank.stderr for rank in ranks]
    outs = [rank.stdout.splitlines() for rank in ranks]
    assert outs[0][0] == "BasicLogger ProgressManager False"
    assert outs[0][-1].startswith("finished in")
    assert outs[1] == outs[2] == ["NullLogger NullProgressManager True"]
    assert len(list(list_runs(tmp_path / "runs"))) == 1
    assert len(list((tmp_path / "runs").rglob("metrics*.jsonl"))) == 1


def test_what_rank_zero_alone_has_must_be_optional():
    @process
    def need(held: Held):
        pass

    need.__annotations__["held"] = Held
    pipeline = quiet().permanence("held", Held, log=Log(), ranks="zero").process("need", need)
    (problem,) = pipeline.check()
    assert problem.message == "need.held needs 'held', which only rank 0 constructs"
