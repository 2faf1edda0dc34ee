"""Writes the stores in `mlflow/` with MLflow itself, which does not fit into the development environment.

Usage, in an environment of its own: pip install mlflow-skinny sqlalchemy alembic; python make_mlflow.py
"""

import os
import re
import shutil
import sqlite3
import tempfile
from pathlib import Path

import mlflow

HERE = Path(__file__).parent / "mlflow"
PNG = (
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def write_runs() -> None:
    mlflow.set_experiment("digits")
    with mlflow.start_run(run_name="first", tags={"team": "vision"}, description="a note"):
        mlflow.log_params({"lr": 0.1, "net": "a"})
        for step in range(5):
            mlflow.log_metrics({"loss": 1 / (step + 1), "val/acc": step / 5}, step=step)
        mlflow.log_metric("odd", float("nan"), step=1)
        mlflow.log_metric("odd", float("inf"), step=2)
        mlflow.log_artifact("pic.png")
        mlflow.log_text("hello", "notes/a.txt")
    try:
        with mlflow.start_run(run_name="bad"):
            mlflow.log_metric("loss", 3.0)
            raise ValueError("on purpose")
    except ValueError:
        pass
    with mlflow.start_run(run_name="gone") as gone:
        mlflow.log_metric("loss", 1.0)
    mlflow.delete_run(gone.info.run_id)


def as_text(database: Path, folder: str) -> str:
    """The tables that an import reads, as SQL, without what names this machine."""
    lines = []
    with sqlite3.connect(database) as found:
        for table in ("experiments", "runs", "metrics", "params", "tags"):
            lines.append(found.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0] + ";")
            for row in found.execute(f"SELECT * FROM {table}"):
                cells = ["NULL" if cell is None else repr(cell) if not isinstance(cell, str)
                         else "'" + cell.replace("'", "''") + "'" for cell in row]  # fmt: skip
                lines.append(f'INSERT INTO "{table}" VALUES({",".join(cells)});')
    return "\n".join(lines).replace(folder, "/elsewhere")


with tempfile.TemporaryDirectory() as made:
    os.chdir(made)
    os.environ |= {"MLFLOW_ALLOW_FILE_STORE": "true", "LOGNAME": "somebody"}
    Path("pic.png").write_bytes(bytes.fromhex(PNG))
    for uri in (f"sqlite:///{made}/mlflow.db", f"file://{made}/files/mlruns"):
        mlflow.set_tracking_uri(uri)
        write_runs()
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    (HERE / "mlflow.sql").write_text(re.sub(r"[ \t]+\n", "\n", as_text(Path("mlflow.db"), made)) + "\n")
    shutil.copytree("files/mlruns", HERE / "mlruns")
    for path in HERE.rglob("meta.yaml"):
        path.write_text(path.read_text().replace(f"{made}/files", "/elsewhere"))
