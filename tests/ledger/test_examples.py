"""The examples of the OpenAPI document read right on any day, and sizes say their unit."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from apps.ledger.rules import QUOTE_SECONDS_MAX
from tests.ledger import documents

QUOTE_AGE_MAX = timedelta(seconds=QUOTE_SECONDS_MAX)
SIZES = "Keys of 1 to 40, values of up to 500 bytes"


def objects(within: Any = None) -> Iterator[dict[str, Any]]:
    """Yield every object of the document, its schemas and its examples."""
    within = documents.load() if within is None else within
    if isinstance(within, dict):
        yield within
    for value in within.values() if isinstance(within, dict) else within:
        if isinstance(value, dict | list):
            yield from objects(value)


def texts(*names: str) -> list[list[str]]:
    """Return the texts under these names of each object that has a text under all of them."""
    found = [[one.get(name) for name in names] for one in objects()]
    return [texts for texts in found if all(isinstance(text, str) for text in texts)]


class TestExamples:
    def test_of_holds_end_later_than_they_are_read(self):
        found = texts("debit_account", "expires_at")

        assert len(found) >= 8
        # A hold that is asked for in the past is refused.
        assert {datetime.fromisoformat(end).year for _, end in found} == {2099}

    def test_of_exchanges_go_by_a_quote_that_was_of_the_moment(self):
        found = texts("quoted_at", "effective_at")
        ages = [
            datetime.fromisoformat(done) - datetime.fromisoformat(quoted) for quoted, done in found
        ]

        assert len(found) >= 4
        assert [age for age in ages if not timedelta(0) < age <= QUOTE_AGE_MAX] == []


class TestMetadata:
    def test_says_that_its_sizes_are_in_bytes(self):
        told = [one["metadata"] for one in objects() if _is_schema(one.get("metadata"))]

        assert len(told) > 20
        assert [one for one in told if SIZES not in one["description"]] == []
        # What a field says of its own stands before it.
        assert any(one["description"].startswith("In place of all it has") for one in told)


def _is_schema(found: object) -> bool:
    return isinstance(found, dict) and "additionalProperties" in found
