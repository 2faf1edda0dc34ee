"""Whatever raises, wherever: exactly one cleanup of each permanence whose constructor returned, in reverse order."""

import itertools

import pytest

from ridgepole import Permanence, Pipeline, PipelineProcess
from ridgepole.rundir import list_runs

pytestmark = pytest.mark.fault("an exception in every phase of every permanence: one cleanup each, in reverse")

PHASES = [
    "constructor",
    "initialize",
    "validate",
    "checkpoint",
    "cleanup",
    "process constructor",
    "skip",
    "execute",
    None,
]
ERRORS = [ValueError, KeyboardInterrupt]


class Story(list):
    """What happened, in order, and where it is to go wrong."""

    def __init__(self, phase=None, at=None, error=ValueError):
        super().__init__()
        self.phase, self.at, self.error = phase, at, error

    def note(self, phase, name):
        self.append((phase, name))
        if (phase, name) == (self.phase, self.at):
            raise self.error(f"{phase} of {name}")


class Noted(Permanence):
    def __init__(self, story, name):
        self.story, self.name = story, name
        story.note("constructor", name)

    def initialize(self):
        self.story.note("initialize", self.name)

    def validate(self):
        self.story.note("validate", self.name)

    def checkpoint(self):
        self.story.note("checkpoint", self.name)

    def cleanup(self):
        self.story.note("cleanup", self.name)


class Work(PipelineProcess):
    def __init__(self, controller, force, story):
        super().__init__(controller, force)
        self.story = story
        story.note("process constructor", "work")

    def skip(self):
        self.story.note("skip", "work")
        return False

    def execute(self):
        self.story.note("execute", "work")


def run(story, count, tmp_path):
    pipeline = Pipeline("matrix", logger=False, progress=False)
    for index in range(count):
        # each leans on the one before, so that their order is not an accident of the file's
        depends_on = [f"p{index - 1}"] if index else []
        pipeline.permanence(f"p{index}", Noted, story=story, name=f"p{index}", depends_on=depends_on)
    pipeline.process("work", Work, story=story)
    return pipeline.run(tmp_path)


def cases():
    for count, phase, error in itertools.product(range(1, 6), PHASES, ERRORS):
        if phase is None:
            if error is ValueError:
                yield count, None, None, error
        elif phase in ("process constructor", "skip", "execute"):
            yield count, phase, "work", error
        else:
            for index in range(count):
                yield count, phase, f"p{index}", error


CASES = list(cases())


def test_the_matrix_is_what_it_says():
    assert len(CASES) == 5 + 5 * 3 * 2 + 15 * 5 * 2


@pytest.mark.parametrize(("count", "phase", "at", "error"), CASES, ids=str)
def test_everyone_is_cleaned_up_once_in_reverse(count, phase, at, error, tmp_path):
    story = Story(phase, at, error)
    caught = None
    try:
        run(story, count, tmp_path)
    except BaseException as raised:
        caught = raised
    constructed = [name for what, name in story if what == "constructor" and (what, name) != (phase, at)]
    cleaned = [name for what, name in story if what == "cleanup"]
    assert cleaned == constructed[::-1]
    if phase is None:
        assert caught is None
        assert ("execute", "work") in story
    else:
        assert type(caught) is error, "the user's error comes out as it was"
        assert str(caught) == f"{phase} of {at}"
        notes = "\n".join(caught.__notes__)
        assert repr(at) in notes
        assert "test_lifecycle_matrix.py" in notes, "the note names the line where it was declared"
    status = {None: "finished", ValueError: "failed", KeyboardInterrupt: "interrupted"}[error if phase else None]
    if phase == "cleanup":
        status = "finished_with_cleanup_errors"
    (record,) = list_runs(tmp_path)
    assert record.status == status


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("count", range(1, 6))
def test_cleanups_that_all_raise(count, error, tmp_path):
    class Burning(Story):
        def note(self, phase, name):
            self.append((phase, name))
            if phase == "cleanup":
                raise error(name)

    story = Burning()
    with pytest.raises(BaseException) as caught:
        run(story, count, tmp_path)
    names = [f"p{index}" for index in reversed(range(count))]
    assert [name for what, name in story if what == "cleanup"] == names
    if count == 1:
        assert type(caught.value) is error
    else:
        assert isinstance(caught.value, BaseExceptionGroup)
        assert isinstance(caught.value, ExceptionGroup) is (error is ValueError)
        assert [str(e) for e in caught.value.exceptions] == names


def test_the_first_cause_comes_first_when_the_cleanup_fails_too(tmp_path):
    class Twice(Story):
        def note(self, phase, name):
            self.append((phase, name))
            if (phase, name) in (("execute", "work"), ("cleanup", "p1")):
                raise ValueError(phase)

    with pytest.raises(ExceptionGroup) as caught:
        run(Twice(), 3, tmp_path)
    assert [str(error) for error in caught.value.exceptions] == ["execute", "cleanup"]
    assert list_runs(tmp_path).__next__().status == "failed"


def test_all_failures_of_validate_are_reported_together(tmp_path):
    class Sick(Story):
        def note(self, phase, name):
            self.append((phase, name))
            if phase == "validate" and name in ("p0", "p2"):
                raise ValueError(name)

    story = Sick()
    with pytest.raises(ExceptionGroup, match="2 permanences are not valid") as caught:
        run(story, 4, tmp_path)
    assert [str(error) for error in caught.value.exceptions] == ["p0", "p2"]
    assert [name for what, name in story if what == "validate"] == ["p0", "p1", "p2", "p3"]
    assert ("execute", "work") not in story


def test_order_of_a_life(tmp_path):
    story = Story()
    run(story, 2, tmp_path)
    assert story == [
        ("constructor", "p0"),
        ("constructor", "p1"),
        ("initialize", "p0"),
        ("initialize", "p1"),
        ("validate", "p0"),
        ("validate", "p1"),
        ("checkpoint", "p0"),
        ("checkpoint", "p1"),
        ("process constructor", "work"),
        ("skip", "work"),
        ("execute", "work"),
        ("checkpoint", "p0"),
        ("checkpoint", "p1"),
        ("cleanup", "p1"),
        ("cleanup", "p0"),
    ]


def test_a_constructor_that_raises_gives_back_what_it_took(tmp_path):
    given_back = []

    class Taking(Permanence):
        def __init__(self):
            self.defer(given_back.append, "port")
            raise OSError("no memory")

        def cleanup(self):
            given_back.append("cleanup")

    with pytest.raises(OSError, match="no memory"):
        Pipeline(logger=False, progress=False).permanence("taking", Taking).run(tmp_path)
    assert given_back == ["port"]


def test_system_exit_keeps_its_code(tmp_path):
    class Leaving(PipelineProcess):
        def execute(self):
            raise SystemExit(7)

    with pytest.raises(SystemExit) as caught:
        Pipeline(logger=False, progress=False).process("leaving", Leaving).run(tmp_path)
    assert caught.value.code == 7
    assert list_runs(tmp_path).__next__().status == "failed"
