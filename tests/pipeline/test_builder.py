"""From tables and classes to a plan: what is filled in, what is refused, and where the report points."""

import itertools
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest
from annotated_types import Gt

from ridgepole import ConfigError, Permanence, Pipeline, PipelineProcess, process
from ridgepole.permanences import (
    BaseLoggerManager,
    BasicLogger,
    Device,
    LoggerGroup,
    NullLogger,
    NullProgressManager,
    ProgressManager,
)


class Data(Permanence):
    def __init__(self, size: int = 4):
        self.size = size

    def cleanup(self):
        pass


class MoreData(Data):
    pass


class Network(Permanence):
    def __init__(self, data: Data, width: int = 8):
        self.data, self.width = data, width

    def cleanup(self):
        pass


SEEN: dict[str, Any] = {}


def quiet(**settings) -> Pipeline:
    return Pipeline("test", **{"progress": False, "logger": False, "seed": 1} | settings)


def ran(pipeline: Pipeline, tmp_path: Path) -> dict[str, Any]:
    SEEN.clear()
    pipeline.run(tmp_path)
    return dict(SEEN)


def problems(pipeline: Pipeline) -> list[str]:
    return [problem.message for problem in pipeline.check() if problem.severity == "error"]


@process
def look(data: Data):
    SEEN["data"] = data


def test_filled_by_name_before_type(tmp_path):
    pipeline = quiet().permanence("other", Data, size=1).permanence("data", Data, size=2).process("look", look)
    assert ran(pipeline, tmp_path)["data"].size == 2


def test_filled_by_type(tmp_path):
    assert ran(quiet().permanence("numbers", MoreData, size=3).process("look", look), tmp_path)["data"].size == 3


def test_two_candidates_are_named():
    pipeline = quiet().permanence("a", Data).permanence("b", Data).process("look", look)
    (problem,) = [p for p in pipeline.check() if p.severity == "error"]
    assert problem.message == "look.data could be any of the permanences 'a', 'b'"
    assert problem.hint == 'say which: data = { ref = "a" }'


def test_a_reference_says_which(tmp_path):
    pipeline = quiet().permanence("a", Data, size=1).permanence("b", Data, size=2)
    assert ran(pipeline.process("look", look, data={"ref": "b"}), tmp_path)["data"].size == 2


def test_a_reference_without_annotation(tmp_path):
    @process
    def bare(thing, table):
        SEEN.update(thing=thing, table=table)

    pipeline = quiet().permanence("a", Data).process("bare", bare, thing={"ref": "a"}, table={"ref": 1, "x": 2})
    seen = ran(pipeline, tmp_path)
    assert isinstance(seen["thing"], Data)
    assert seen["table"] == {"ref": 1, "x": 2}


def test_a_reference_to_nobody_and_a_value_for_a_permanence():
    pipeline = quiet().permanence("data", Data)
    pipeline.process("one", look, data={"ref": "dta"}).process("two", look, data=3)
    found = pipeline.check()
    assert [(p.message, p.hint) for p in found if "one" in p.message or "called" in p.message] == [
        ("no permanence is called 'dta'", "did you mean 'data'?")
    ]
    assert "two.data is filled with a permanence (Data)" in [p.message for p in found]


def test_a_name_of_the_wrong_type():
    class Wrong(Permanence):
        def cleanup(self):
            pass

    pipeline = quiet().permanence("data", Wrong).process("look", look)
    assert problems(pipeline) == ["look.data asks for a Data, but the permanence 'data' is a Wrong"]


def test_nobody_declared_it():
    (problem,) = quiet().process("look", look).check()
    assert problem.message == "'look' asks for a Data as 'data', and no permanence is one"
    assert "[permanences.data]" in problem.hint


def test_optional_default_and_declared(tmp_path):
    @process
    def maybe(data: Data | None, other: Optional[MoreData] = None, third: Data = "default"):  # noqa: UP045
        SEEN.update(data=data, other=other, third=third)

    assert ran(quiet().process("maybe", maybe), tmp_path) == {"data": None, "other": None, "third": "default"}
    seen = ran(quiet().permanence("x", MoreData).process("maybe", maybe), tmp_path)
    assert all(isinstance(value, MoreData) for value in seen.values()), "a declared permanence beats a default"


