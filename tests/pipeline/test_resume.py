"""What a resumed run takes over, and what it does again: processes, loaders, counters, scores."""

import json

import pytest
import torch

from ridgepole import Permanence, Pipeline, PipelineProcess, ResumableLoader, process, track
from ridgepole.checkpoint import CheckpointStore
from ridgepole.errors import RunDirError
from ridgepole.permanences import BaseLoggerManager
from ridgepole.rundir import list_runs, read_run


class DeathError(Exception):
    """In the place of whatever ends an attempt."""


class Story:
    """What happened since it was last cleared, and after which word the attempt dies."""

    def __init__(self):
        self.words, self.dies_at = [], None

    def note(self, word):
        self.words.append(word)
        if word == self.dies_at:
            self.dies_at = None
            raise DeathError(word)


def pipeline_of(story, *processes, permanences=(), **settings):
    made = Pipeline("resumed", progress=False, seed=3, **settings)
    for cls in permanences:
        made.permanence(cls.__name__.lower(), cls, story=story)
    for cls in processes:
        made.process(cls.__name__.lower(), cls, story=story)
    return made


def run_dying_at(word, pipeline, story, tmp_path):
    """Runs until the story comes to a word; gives back the story so far."""
    story.dies_at = word
    with pytest.raises(DeathError):
        pipeline.run(tmp_path)
    assert list_runs_of(tmp_path)[0].status == "failed"
    before, story.words = story.words, []
    return before


def list_runs_of(root):
    return list(list_runs(root))


EVERY = {"every_steps": 1}


class First(PipelineProcess):
    def __init__(self, story: Story):
        self.story = story

    def skip(self):
        self.story.note("first: skip?")
        return False

    def execute(self):
        self.story.note("first")


class Stateful(PipelineProcess):
    """Counts to five and can go on anywhere."""

    def __init__(self, story: Story):
        self.story, self.done = story, 0

    def skip(self):
        self.story.note("skip?")
        return False

    def execute(self):
        while self.done < 5:
            self.story.note(self.done)
            self.done += 1
            self.controller.tick()

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.story.note(f"load {state}")
        self.done = state["done"]


class Last(PipelineProcess):
    def __init__(self, story: Story):
        self.story = story

    def execute(self):
        self.story.note("last")


def test_done_processes_stay_done_and_the_running_one_gets_its_state_back(tmp_path):
    story = Story()
    pipeline = pipeline_of(story, First, Stateful, Last, checkpoint=EVERY)
    assert run_dying_at(3, pipeline, story, tmp_path) == ["first: skip?", "first", "skip?", 0, 1, 2, 3]
    result = pipeline.resume(root=tmp_path)
    assert story.words == ["load {'done': 3}", 3, 4, "last"], "no skip() of a process that had begun"
    assert [(item.name, item.status) for item in result.processes] == [
        ("first", "done"),
        ("stateful", "done"),
        ("last", "done"),
    ]
    assert len(list_runs_of(tmp_path)) == 1, "the same run"
    assert result.status == "finished"


def test_a_process_that_had_not_begun_is_asked_whether_it_skips(tmp_path):
    story = Story()
    pipeline = pipeline_of(story, First, Stateful)
    run_dying_at("skip?", pipeline, story, tmp_path)
    pipeline.resume(root=tmp_path)
    assert story.words == ["skip?", 0, 1, 2, 3, 4]


def test_again_and_again(tmp_path):
    story = Story()
    pipeline = pipeline_of(story, First, Stateful, Last, checkpoint=EVERY)
    run_dying_at(0, pipeline, story, tmp_path)
    for word in (1, 2, 4, "last"):
        story.dies_at = word
        with pytest.raises(DeathError):
            pipeline.resume(root=tmp_path)
    result = pipeline.resume(root=tmp_path)
    assert [item for item in story.words if isinstance(item, int)] == [0, 1, 1, 2, 2, 3, 4, 4]
    assert story.words[-2:] == ["last", "last"]
    assert read_run(result.path).fields["attempt"] == 6
    lines = [json.loads(line) for line in (result.path / "attempts.jsonl").read_text().splitlines()]
    assert [line["attempt"] for line in lines if line["first_seq"] is None] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(RunDirError, match="has finished: there is nothing to resume"):
        pipeline.resume(root=tmp_path)


# --- loaders


