"""What ends a task in time is let through wherever work goes on after a fault."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# Where it is not raised, or where its coming is recorded and nothing else is begun.
ENDS_OR_NEVER_MEETS_IT = {
    "apps/core/working.py": "records it as the fault of the row; the task's time is over by then",
    "apps/core/outbox/_relaying.py": "its own time is over by then: what is left is given back",
    "apps/core/nudging.py": "tells of work and does none",
    "apps/core/api/gathering.py": "answers many requests",
    "apps/core/api/views.py": "answers a request",
    "apps/ledger/management/commands/close_periods.py": "is no task, and has no time",
    "apps/ledger/operations/_grouping.py": "answers requests",
    "apps/webhooks/api/hooks.py": "answers a request",
    "apps/webhooks/tasks/__init__.py": "lanes are worked in threads, which Celery does not end",
}


def names(handler: ast.ExceptHandler) -> set[str]:
    """Return what a handler catches, by the last part of each name."""
    if handler.type is None:
        return {"BaseException"}
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {ast.unparse(one).rpartition(".")[2] for one in caught}


def goes_on(handler: ast.ExceptHandler) -> bool:
    return not isinstance(handler.body[-1], ast.Raise)


def boundaries() -> dict[str, list[ast.Try]]:
    """Return, by file, what catches everything and goes on."""
    found: dict[str, list[ast.Try]] = {}
    for path in sorted(ROOT.glob("apps/**/*.py")):
        text = path.read_text()
        # Each test process comes through here, and to parse every file takes it a second.
        if "Exception" not in text and "except:" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Try) and any(
                names(one) & {"Exception", "BaseException"} and goes_on(one)
                for one in node.handlers
            ):
                found.setdefault(str(path.relative_to(ROOT)), []).append(node)
    return found


def lets_through(node: ast.Try) -> bool:
    first = node.handlers[0]
    return not goes_on(first) and bool(names(first) & {"OutOfTime", "_NOBODYS_FAULT"})


FOUND = boundaries()


@pytest.mark.parametrize("path", sorted(FOUND.keys() - ENDS_OR_NEVER_MEETS_IT.keys()))
def test_the_limit_of_a_task_is_let_through(path):
    deaf = [node.lineno for node in FOUND[path] if not lets_through(node)]

    assert deaf == [], f"{path} goes on after the time is over"


def test_no_exception_is_out_of_date():
    assert ENDS_OR_NEVER_MEETS_IT.keys() <= FOUND.keys()