def test_both_constructor_shapes(tmp_path):
    class Old(PipelineProcess):
        def __init__(self, controller, force, epochs):
            super().__init__(controller, force)
            self.epochs = epochs

        def execute(self):
            SEEN["old"] = (self.controller.get_permanence("data").size, self.force, self.epochs)

    class New(PipelineProcess):
        def __init__(self, data: Data, epochs: int = 1):
            SEEN["before init"] = (self.controller.seed, self.force)
            self.data, self.epochs = data, epochs

        def execute(self):
            SEEN["new"] = (self.data.size, self.epochs)

    pipeline = quiet().permanence("data", Data, size=5)
    pipeline.process("old", Old, epochs=2, force=True).process("new", New, epochs=3)
    assert ran(pipeline, tmp_path) == {"old": (5, True, 2), "before init": (1, False), "new": (5, 3)}


def test_dependencies_come_first_and_file_order_else(tmp_path):
    made = []

    class Marked(Permanence):
        def __init__(self, name: str):
            made.append(name)

        def cleanup(self):
            pass

    pipeline = quiet()
    pipeline.permanence("b", Marked, name="b", depends_on=["z"]).permanence("a", Marked, name="a")
    pipeline.permanence("z", Marked, name="z").permanence("c", Marked, name="c")
    ran(pipeline, tmp_path)
    assert made == ["a", "z", "b", "c"]


def test_needs_orders_processes(tmp_path):
    order = []

    @process
    def step(name: str):
        order.append(name)

    pipeline = quiet().process("x", step, name="x", needs=["y"]).process("y", step, name="y")
    ran(pipeline, tmp_path)
    assert order == ["y", "x"]
    (message,) = problems(quiet().process("x", step, name="x", needs=["w"]))
    assert message == "'x' names 'w' in needs, which is not declared"


def test_a_cycle_prints_its_path():
    pipeline = quiet().permanence("a", Data, depends_on=["b"])
    pipeline.permanence("b", Data, depends_on=["c"]).permanence("c", Data, depends_on=["a"]).permanence("d", Data)
    (problem,) = [p for p in pipeline.check() if p.severity == "error"]
    names = re.findall(r"(\w+) \(", problem.message)
    assert names[0] == names[-1]
    assert sorted(names[:-1]) == ["a", "b", "c"]
    assert {("a", "b"), ("b", "c"), ("c", "a")} == set(itertools.pairwise(names))
    assert problem.message.count("test_builder.py:") == 4, "each name with its line"


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, "12", 12),
        (float, 3, 3.0),
        (str, 5, "5"),
        (bool, "yes", True),
        (Path, "a/b", Path("a/b")),
        (Literal["adam", "sgd"], "sgd", "sgd"),
        (list[int], ["1", 2], [1, 2]),
        (tuple[int, int], [3, 4], (3, 4)),
        (dict[str, float], {"x": 1}, {"x": 1.0}),
        (int | None, None, None),
        (Annotated[int, Gt(0)], 3, 3),
        (Any, object, object),
    ],
    ids=str,
)
def test_conversion(annotation, value, expected, tmp_path):
    @process
    def take(x):
        SEEN["x"] = x

    take.__annotations__["x"] = annotation
    assert ran(quiet().process("take", take, x=value), tmp_path)["x"] == expected


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "many", "take.x should be a valid integer, not 'many'"),
        (int, 2.5, "take.x should be a valid integer, not 2.5"),
        (Literal["adam", "sgd"], "adm", "take.x should be 'adam' or 'sgd', not 'adm'"),
        (list[int], ["1", "b"], "take.x.1 should be a valid integer, not 'b'"),
        (Annotated[int, Gt(0)], 0, "take.x should be greater than 0, not 0"),
        (int, {"a": 1}, "take.x should be a valid integer, not a table"),
    ],
    ids=str,
)
def test_misfits_say_where_and_what(annotation, value, message):
    @process
    def take(x):
        pass

    take.__annotations__["x"] = annotation
    assert problems(quiet().process("take", take, x=value)) == [message]