class Weights(Permanence):
    """Half-trained weights are seen here: each item is learnt exactly once."""

    def __init__(self, story: Story):
        self.story, self.learnt = story, []

    def state_dict(self):
        return {"learnt": list(self.learnt)}

    def load_state_dict(self, state):
        self.learnt = list(state["learnt"])

    def cleanup(self):
        self.story.note(("learnt", tuple(self.learnt)))


class Learner(PipelineProcess):
    def __init__(self, story: Story, weights: Weights):
        self.story, self.weights = story, weights

    def learn(self, batch):
        values = tuple(batch.tolist())
        self.story.note(values)
        self.weights.learnt.append([*values, torch.rand(()).item()])


def loader(**options):
    return ResumableLoader(list(range(10)), batch_size=3, epochs=2, **options)


class OneLoader(Learner):
    def execute(self):
        for batch in track(loader(), "train", tick=True):
            self.learn(batch)


class TwoLoaders(Learner):
    def execute(self):
        for batch in track(loader(), "one", tick=True):
            self.learn(batch)
        for batch in track(loader(seed=99), "two", tick=True):
            self.learn(batch)


class NestedLoaders(Learner):
    def execute(self):
        for _ in track(range(2), "outer", tick=True):
            for batch in track(loader(), "inner", tick=True):
                self.learn(batch)


class TicksBeforeItsLoop(Learner):
    def execute(self):
        self.weights.learnt.append(["begun", torch.rand(()).item()])
        self.controller.tick()
        for batch in track(loader(), "train", tick=True):
            self.learn(batch)


class PlainList(Learner):
    def execute(self):
        for number in track(range(6), "train", tick=True):
            self.learn(torch.tensor([number]))


def learnt(story):
    (found,) = [item for item in story.words if item[0] == "learnt"]
    return [list(row) for row in found[1]]


def batches(story):
    return [item for item in story.words if item[0] != "learnt"]


GOES_ON = {OneLoader: 8, TwoLoaders: 9, NestedLoaders: 0, TicksBeforeItsLoop: 0, PlainList: 0}
"""So many items can be gone on after; behind them only what was kept before is left. (The first of two loaders is as
good as one, and so is its end.)"""

KEPT = {TwoLoaders: 8}
"""Where a resume of the others begins: at the boundary, or at the newest place inside that it could go on from."""


@pytest.mark.parametrize("place", [1, 7, 12])
@pytest.mark.parametrize("cls", GOES_ON)
def test_it_ends_as_if_nothing_had_happened(cls, place, tmp_path):
    """Whatever a process loops over, no item is learnt twice or left out, and random numbers are the same."""
    whole, story = Story(), Story()
    pipeline_of(whole, cls, permanences=[Weights], checkpoint=EVERY).run(tmp_path / "whole")
    order = batches(whole)
    place = min(place, len(order) - 1)
    pipeline = pipeline_of(story, cls, permanences=[Weights], checkpoint=EVERY)
    run_dying_at(order[place], pipeline, story, tmp_path / "cut")
    pipeline.resume(root=tmp_path / "cut")
    assert learnt(story) == learnt(whole)
    if place < GOES_ON[cls]:
        assert batches(story) == order[place:], "on in the middle of the epoch"
    else:
        assert batches(story) == order[KEPT.get(cls, 0) :], "from what was kept, never at 0 on half-trained weights"


def test_workers_change_nothing(tmp_path):
    class Workers(Learner):
        def execute(self):
            for batch in track(loader(num_workers=1), "train", tick=True):
                self.learn(batch)

    whole, story = Story(), Story()
    pipeline_of(whole, Workers, permanences=[Weights], checkpoint=EVERY).run(tmp_path / "whole")
    order = batches(whole)
    pipeline = pipeline_of(story, Workers, permanences=[Weights], checkpoint=EVERY)
    run_dying_at(order[5], pipeline, story, tmp_path / "cut")
    pipeline.resume(root=tmp_path / "cut")
    assert (batches(story), learnt(story)) == (order[5:], learnt(whole))


class StatefulWithLoader(OneLoader):
    """The state is its own, the loader's place is kept for it."""

    note = "nothing"

    def execute(self):
        self.story.note(("note", self.note))
        self.note = "begun"
        super().execute()

    def state_dict(self):
        return {"note": self.note}

    def load_state_dict(self, state):
        self.note = state["note"]


