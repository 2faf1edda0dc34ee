"""The notebook, executed by a real kernel."""

from pathlib import Path

import pytest

from ridgepole.rundir import list_runs

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook" / "compare.ipynb"


@pytest.mark.process
def test_two_runs_are_compared(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook is kept without its outputs"
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=100, resources=resources).execute()

    runs = list(list_runs(tmp_path / "runs"))
    assert [run.status for run in runs] == ["finished"] * 2
    assert [run.json("config.resolved.json")["params"]["width"] for run in runs] == [64, 4]
    table, curves, page = [cell.outputs[0].data for cell in notebook.cells if cell.get("outputs")]
    assert table["text/plain"].index("width-64") < table["text/plain"].index("width-4 "), "the better run comes first"
    assert all(f"'width-{width}': [" in curves["text/plain"] for width in (4, 64))
    assert page["text/plain"] == "Runs('runs'): 2 runs"
    assert "<iframe" in page["text/html"] or "<table" in page["text/html"]
