"""Rows are locked where they are read, and no more strongly than their keys allow (the map, 4)."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKS = re.compile(r"\bFOR (?:NO KEY )?UPDATE\b")
# What lives in queries takes its locks there. These claim or record work of whichever table it is.
ELSEWHERE = {
    "apps/accounts/sql/staff_role_pair_is_allowed.sql",
    "apps/core/claiming.py",
    "apps/core/outbox/_following.py",
    "apps/core/work/_leases.py",
    # Whole transfers in Postgres, their locks among the rest.
    "apps/ledger/sql/post_transfer.sql",
    "apps/ledger/sql/post_transfers.sql",
}
# Rows that are deleted under the lock, which is as strong as that.
DELETED = {"apps/webhooks/queries/_deliveries.py"}


def modules() -> dict[str, str]:
    found = [path for end in ("py", "sql") for path in ROOT.glob(f"apps/**/*.{end}")]
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for path in sorted(found)
        if "migrations" not in path.parts
    }


def calls(text: str) -> list[ast.Call]:
    """Return the calls of `select_for_update`."""
    if "select_for_update" not in text:
        return []
    return [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "select_for_update"
    ]


def test_rows_are_locked_in_queries_alone():
    locking = {path for path, text in modules().items() if calls(text) or LOCKS.search(text)}

    assert {
        path for path in locking if not re.search(r"/queries(\.py|/\w+\.py)$", path)
    } == ELSEWHERE


def test_rows_are_locked_so_that_others_may_refer_to_them():
    strong = {
        path
        for path, text in modules().items()
        if "FOR UPDATE" in text
        or any("no_key" not in {one.arg for one in call.keywords} for call in calls(text))
    }

    assert strong == DELETED
