"""The words that docstrings begin with: a verb, or the name of a thing, and never a question's."""

import ast
import re
from pathlib import Path

import ridgepole

ROOT = Path(ridgepole.__file__).parent
QUESTION = re.compile(r"(What|Whether|How|Where|Which|Who|Whose|Why)\b")


def texts(tree):
    """Every string that stands as a statement: docstrings, and those below attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value.lstrip()


def test_no_docstring_begins_as_a_question():
    found = []
    count = 0
    for path in sorted(ROOT.rglob("*.py")):
        for line, text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            count += 1
            if QUESTION.match(text):
                found.append(f"{path.relative_to(ROOT)}:{line}: {text[:60]}")
    assert count > 2000
    assert found == []
