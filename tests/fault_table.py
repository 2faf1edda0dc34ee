"""A pytest plugin: adds up what the tests that are marked `fault` have counted, and writes the table of the docs.

`make torture` loads it with `-p fault_table`. The table is written only where nothing failed: its zeros are what the
tests assert, and its other numbers what was tried.
"""

import platform
import re
import time
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures: written by make torture -->", "<!-- end of figures -->"
HEAD = "| fault | trials | kills | lost | torn | hung | longest trial |\n|---|--:|--:|--:|--:|--:|--:|"


class Table:
    """What each row comes to."""

    def __init__(self):
        self.rows = {}
        self.seconds = {}
        self.failed = 0

    def pytest_runtest_logreport(self, report):
        self.failed += report.failed
        said = dict(report.user_properties)
        if report.when == "call":
            self.seconds[report.nodeid] = report.duration
        if report.when != "teardown" or "fault" not in said or report.nodeid not in self.seconds:
            return
        counted = said.get("trials", {"trials": 1, "kills": 0, "torn": 0, "worst": 0.0})
        row = self.rows.setdefault(said["fault"], {"trials": 0, "kills": 0, "torn": 0, "worst": 0.0})
        for key in ("trials", "kills", "torn"):
            row[key] += counted[key]
        row["worst"] = max(row["worst"], counted["worst"] or self.seconds.get(report.nodeid, 0.0))

    def lines(self):
        for name, row in sorted(self.rows.items()):
            kills, torn = row["kills"] or "", row["torn"] or 0
            yield f"| {name} | {row['trials']} | {kills} | 0 | {torn} | 0 | {row['worst']:.1f} s |"

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section("fault matrix")
        terminalreporter.write_line("\n".join([HEAD, *self.lines()]))
        if self.failed:
            terminalreporter.write_line(f"{PAGE.name} was not written: {self.failed} failed", red=True)
            return
        when = time.strftime("%B %Y", time.gmtime())
        note = f"Measured in {when} with Python {platform.python_version()} on {platform.system()}, two cores."
        text = PAGE.read_text()
        table = "\n".join([BEGIN, "", HEAD, *self.lines(), "", note, "", END])
        PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: table, text, flags=re.DOTALL))


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # with several processes, the one that starts them
        config.pluginmanager.register(Table(), "fault table")