def test_every_run_gets_fresh_values(tmp_path):
    @process
    def spoil(items: list[int], table):
        items.append(0)
        table["new"] = 1
        SEEN.update(items=items, table=table)

    pipeline = quiet().process("spoil", spoil, items=[1], table={"old": 0})
    first, second = ran(pipeline, tmp_path), ran(pipeline, tmp_path)
    assert first == second == {"items": [1, 0], "table": {"old": 0, "new": 1}}


def test_objects_pass_as_they_are(tmp_path):
    class Special(list):
        pass

    thing = Special()

    @process
    def take(thing):
        SEEN["thing"] = thing

    assert ran(quiet().process("take", take, thing=thing), tmp_path)["thing"] is thing


def test_unknown_and_missing_parameters():
    @process
    def take(width: int):
        pass

    found = quiet().process("take", take, widht=3).check()
    assert [(p.message, p.hint) for p in found] == [
        ("take needs the parameter 'width'", "add width = ... (int)"),
        ("take has no parameter 'widht'", "did you mean 'width'?"),
    ]


def test_kwargs_take_what_is_left(tmp_path):
    @process
    def take(a, /, b: int, *, c: int = 3, **rest):
        SEEN.update(a=a, b=b, c=c, rest=rest)

    seen = ran(quiet().process("take", take, a=1, b="2", d=4, params={"e": 5}), tmp_path)
    assert seen == {"a": 1, "b": 2, "c": 3, "rest": {"d": 4, "e": 5}}


def test_twice_given():
    @process
    def take(a):
        pass

    assert problems(quiet().process("take", take, a=1, params={"a": 2})) == [
        "take.a is given twice: in params and beside it"
    ]


def test_all_loggers_as_one(tmp_path):
    @process
    def log(logger: BaseLoggerManager, own: BasicLogger):
        SEEN.update(logger=logger, own=own)

    pipeline = quiet(logger=True).permanence("elsewhere", BasicLogger, log_dir=str(tmp_path / "there"))
    seen = ran(pipeline.process("log", log, own={"ref": "elsewhere"}), tmp_path / "runs")
    assert isinstance(seen["logger"], LoggerGroup)
    directories = [logger.log_dir for logger in seen["logger"].loggers]
    assert len(directories) == 2, "the one that was declared elsewhere, and the run's own record"
    assert directories[0].parent == (tmp_path / "runs").resolve()
    assert seen["own"].log_dir == tmp_path / "there"


def test_a_declared_basic_logger_is_the_record(tmp_path):
    @process
    def log(logger: BaseLoggerManager, mine: BasicLogger):
        SEEN.update(logger=logger, mine=mine)

    seen = ran(quiet(logger=True).permanence("mine", BasicLogger).process("log", log), tmp_path)
    assert seen["logger"].loggers == (seen["mine"],)
    twice = quiet(logger=True).permanence("mine", BasicLogger).permanence("more", BasicLogger)
    assert problems(twice) == ["a run has one record in its run directory; 'mine' is one already"]


def test_null_objects_stand_in(tmp_path):
    @process
    def look_around(logger: BaseLoggerManager, basic: BasicLogger, progress: ProgressManager):
        SEEN.update(logger=logger, basic=basic, progress=progress)

    pipeline = quiet().permanence("mine", BasicLogger).permanence("bars", ProgressManager)
    seen = ran(pipeline.process("look", look_around), tmp_path)
    assert isinstance(seen["basic"], NullLogger)
    assert isinstance(seen["progress"], NullProgressManager)
    assert not list(tmp_path.glob("*/metrics.jsonl"))


def test_the_names_logger_and_progress_manager_always_answer(tmp_path):
    class Ask(PipelineProcess):
        def execute(self):
            SEEN["logger"] = self.controller.get_permanence("logger")
            SEEN["progress"] = self.controller.get_permanence("progress_manager")
            SEEN["default"] = self.controller.get_permanence("nobody", None)

    seen = ran(quiet(logger=True).permanence("bars", NullProgressManager).process("ask", Ask), tmp_path)
    assert isinstance(seen["logger"], LoggerGroup)
    assert seen["default"] is None
    seen = ran(Pipeline(logger=False).permanence("bars", NullProgressManager).process("ask", Ask), tmp_path)
    assert isinstance(seen["progress"], NullProgressManager)
    assert problems(quiet(logger=True).permanence("logger", Data)) == [
        "the name 'logger' is reserved for a logger, and Data is not one"
    ]


