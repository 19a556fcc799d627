from __future__ import annotations

import pytest
from django.db import connection

from apps.webhooks.invariants import INVARIANTS
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
    broken = []
    with connection.cursor() as cursor:
        for name, sql in INVARIANTS.items():
            cursor.execute(sql)
            if cursor.fetchone() is not None:
                broken.append(name)
    return broken
