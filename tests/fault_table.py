"""A pytest plugin: adds up what the tests that are marked `fault` have counted, and writes the table of the docs.

`make torture` loads it with `-p fault_table`. A row is written only where none of its tests failed: its zeros are what
the tests assert, its other numbers what was tried. Rows whose tests did not run stay as they are.
"""

import platform
import re
import time
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures: written by make torture -->", "<!-- end of figures -->"
HEAD = "| fault | trials | kills | lost | torn | hung | longest trial |\n|---|--:|--:|--:|--:|--:|--:|"
NOTHING = {"trials": 0, "kills": 0, "torn": 0, "worst": 0.0}


class Table:
    """What each row comes to."""

    def __init__(self):
        self.rows, self.failed, self.seconds = {}, set(), {}

    def pytest_runtest_logreport(self, report):
        said = dict(report.user_properties)
        row = said.get("fault")
        if row is None:
            return
        if report.failed:
            self.failed.add(row)
        if report.when == "call" and not report.skipped:
            self.seconds[report.nodeid] = report.duration
        if report.when == "teardown" and report.nodeid in self.seconds:
            self.add(row, said.get("trials", NOTHING | {"trials": 1}), self.seconds[report.nodeid])

    def add(self, row, counted, seconds):
        total = self.rows.setdefault(row, dict(NOTHING))
        for key in ("trials", "kills", "torn"):
            total[key] += counted[key]
        total["worst"] = max(total["worst"], counted["worst"] or seconds)

    def lines(self):
        """The row of each fault by its name."""
        return {
            name: f"| {name} | {row['trials']} | {row['kills'] or ''} | 0 | {row['torn']} | 0 | {row['worst']:.1f} s |"
            for name, row in self.rows.items()
            if name not in self.failed
        }

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section("fault matrix")
        for row in sorted(self.failed):
            terminalreporter.write_line(f"not written, a test failed: {row}", red=True)
        text = PAGE.read_text()
        before = text.partition(BEGIN)[2].partition(END)[0]
        rows = {line.split(" | ")[0][2:]: line for line in before.splitlines() if line.startswith("| ")}
        rows = {name: line for name, line in rows.items() if name != "fault"} | self.lines()
        body = "\n".join([HEAD, *(rows[name] for name in sorted(rows))])
        when = time.strftime("%B %Y", time.gmtime())
        note = f"Measured in {when} with Python {platform.python_version()} on {platform.system()}, on two busy cores."
        table = f"{BEGIN}\n\n{body}\n\n{note}\n\n{END}"
        PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: table, text, flags=re.DOTALL))
        terminalreporter.write_line(body)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # with several processes, the one that starts them
        config.pluginmanager.register(Table(), "fault table")