def test_a_process_with_both(tmp_path):
    whole, story = Story(), Story()
    pipeline_of(whole, StatefulWithLoader, permanences=[Weights], checkpoint=EVERY).run(tmp_path / "whole")
    order = batches(whole)
    pipeline = pipeline_of(story, StatefulWithLoader, permanences=[Weights], checkpoint=EVERY)
    run_dying_at(order[4], pipeline, story, tmp_path / "cut")
    pipeline.resume(root=tmp_path / "cut")
    assert batches(story) == [("note", "begun"), *order[4:]]
    assert learnt(story) == learnt(whole)


def test_the_boundary_is_kept_whatever_keep_last_says(tmp_path):
    story = Story()
    pipeline = pipeline_of(story, First, PlainList, permanences=[Weights], checkpoint=EVERY | {"keep_last": 2})
    run_dying_at((5,), pipeline, story, tmp_path)
    (run,) = list_runs_of(tmp_path)
    kinds = [info.kind for info in CheckpointStore(run.path / "checkpoints").list()]
    assert kinds == ["boundary", "boundary", "step", "step"], "the newest two of each"
    pipeline.resume(root=tmp_path)
    assert batches(story) == [(number,) for number in range(6)]


def test_a_loader_that_is_another_one_now_is_refused(tmp_path):
    size = [3]

    class Changing(Learner):
        def execute(self):
            for batch in track(ResumableLoader(list(range(10)), size[0], 2), "train", tick=True):
                self.learn(batch)

    story = Story()
    pipeline = pipeline_of(story, Changing, permanences=[Weights], checkpoint=EVERY)
    whole = Story()
    pipeline_of(whole, Changing, permanences=[Weights], checkpoint=False).run(tmp_path / "whole")
    run_dying_at(batches(whole)[2], pipeline, story, tmp_path / "cut")
    size[0] = 5
    with pytest.raises(ValueError, match="batch_size was 3 and is 5"):
        pipeline.resume(root=tmp_path / "cut")
    size[0] = 3
    story.words = []
    pipeline.resume(root=tmp_path / "cut")
    assert learnt(story) == learnt(whole), "the refusal has spoilt nothing"


# --- counters and scores


class Walk(PipelineProcess):
    """Ticks with steps of its own and logs a metric that is best in the middle."""

    def __init__(self, story: Story, logger: BaseLoggerManager):
        self.story, self.logger, self.done = story, logger, 0

    def execute(self):
        values = [0.1, 0.7, 0.3, 0.6, 0.8, 0.2]
        while self.done < len(values):
            self.story.note((self.done, self.controller.step, self.logger.global_step))
            self.logger.log_metrics({"score": values[self.done]})
            self.done += 1
            self.controller.tick(self.done * 10)

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


def steps_of(root):
    (run,) = list_runs_of(root)
    return [(info.kind, info.step) for info in CheckpointStore(run.path / "checkpoints").list()]


def test_the_step_and_the_counting_of_every_steps_go_on(tmp_path):
    whole, story = Story(), Story()
    policy = {"every_steps": 2, "keep_last": 9, "after_process": False}
    pipeline_of(whole, Walk, checkpoint=policy).run(tmp_path / "whole")
    pipeline = pipeline_of(story, Walk, checkpoint=policy)
    run_dying_at((3, 30, 3), pipeline, story, tmp_path / "cut")
    pipeline.resume(root=tmp_path / "cut")
    assert story.words == whole.words[2:], "from the checkpoint at two ticks on"
    assert steps_of(tmp_path / "cut") == steps_of(tmp_path / "whole") == [("step", 20), ("step", 40), ("step", 60)]


def test_scores_go_on(tmp_path):
    """A value that was no new best stays none: 0.6 after 0.7 makes no checkpoint, 0.8 does."""
    whole, story = Story(), Story()
    policy = {"keep_best": {"metric": "score", "mode": "max"}, "keep_last": 9, "after_process": False}
    pipeline_of(whole, Walk, checkpoint=policy).run(tmp_path / "whole")
    pipeline = pipeline_of(story, Walk, checkpoint=policy)
    run_dying_at((3, 30, 3), pipeline, story, tmp_path / "cut")
    pipeline.resume(root=tmp_path / "cut")
    assert steps_of(tmp_path / "cut") == steps_of(tmp_path / "whole") == [("best", 10), ("best", 20), ("best", 50)]
    (run,) = list_runs_of(tmp_path / "cut")
    best = CheckpointStore(run.path / "checkpoints").best()
    assert (best.score.value, best.step) == (0.8, 50)


