"""Checks the first lines of docstrings: `python -m sticker_pipeline_tests.prose [FOLDER…]`, a part of `make check`.

A first line is one sentence of at most MOST_WORDS words. It begins with a noun or a verb.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MOST_WORDS = 12  # of prose: text between backticks is not counted
SUBJECT = re.compile(r"(What|Which|Whose|Whether|How|Who|Why|Where|When)\b")
END = re.compile(r"[.:!?][)\"'’”]?$")
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    faults = [fault for folder in sys.argv[1:] or ["sticker_pipeline"] for fault in faults_below(Path(folder))]
    print("\n".join(faults) or "First lines of docstrings: no fault")
    sys.exit(bool(faults))


def faults_below(folder: Path) -> Iterator[str]:
    """Yield place, rule and text for each docstring whose first line breaks a rule."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            docstring = ast.get_docstring(node) if isinstance(node, Documented) else None
            fault = fault_of(docstring.split("\n")[0]) if docstring else None
            if fault:
                yield f"{path}:{getattr(node, 'lineno', 1)}: {fault}"


def fault_of(line: str) -> str | None:
    """Return the rule that a docstring's first line breaks, and the line; else None."""
    words = len(re.sub(r"`[^`]*`", "", line).split())
    if SUBJECT.match(line):
        return f"begin with a noun or a verb: {line}"
    if words > MOST_WORDS:
        return f"{words} words, at most {MOST_WORDS}: {line}"
    if not END.search(line):
        return f"end the first sentence on the first line: {line}"
    return None


if __name__ == "__main__":
    main()
