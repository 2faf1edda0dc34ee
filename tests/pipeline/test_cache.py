"""Processes that another run has done are not done again, and what they left is given back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ridgepole import ConfigError, Pipeline

PACKAGE = {
    "__init__.py": "",
    "net.py": """
from ridgepole import Permanence


class Net(Permanence):
    def __init__(self, width: int = 2):
        self.width = width
        self.weights = [0.0] * width

    def state_dict(self):
        return {"weights": self.weights}

    def load_state_dict(self, state):
        if len(state["weights"]) != self.width:
            raise ValueError(f"{len(state['weights'])} weights do not fit a width of {self.width}")
        self.weights = state["weights"]

    def cleanup(self):
        pass


class Other(Net):
    pass
""",
    "maths.py": "import random\n\n\ndef draw():\n    return random.random()\n",
    "unrelated.py": "VALUE = 1\n",
    "steps.py": """
import os
import random

from ridgepole import process
from work.maths import draw
from work.net import Net, Other


def note(word):
    with open(os.environ["RAN"], "a") as file:
        file.write(word + "\\n")


@process
def prepare(net: Net, amount: float = 1.0):
    note("prepare")
    net.weights = [weight + amount for weight in net.weights]


@process
def train(net: Net, controller, epochs: int = 3):
    note("train")
    for _ in range(epochs):
        net.weights = [weight + draw() for weight in net.weights]
        controller.tick()


@process
def report(net: Net, controller, other: Other | None = None):
    note("report")
    note(f"={net.weights} {random.random()} {controller.step}")


@process
def looked_up(controller):
    note("looked_up")
    net = controller.get_permanence("net")
    net.weights = [weight + 5 for weight in net.weights]
""",
}

FILE = """
[pipeline]
package = "work"
seed = {seed}

[permanences.net]
type = "Net"
width = {width}

[processes.prepare]
type = "prepare"
amount = {amount}
cache = "{cache_prepare}"

[processes.train]
type = "train"
epochs = {epochs}
cache = "{cache}"
{extra}

[processes.report]
type = "report"
"""


@pytest.fixture
def work(tmp_path, command_server):
    """Runs the pipeline in a process of its own; gives which processes ran, and what the last one saw."""
    package = tmp_path / "work"
    package.mkdir()
    for name, text in PACKAGE.items():
        (package / name).write_text(text)

    def run(*verb, fails=False, **values):
        ran = tmp_path / "ran.txt"
        ran.write_text("")
        keys = {"seed": 7, "width": 2, "amount": 1.0, "epochs": 3, "cache": "fingerprint", "extra": ""} | values
        keys.setdefault("cache_prepare", keys["cache"])
        (tmp_path / "w.toml").write_text(FILE.format(**keys))
        done = command_server.call(*(verb or ("run", "w.toml")), cwd=tmp_path, RAN=str(ran))
        assert (done.returncode == 0) is not fails, done.stderr
        run.errors = done.stderr
        lines = ran.read_text().splitlines()
        return [line for line in lines if line[0] != "="], [line for line in lines if line[0] == "="]

    run.folder = tmp_path
    return run


def newest(work) -> Path:
    return max(path for path in (work.folder / "runs").iterdir() if path.name[0] != ".")


def entries(work):
    return sorted((work.folder / "runs" / ".cache").iterdir())


ALL = ["prepare", "train", "report"]


@pytest.mark.parametrize("cache", ["fingerprint", "exists"])
def test_what_is_done_is_not_done_again_and_the_rest_goes_on_from_it(work, cache):
    ran, first = work(cache=cache)
    assert ran == ALL
    before = newest(work).name
    ran, second = work(cache=cache)
    assert ran == ["report"]
    run = json.loads((newest(work) / "run.json").read_text())
    assert [item["status"] for item in run["processes"]] == ["cached", "cached", "done"]
    assert [item["reason"] for item in run["processes"]] == [f"done by run {before}"] * 2 + [""]
    assert f"train cached: done by run {before}" in (newest(work) / "run.log").read_text()
    weights = first[0].partition("]")[0]
    assert weights == second[0].partition("]")[0], "the network is as trained as it was"
    if cache == "fingerprint":
        assert first == second, "random numbers and steps, too, go on as they did"


def test_off_is_off(work):
    assert work(cache="off")[0] == ALL
    assert work(cache="off")[0] == ALL
    assert not (work.folder / "runs" / ".cache").exists()


@pytest.mark.parametrize(
    ("change", "ran"),
    [
        ({"epochs": 4}, ["train", "report"]),
        ({"amount": 2.0}, ALL),
        ({"seed": 8}, ALL),
        ({"width": 3}, ALL),
        ({"extra": "force = true"}, ["train", "report"]),
        ({"cache": "off", "cache_prepare": "fingerprint"}, ["train", "report"]),
    ],
    ids=str,
)
def test_what_a_fingerprint_sees(work, change, ran):
    work()
    assert work(**change)[0] == ran
    assert work()[0] == ["report"], "what was cached before is still there"


@pytest.mark.parametrize(
    ("module", "ran"),
    [("maths", ALL), ("net", ALL), ("steps", ALL), ("unrelated", ["report"])],
)
def test_a_fingerprint_sees_the_source_and_what_it_imports(work, module, ran):
    work()
    path = work.folder / "work" / f"{module}.py"
    path.write_text(path.read_text() + "\n# changed\n")
    assert work()[0] == ran


def test_exists_sees_parameters_alone(work):
    work(cache="exists")
    path = work.folder / "work" / "maths.py"
    path.write_text(path.read_text() + "\n# changed\n")
    assert work(cache="exists", seed=8)[0] == ["report"]
    assert work(cache="exists", epochs=4)[0] == ["train", "report"]
    assert work(cache="exists", width=3)[0] == ALL, "the state of another network would not fit"


def test_what_follows_a_process_that_only_exists_is_another_thing(work):
    """Its fingerprint must not pass for that of a run in which today's code did all of it."""
    work(cache_prepare="exists")
    path = work.folder / "work" / "steps.py"
    path.write_text(path.read_text().replace("weight + amount", "weight + 10 * amount"))
    mixed = work(cache_prepare="exists")
    assert mixed[0] == ["train", "report"]
    pure = work(cache_prepare="fingerprint")
    assert pure[0] == ALL
    assert pure[1] != mixed[1]


