"""Values from the environment of a job: a requeued job has others, and resumes all the same."""

import signal

import pytest
from steps_project import STEPS, TOML, content, read_run, refused, values


def killed(here, reference, **environment):
    """Start a run whose rate comes from the environment, and which kills itself."""
    here.write(steps__toml=TOML.replace("rate = 0.5", f'rate = "{reference}"'), steps__py=STEPS)
    done = here.call("run", "steps.toml", KILL_AT="5", **environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return here.run


@pytest.mark.parametrize(
    ("verb", "reference", "environment"),
    [
        (("resume",), "${env:RATE}", {"RATE": "0.5"}),
        (("run", "steps.toml", "--resume"), "${env:RATE:-0.5}", {}),
    ],
)
def test_a_value_from_the_environment_may_differ_and_is_noted(verb, reference, environment, here):
    run = killed(here, reference, **environment)
    done = here.call(*verb, RATE="0.25")
    assert done.returncode == 0, done.stderr
    line = "processes.train.params.rate comes from the environment and has changed: 0.5 -> 0.25"
    assert f"{line} (${{env!:NAME}} in the file forbids it)" in done.stderr
    assert read_run(run).status == "finished"
    assert values(run)[-1] == 4 * 0.5 + 4 * 0.25


def test_a_value_that_must_stay_the_same_is_compared(here):
    run = killed(here, "${env!:RATE}", RATE="0.5")
    before = content(run)
    assert refused(here.call("resume", RATE="0.25"), run, before, "processes.train.params.rate: 0.5 -> 0.25")
    done = here.call("resume", RATE="0.5")
    assert done.returncode == 0, done.stderr
    assert "comes from the environment" not in done.stderr


def test_a_value_beside_one_from_the_environment_is_compared(here):
    run = killed(here, "${env:RATE}", RATE="0.5")
    here.write(steps__toml=(here.path / "steps.toml").read_text().replace("steps = 8", "steps = 9"))
    done = here.call("resume", RATE="0.25")
    assert refused(done, run, content(run), "processes.train.params.steps: 8 -> 9")
    assert "rate" not in done.stderr