def test_scores_of_another_metric_are_forgotten(tmp_path):
    """The policy may be changed: what was best by one metric says nothing of another."""
    story = Story()
    pipeline = pipeline_of(
        story, Walk, checkpoint={"keep_best": {"metric": "score", "mode": "max"}, "after_process": False}
    )
    run_dying_at((3, 30, 3), pipeline, story, tmp_path)
    changed = pipeline_of(
        story,
        Walk,
        checkpoint={"keep_best": {"metric": "score", "mode": "min"}, "keep_last": 9, "after_process": False},
    )
    changed.resume(root=tmp_path)
    kinds = [kind for kind, _ in steps_of(tmp_path)]
    assert kinds.count("best") >= 3, f"the first value by the new rule is its best so far: {steps_of(tmp_path)}"


# --- no checkpoint


def test_without_any_checkpoint_it_starts_from_the_beginning(tmp_path):
    from ridgepole import read_metrics

    story = Story()
    pipeline = pipeline_of(story, First, Walk, checkpoint=False)
    run_dying_at((3, 30, 3), pipeline, story, tmp_path)
    (run,) = list_runs_of(tmp_path)
    assert not (run.path / "checkpoints").exists()
    assert read_metrics(run.path)["value"].to_list() == [0.1, 0.7, 0.3]
    result = pipeline.resume(root=tmp_path)
    assert story.words[:3] == ["first: skip?", "first", (0, 0, 0)]
    frame = read_metrics(run.path)
    assert frame["value"].to_list() == [0.1, 0.7, 0.3, 0.6, 0.8, 0.2]
    assert frame["step"].to_list() == [0, 1, 2, 3, 4, 5]
    assert result.metrics["score"]["count"] == 6
    raw = read_metrics(run.path, raw=True)
    assert raw.height == 9, "nothing is deleted"
    assert raw["seq"].n_unique() == 9, "no number twice"


def test_only_a_checkpoint_on_error_is_no_place_to_go_on(tmp_path):
    story = Story()
    policy = {"after_process": False, "on_error": True}
    pipeline = pipeline_of(story, Stateful, checkpoint=policy)
    run_dying_at(3, pipeline, story, tmp_path)
    (run,) = list_runs_of(tmp_path)
    assert [info.kind for info in CheckpointStore(run.path / "checkpoints").list()] == ["error"]
    pipeline.resume(root=tmp_path)
    assert story.words == ["skip?", 0, 1, 2, 3, 4]


def test_a_generator_goes_back_to_the_boundary(tmp_path):
    story = Story()

    @process
    def generator(story: Story):
        for number in range(4):
            story.note(number)
            yield

    pipeline = Pipeline(progress=False, seed=1, checkpoint=EVERY).process("work", generator, story=story)
    run_dying_at(2, pipeline, story, tmp_path)
    pipeline.resume(root=tmp_path)
    assert story.words == [0, 1, 2, 3]


def test_a_retry_goes_on_like_a_resume(tmp_path):
    """A process that can go on in its middle does so in the same attempt, too."""
    story = Story()
    pipeline = Pipeline(progress=False, seed=1, checkpoint=EVERY).process(
        "stateful", Stateful, story=story, retries={"n": 1, "backoff": 0.0, "on": ["DeathError"]}
    )
    story.dies_at = 4
    result = pipeline.run(tmp_path)
    assert [item for item in story.words if isinstance(item, int)] == [0, 1, 2, 3, 4, 4]
    assert result.status == "finished"


def test_a_state_that_nobody_takes_any_more_is_told(tmp_path):
    class Spare(Permanence):
        def state_dict(self):
            return {"kept": 1}

        def load_state_dict(self, state):
            pass

        def cleanup(self):
            pass

    @process
    def train():
        if not (tmp_path / "again").exists():
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        Pipeline("told", progress=False, seed=1).permanence("spare", Spare).process("train", train).run(tmp_path)
    (tmp_path / "again").touch()
    done = Pipeline("told", progress=False, seed=1).process("train", train)
    result = done.resume(root=tmp_path, allow_change=["permanences.spare"])
    assert "the state of the permanence 'spare' is dropped" in (result.path / "run.log").read_text()