def test_a_permanence_that_is_looked_up_by_name(work):
    changed = FILE.replace('type = "train"\nepochs = {epochs}', 'type = "looked_up"')
    assert changed != FILE
    globals()["FILE"], kept = changed, FILE
    try:
        ran, first = work()
        assert ran == ["prepare", "looked_up", "report"]
        ran, second = work()
        assert (ran, second) == (["report"], first)
        assert work(width=3)[0] == ["prepare", "looked_up", "report"]
    finally:
        globals()["FILE"] = kept


@pytest.mark.parametrize("file", ["state.json", "manifest.json"])
def test_what_is_damaged_is_loudly_not_used(work, file):
    _, first = work()
    (entry,) = [path for path in entries(work) if ".train-" in path.name]
    (victim,) = entry.glob(f"0*/{file}")
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    ran, second = work()
    assert ran == ["train", "report"]
    assert second == first
    assert "skipped a cached result of train" in work.errors
    assert work()[0] == ["report"], "and it was kept again"


def test_a_failed_run_still_has_done_what_it_has_done(work):
    steps = work.folder / "work" / "steps.py"
    good = steps.read_text()
    steps.write_text(good + "\n\nclass Stop(Exception):\n    pass\n")
    report = work.folder / "work" / "reports.py"
    report.write_text("from ridgepole import process\n\n\n@process\ndef report2():\n    raise ValueError('no')\n")
    work(fails=True, extra='[processes.broken]\ntype = "report2"')
    report.write_text("from ridgepole import process\n\n\n@process\ndef report2():\n    pass\n")
    assert work(extra='[processes.broken]\ntype = "report2"')[0] == ["report"]


def test_with_resume(work):
    """A process that was cut off is not cached half-done; the resumed run caches it, and what was cached stays so."""
    maths = work.folder / "work" / "maths.py"
    good = maths.read_text()
    breaking = (
        "\n\nimport os\n_draw = draw\n\n\ndef draw():\n    if os.path.exists('stop'):\n        raise OSError('stop')\n"
    )
    maths.write_text(good + breaking + "    return _draw()\n")
    whole = work(seed=9)[1]
    (work.folder / "stop").write_text("")
    ran, _ = work(fails=True)
    assert ran == ["prepare", "train"]
    (work.folder / "stop").unlink()
    ran, first = work("resume", "latest", "--runs-dir", "runs")
    assert ran == ["train", "report"]
    ran, second = work()
    assert (ran, second) == (["report"], first)
    assert whole != first


def test_a_process_resumed_with_other_values_is_not_kept(tmp_path):
    from ridgepole import PipelineProcess

    ran = []

    class Count(PipelineProcess):
        def __init__(self, upto: int):
            self.upto, self.at = upto, 0

        def execute(self):
            ran.append(self.at)
            while self.at < self.upto:
                self.at += 1
                self.controller.tick()
                if self.at == 2 and self.controller.attempt == 1 and not ran[0]:
                    raise OSError("cut off")

        def state_dict(self):
            return {"at": self.at}

        def load_state_dict(self, state):
            self.at = state["at"]

    def pipeline(upto):
        made = Pipeline("count", seed=1, progress=False, checkpoint={"every_steps": 1})
        return made.process("count", Count, upto=upto, cache="fingerprint")

    with pytest.raises(OSError, match="cut off"):
        pipeline(4).run(tmp_path)
    pipeline(6).resume(root=tmp_path, allow_change=["processes.count.params.upto"])
    assert ran == [0, 2]
    ran.append(-1)
    ran[0] = 1
    pipeline(6).run(tmp_path)
    assert ran[3:] == [0], "a count to 4 that became one to 6 is no count to 6"
    pipeline(6).run(tmp_path)
    assert ran[4:] == []


