"""
Refuse what Celery may not do here: wait, try again by itself, or run tasks in the caller.

Past the broker's visibility timeout a message with an ETA is delivered again and again, and what an
eager task does no crash can interrupt. Waiting and trying again are in the row (ADR 0006).
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOOKED_AT: Final = ("apps", "config")

_OPTIONS: Final = frozenset({"countdown", "eta", "autoretry_for", "retry_backoff"})
_EAGER: Final = "task_always_eager"


def main() -> int:
    """Print each place where a forbidden name stands; return 1 if there is one."""
    found = [
        f"{path.relative_to(ROOT)}:{place}"
        for folder in LOOKED_AT
        for path in sorted((ROOT / folder).rglob("*.py"))
        for place in find_forbidden(path.read_text(encoding="utf-8"))
    ]
    for each in found:
        sys.stderr.write(f"{each} is not for tasks of ours: the row waits, see ADR 0006\n")
    return 1 if found else 0


def find_forbidden(source: str) -> list[str]:
    """Return `line: name` of what is forbidden in a module's source, in the order of its lines."""
    found = sorted(
        (node.lineno, name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.expr | ast.stmt | ast.keyword)
        for name in _names(node)
        if name in _OPTIONS or name == "retry()" or name.lower().endswith(_EAGER)
    )
    return [f"{line}: {name}" for line, name in found]


def _names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node gives a value, or calls as a method."""
    match node:
        case ast.keyword(arg=str() as name):
            yield name
        case ast.Dict(keys=keys):
            for key in keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value
        case ast.Call(func=ast.Attribute(attr="retry")):
            yield "retry()"
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield name if name.lower().endswith(_EAGER) else ""
        case ast.Subscript(slice=ast.Constant(value=str() as name), ctx=ast.Store()):
            yield name
        case _:
            pass


if __name__ == "__main__":
    sys.exit(main())
