"""The example of several processes: two ranks with the variables that torchrun sets, forked."""

from pathlib import Path

from ridgepole import read_metrics
from ridgepole.rundir import list_runs

EXAMPLE = Path(__file__).parents[2] / "examples" / "ddp" / "blobs.toml"
EPOCHS, STEPS_PER_EPOCH = 3, 20


def test_two_ranks_are_one_run(tmp_path, torch_server):
    from torch.distributed import TCPStore

    store = TCPStore(
        "localhost", 0, is_master=True, wait_for_workers=False
    )  # as torchrun's own, so that its port is ours
    common = {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": "2",
    }
    words = ("run", EXAMPLE, "--runs-dir", tmp_path / "runs", "-s", f"train.epochs={EPOCHS}")
    ranks = [torch_server.start(*words, cwd=tmp_path, RANK=str(rank), **common) for rank in range(2)]
    codes = [rank.wait(110) for rank in ranks]
    assert codes == [0, 0], [rank.stdout + rank.stderr for rank in ranks]

    (run,) = list_runs(tmp_path / "runs")
    assert run.status == "finished"
    metrics = read_metrics(run.path)
    losses = metrics.filter(name="loss")["value"].to_list()
    assert len(losses) == EPOCHS * STEPS_PER_EPOCH, "both ranks share every batch, and one of them logs"
    assert losses[-1] < losses[0] / 2
    assert metrics.filter(name="accuracy")["value"].to_list()[-1] > 0.9