def test_values_that_can_not_be_compared(tmp_path):
    from ridgepole import process

    ran = []

    class Opaque:
        pass

    @process
    def use(thing, log=None):
        ran.append(thing)

    for _ in range(2):
        made = Pipeline("opaque", progress=False).process("use", use, thing=Opaque(), cache="exists")
        path = made.run(tmp_path).path
    assert len(ran) == 2
    assert "use is not cached: use.thing is a" in (path / "run.log").read_text()
    for _ in range(2):
        Pipeline("opaque", progress=False).process("use", use, thing={1.5, None, "x"}, cache="exists").run(tmp_path)
    assert len(ran) == 3, "nothing is stored, and skipping is right"


def test_a_state_that_can_not_be_stored_is_only_said(tmp_path):
    from ridgepole import Permanence, process

    class Odd(Permanence):
        def state_dict(self):
            return {"odd": object()}

        def load_state_dict(self, state):
            pass

        def cleanup(self):
            pass

    @process
    def use(odd: Odd):
        pass

    made = Pipeline(progress=False, checkpoint=False).permanence("odd", Odd).process("use", use, cache="exists")
    path = made.run(tmp_path).path
    assert "use was not cached: permanences.odd['odd'] is a object" in (path / "run.log").read_text()
    assert list((tmp_path / ".cache").iterdir()) == []


def test_an_unknown_word(tmp_path):
    from ridgepole import process

    @process
    def use():
        pass

    with pytest.raises(ConfigError, match="cache must be 'off', 'exists' or 'fingerprint', not 'always'"):
        Pipeline().process("use", use, cache="always").run(tmp_path)


# --- `runs gc` and `check`


def test_gc_limits_the_cache(work, ridgepole):
    work()
    work(epochs=4)
    assert len(entries(work)) == 3
    leftover = work.folder / "runs" / ".cache" / ".new-00000000~20260101-000000-gone"
    leftover.mkdir()
    os.utime(next(path for path in entries(work) if "prepare" in path.name))
    one = sum(path.stat().st_size for path in entries(work)[-1].rglob("*") if path.is_file())
    done = ridgepole("runs", "gc", "--cache-size", str(one + 500))
    assert done.returncode == 0, done.stderr
    assert "removing 2 cached processes" in done.stdout
    assert "removing 1 leftover" in done.stdout
    (left,) = entries(work)
    assert ".prepare-" in left.name, "what was used last is kept longest"
    assert work()[0] == ["train", "report"]


def test_check_says_what_the_cache_can_not_give_back(work, ridgepole):
    work()
    assert "cache:" not in ridgepole("check", "w.toml").stdout
    net = work.folder / "work" / "net.py"
    net.write_text(net.read_text().replace("state_dict", "renamed"))
    lines = ridgepole("check", "w.toml").stdout.splitlines()
    assert lines[-1] == "cache: changes that prepare, train make to net are not restored, without state_dict"


NOTEBOOK = """
from ridgepole import Permanence, Pipeline, process


class Net(Permanence):
    learnt = 0

    def state_dict(self):
        return {"learnt": self.learnt}

    def load_state_dict(self, state):
        self.learnt = state["learnt"]

    def cleanup(self):
        pass


def helper(controller):
    controller.get_permanence("net").learnt += 1


@process
def train(controller):
    print("trained")
    helper(controller)


@process
def show(net: Net):
    print("learnt", net.learnt)


made = Pipeline("cells", seed=1, progress=False).permanence("net", Net)
made.process("train", train, cache=CACHE).process("show", show).run("runs")
"""


@pytest.mark.parametrize(("cache", "trained"), [("exists", 1), ("fingerprint", 2)])
def test_code_without_a_file(tmp_path, cache, trained):
    """As in a notebook: what can't be read can't be fingerprinted, and may use any permanence."""
    outputs = []
    for _ in range(2):
        code = NOTEBOOK.replace("CACHE", repr(cache))
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        outputs += done.stdout.split("\n")
    assert outputs.count("trained") == trained
    assert outputs.count("learnt 1") == 2
    assert ("can't be read" in done.stderr) is (cache == "fingerprint")
