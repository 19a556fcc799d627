"""Every documented act is told what it does by its body alone: nothing else of it is read over."""

from collections.abc import Iterator
from typing import Any

import pytest

from apps.core.ids import encode_id, new_id
from tests.config.test_ids_in_urls import KINDS, api, body_of, send
from tests.ledger import documents
from tests.ledger.rows import fingerprints

__all__ = ["api"]

pytestmark = pytest.mark.django_db(transaction=True)


def body_or_none(method: str, path: str) -> dict[str, Any] | None:
    """Return the body of the document's example, of an operation that takes JSON."""
    try:
        return body_of(method, path)
    except KeyError:
        return None


def acts() -> Iterator[tuple[str, str]]:
    """Yield method and path of each operation that changes something."""
    for path, methods in documents.load()["paths"].items():
        yield from ((method, path) for method in methods if method != "get")


def somewhere(path: str) -> str:
    """Return the path, of ids that nobody has."""
    for name, (prefix, _) in KINDS.items():
        path = path.replace(f"{{{name}}}", encode_id(prefix, new_id()))
    return path.replace("{month}", "2026-06")


def rows() -> dict[str, object]:
    """Return what tells all rows, but for when a key was used last."""
    return {name: told for name, told in fingerprints().items() if name != "accounts_apikey"}


@pytest.mark.parametrize(("method", "path"), list(acts()))
def test_a_query_is_refused_and_nothing_is_done(api, method, path):
    """One that asks for a dry run there would else be real."""
    body, before = body_or_none(method, path), rows()

    for query in ("dry_run=true", "x"):
        assert send(api, method, f"{somewhere(path)}?{query}", body) == (400, "invalid_request")

    assert rows() == before


@pytest.mark.parametrize("path", [path for method, path in acts() if method == "delete"])
def test_what_calls_something_off_has_no_body(api, path):
    assert send(api, "delete", somewhere(path), {"dry_run": True}) == (400, "invalid_request")
    assert send(api, "delete", somewhere(path), None)[0] == 404
