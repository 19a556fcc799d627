from __future__ import annotations

import pytest

from apps.core import invariants
from apps.webhooks import registry
from tests.accounts.factories import create_organization
from tests.webhooks import things
from tests.webhooks.inbox import connect
from tests.webhooks.receiver import Receiver


@pytest.fixture
def organization(transactional_db):
    return create_organization()


@pytest.fixture
def far():
    """A receiver that says 200 until a test asks otherwise."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def connection(organization):
    """A connection of the organization to the sandbox's provider."""
    return connect(organization)


@pytest.fixture
def known_things(transactional_db, monkeypatch):
    """The tests' own app above the inbox: its table, and its handler of the provider's events."""
    monkeypatch.setattr(registry, "_handlers", {})
    things.register(things.Things())
    things.create_table()
    yield
    things.drop_table()


def broken_invariants():
    """The names of this app's invariants that return a row."""
    statements = invariants.collect(only_apps=frozenset({"webhooks"}))
    return [name for name, breach in invariants.check(statements) if breach is not None]
