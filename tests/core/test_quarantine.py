"""What is set aside is told in the log as an error, by the row's id: the runbook begins there."""

import pytest

from apps.core import transactions, work
from tests.core.test_work import add, claim

pytestmark = pytest.mark.django_db(transaction=True)


def lapse():
    assert claim() == []


def fail():
    [row] = claim()
    transactions.outermost(work.mark_retry)(row, error_code="away")


@pytest.mark.parametrize(
    ("state", "last", "told"),
    [
        ({"state": "leased", "attempts": 5, "lapses": 4}, lapse, (6, 5, "lapsed")),
        ({"attempts": 11}, fail, (12, 0, "away")),
    ],
    ids=["fifth lapse", "twelfth attempt"],
)
def test_is_told_once(caplog, state, last, told):
    [row] = add(**state)

    last()
    claim()

    # A line of ours is a record of which the message is what was said.
    said = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    [line] = [each for each in said if each["event"] == "work_quarantined"]
    assert (line["level"], line["table"], line["row_id"]) == (
        "error",
        "core_event_work",
        str(row.id),
    )
    assert (line["attempts"], line["lapses"], line["error_code"]) == told
