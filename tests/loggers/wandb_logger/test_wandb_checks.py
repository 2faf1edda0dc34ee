"""What is checked before anything is started: arguments, mode, client, key."""

import sys

import pytest

from ridgepole.errors import MissingExtraError, RunDirError, TrackerError
from ridgepole.loggers.wandb import WandBLogger as Direct
from ridgepole.permanences import WandBLogger


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"mode": "onlin"}, ValueError, "mode must be one of online, offline, disabled, not 'onlin'"),
        ({"count": 0}, ValueError, "count must be at least 1"),
        ({"tags": "baseline"}, TypeError, "tags must be a list"),
        ({"tags": ["x" * 65]}, ValueError, "1 to 64 characters, not 65"),
        ({"log_level": "LOUD"}, ValueError, "log_level must be one of"),
        ({"log_file": "../run.log"}, ValueError, "plain name of a file"),
    ],
)
def test_arguments(given, error, said):
    with pytest.raises(error, match=said):
        WandBLogger(**given)


def test_a_wrong_mode_of_the_environment(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offlin")
    with pytest.raises(ValueError, match="WANDB_MODE must be one of"):
        WandBLogger().validate()
    WandBLogger(mode="offline").validate()
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    WandBLogger().validate()


@pytest.mark.parametrize("call", ["validate", "initialize"])
def test_the_missing_extra_is_named(monkeypatch, call, tmp_path):
    (tmp_path / "work" / "wandb").mkdir()  # as the client leaves one behind: no package
    monkeypatch.setattr(sys, "path", [str(tmp_path / "work")])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if "editable" not in repr(finder)])
    with pytest.raises(MissingExtraError, match=r"WandBLogger needs wandb.*pip install 'ridgepole\[wandb\]'"):
        getattr(WandBLogger(mode="offline"), call)()


@pytest.mark.parametrize("call", ["validate", "initialize"])
def test_without_a_key(call, tmp_path, children):
    with pytest.raises(TrackerError, match=r"no W&B API key for https://api.wandb.ai: run `wandb login`.*offline"):
        getattr(WandBLogger(), call)()
    assert children() == []
    assert list((tmp_path / "work").iterdir()) == []
    WandBLogger(mode="offline").validate()


def test_where_a_key_is_found(monkeypatch, tmp_path):
    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text("machine other.example login user password secret\n")
    netrc.chmod(0o600)
    with pytest.raises(TrackerError):
        WandBLogger().validate()
    monkeypatch.setenv("WANDB_BASE_URL", "https://other.example")
    WandBLogger().validate()
    monkeypatch.delenv("WANDB_BASE_URL")
    settings = tmp_path / "home" / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nbase_url = https://other.example\n")
    WandBLogger().validate()
    settings.unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    WandBLogger().validate()


def test_a_directory_that_is_a_file(tmp_path, monkeypatch, children):
    (tmp_path / "work" / "taken").write_text("")
    monkeypatch.setenv("WANDB_DIR", "taken")
    logger = WandBLogger(mode="offline")
    with pytest.raises(RunDirError, match=r"can't log to .*taken"):
        logger.initialize()
    logger.cleanup()
    assert children() == []


def test_it_is_one_class_under_both_names():
    assert Direct is WandBLogger
    assert WandBLogger(mode="offline").supports_sweep()
    state = WandBLogger(mode="offline").get_state()
    assert (state["type"], state["id"], state["sent"]) == ("WandBLogger", None, 0)


def test_a_client_that_cannot_be_started_is_switched_off(monkeypatch, capfd):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with WandBLogger(mode="offline") as logger:
        logger.log_metrics({"a": 1})
        assert logger.global_step == 1
    assert capfd.readouterr().err.count("switched off for this run") == 1
    with pytest.raises(TrackerError, match="the client can't be started"), WandBLogger(mode="offline", strict=True):
        pass
