"""A notebook, run by a real kernel where one is installed."""

from __future__ import annotations

import sys
import textwrap

import pytest


@pytest.mark.process
def test_a_loop_in_a_notebook_has_one_output() -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    source = """
    import time
    from ridgepole.progress import track
    bar = track(range(30), "train")
    for i in bar:
        time.sleep(0.05)
        bar.set(loss=0.5)
    print("printed")
    """
    cell = nbformat.v4.new_code_cell(f"import sys; sys.path[:0] = {sys.path!r}\n" + textwrap.dedent(source))
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    shown = [output for output in cell.outputs if output.output_type == "display_data"]
    assert len(shown) == 1, cell.outputs
    assert "(30/30)" in shown[0].data["text/plain"]
    assert shown[0].data["text/plain"].endswith("loss=0.5")
    assert [output.text for output in cell.outputs if output.output_type == "stream"] == ["printed\n"]
