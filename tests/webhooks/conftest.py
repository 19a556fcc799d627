from __future__ import annotations

import pytest

from apps.core import invariants
from tests.accounts.factories import create_organization
from tests.webhooks.receiver import Receiver


@pytest.fixture
def organization(transactional_db):
    return create_organization()


@pytest.fixture
def far():
    """A receiver that says 200 until a test asks otherwise."""
    with Receiver() as receiver:
        yield receiver


def broken_invariants():
    """The names of this app's invariants that return a row."""
    statements = invariants.collect(only_apps=frozenset({"webhooks"}))
    return [name for name, breach in invariants.check(statements) if breach is not None]
