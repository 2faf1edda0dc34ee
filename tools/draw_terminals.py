"""Draw the pictures of terminals in docs/images: real commands, in a real terminal, as SVG.

Call it as `.venv/bin/python tools/draw_terminals.py`. It takes a minute.
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pexpect
import psutil
import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
SVG = re.sub(r"@font-face \{.*?\}\s", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)  # a picture that loads nothing
WIDTH, HEIGHT = 92, 40
PROMPT = "$ "


class Terminal:
    """A shell in a terminal, and what the screen shows.

    Args:
        folder: The working directory.
    """

    def __init__(self, folder: Path) -> None:
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self.stream = pyte.ByteStream(self.screen)
        environ = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
        environ |= {"TERM": "xterm-256color", "PS1": PROMPT, "COLORTERM": "truecolor", "OMP_NUM_THREADS": "1"}
        environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        self.shell = pexpect.spawn(
            "bash", ["--norc", "--noprofile"], cwd=folder, env=environ, dimensions=(HEIGHT, WIDTH), timeout=180
        )
        self.read_until()

    def read_until(self, pattern: str | None = None) -> None:
        """Read until the screen matches, or until the prompt is back."""
        while True:
            self.stream.feed(self.shell.read_nonblocking(1 << 14, timeout=90))
            waiting = self.screen.display[self.screen.cursor.y].rstrip() == PROMPT.rstrip()
            if re.search(pattern, "\n".join(self.screen.display)) if pattern else waiting:
                return

    def call(self, line: str, until: str | None = None) -> None:
        """Type a command, and wait for the next prompt or for something that it prints."""
        self.shell.sendline(line)
        self.read_until(re.escape(line))
        self.read_until(until)

    def kill(self, script: str) -> None:
        """Kill a script that runs in this terminal as `kill -9` does, and wait for the prompt."""
        for process in psutil.Process(self.shell.pid).children(recursive=True):
            words = [Path(word).name for word in process.cmdline()]
            if script in words and "ridgepole" not in words:
                process.kill()
        self.read_until()

    def draw(self, name: str, title: str) -> None:
        """Write the screen as a picture, and end the shell."""
        lines = [self._line(row) for row in range(HEIGHT)]
        while lines and lines[-1].plain.strip() in ("", PROMPT.strip()):
            lines.pop()
        console = Console(record=True, width=WIDTH, file=Path(os.devnull).open("w"), color_system="truecolor")  # noqa: SIM115
        for line in lines:
            console.print(line, no_wrap=True, overflow="crop")
        svg = console.export_svg(title=title, theme=MONOKAI, code_format=SVG, unique_id=name)
        (IMAGES / f"{name}.svg").write_text(svg, encoding="utf-8")
        print(f"docs/images/{name}.svg")
        self.shell.close(force=True)

    def _line(self, row: int) -> Text:
        text = Text()
        for column in range(WIDTH):
            cell = self.screen.buffer[row][column]
            colour = "" if cell.fg == "default" else _colour(cell.fg)
            text.append(cell.data, f"{'bold ' if cell.bold else ''}{colour}".strip())
        text.rstrip()
        return text


def _colour(name: str) -> str:
    """Return Rich's name of a colour of pyte's."""
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    name = name.replace("brown", "yellow")
    return name.replace("bright", "bright_")


def titled(page: Path) -> dict[str, str]:
    """Return the files that a page of the docs shows, by their names."""
    found = re.findall(
        r"^```\w+ title=\"([^\"]+)\"\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return dict(found)


def main() -> None:
    """Draw all of them."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shutil.copytree(ROOT / "examples" / "digits", folder / "digits", ignore=shutil.ignore_patterns("runs"))
        bars = Terminal(folder / "digits")
        bars.call("ridgepole run digits.toml", until=r"(2[5-9]\d|[345]\d\d)/600")
        bars.draw("terminal-bars", "a run")

        (folder / "errors").mkdir()
        shutil.copytree(folder / "digits" / "digits", folder / "errors" / "digits")
        text = (folder / "digits" / "digits.toml").read_text(encoding="utf-8")
        text = text.replace("batch_size", "batchsize", 1).replace("epochs", "epoch", 1)
        (folder / "errors" / "digits.toml").write_text(text, encoding="utf-8")
        errors = Terminal(folder / "errors")
        errors.call("ridgepole check digits.toml")
        errors.draw("terminal-error", "mistakes in a file")

        for name, content in titled(ROOT / "docs" / "tutorial.md").items():
            (folder / name).write_text(content, encoding="utf-8")
        resume = Terminal(folder)
        resume.call("ridgepole run train.py -- --steps 2000", until=r"([4-9]\d\d|1\d{3})/2000")
        resume.kill("train.py")
        resume.call("ridgepole run train.py --resume -- --steps 2000")
        resume.draw("terminal-resume", "kill -9, and resume")


if __name__ == "__main__":
    main()