def test_asking_for_nobody_at_run_time(tmp_path):
    class Ask(PipelineProcess):
        def execute(self):
            self.controller.get_permanence("dta")

    with pytest.raises(LookupError, match=r"no permanence is called 'dta'; did you mean 'data'\?"):
        quiet().permanence("data", Data).process("ask", Ask).run(tmp_path)


def test_asking_too_early(tmp_path):
    class Early(Permanence):
        def __init__(self, controller):
            controller.get_permanence("late")

        def cleanup(self):
            pass

    with pytest.raises(LookupError, match=r"does not exist yet.*depends_on = \['late'\]"):
        quiet().permanence("early", Early).permanence("late", Data).run(tmp_path)


def test_an_unused_permanence_is_a_warning():
    pipeline = quiet().permanence("data", Data).permanence("forgotten", Data).process("look", look)
    (problem,) = pipeline.check()
    assert (problem.severity, problem.message) == ("warning", "nothing in the pipeline uses the permanence 'forgotten'")


def test_what_is_no_type():
    class Unfinished(Permanence):
        pass

    pipeline = quiet().permanence("a", Unfinished).permanence("b", int).process("c", print)
    first, second, third = [p for p in pipeline.check() if p.severity == "error"]
    assert first.message.endswith("Unfinished, not a concrete Permanence subclass")
    assert first.hint == "it still lacks cleanup"
    assert second.message == "the type of permanence 'b' is int, not a concrete Permanence subclass"
    wanted = "a concrete PipelineProcess subclass or a function under @process"
    assert third.message == f"the type of process 'c' is print, not {wanted}"


def test_reserved_keys_of_the_other_kind():
    assert problems(quiet().permanence("data", Data, retries={"n": 1})) == [
        "'retries' is for processes; a parameter of that name goes into params"
    ]


def test_settings_are_checked():
    pipeline = Pipeline("x", seed=-1, grace_seconds="soon", sed=3, checkpoint={"keep_best": {"metrik": "a"}})
    assert problems(pipeline) == [
        "pipeline.seed should be greater than or equal to 0, not -1",
        "pipeline.grace_seconds should be a valid number, not 'soon'",
        "pipeline has no key 'sed'",
        "checkpoint.keep_best lacks the key 'metric'",
        "checkpoint.keep_best has no key 'metrik'",
    ]


def test_problems_point_at_the_call():
    pipeline = quiet()
    pipeline.process("look", look)  # this line
    (problem,) = pipeline.check()
    assert problem.place is not None
    assert problem.place.file == __file__
    assert problem.place.text.endswith("# this line")
    with pytest.raises(ConfigError, match="there is a process called 'look' already"):
        pipeline.process("look", look)


def test_the_same_pipeline_from_python_and_from_its_toml(tmp_path):
    (tmp_path / "shapes.py").write_text(
        "from ridgepole import Permanence, process\n"
        "class Net(Permanence):\n"
        "    def __init__(self, width: int, name: str = 'x'): pass\n"
        "    def cleanup(self): pass\n"
        "@process\ndef train(net: Net, lr: float): pass\n"
    )
    built = Pipeline("shapes", package="shapes", directory=tmp_path, seed=3, checkpoint={"every_steps": 5})
    built.permanence("net", "Net", width=8).process("train", "train", lr=1e-3, retries={"n": 1})
    file = tmp_path / "shapes.toml"
    file.write_text(built.to_toml())
    read = Pipeline.from_toml(file)
    assert read.plan().resolved() == built.plan().resolved()
    assert read.to_toml() == built.to_toml()
    extended = Pipeline.from_toml(file).permanence("spare", Device)
    assert [part.name for part in extended.plan().permanences][-1] == "spare"


def test_to_toml_names_what_has_no_form():
    with pytest.raises(ConfigError, match=r"permanences.data.size has no TOML form: it is a object"):
        quiet().permanence("data", Data, size=object()).to_toml()
    text = quiet().permanence("data", Data, size=3).to_toml()
    assert 'type = "Data"' in text
    assert "size = 3" in text
