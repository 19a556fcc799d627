"""One house for the tests of all modules: they look at it, and what they change is rolled back."""

from copy import deepcopy
from typing import Any

import pytest
from django.test import Client, RequestFactory
from django.urls import resolve

from apps.backoffice import operations
from apps.core import clock
from tests.backoffice import world
from tests.backoffice.house import House
from tests.support import empty_tables

# The one that stands, if one does, and what lets the database be used between tests.
_standing: list[tuple[House, Any]] = []


@pytest.fixture(scope="module")
def house(django_db_setup, django_db_blocker):
    """Return the house in full use, built where none stands: that takes as long as many tests."""
    if not _standing:
        with django_db_blocker.unblock():
            made = world.build_lively(days=6)
            world.set_aside_a_period()
            operations.roll_up(organization_id=made.id, now=clock.now())
            operations.check_invariants(now=clock.now())
        _standing.append((made, django_db_blocker))
    # What a module does to the object is its own affair, as what it does to the rows is.
    [(made, _)] = _standing
    return deepcopy(made)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Once the fixtures of a test are gone, let the house go, unless the next test lives in it."""
    try:
        return (yield)
    finally:
        # After the last test the database itself is gone.
        if _standing and nextitem is not None and not _lives_in_it(nextitem, item.path):
            [(_, blocker)] = _standing
            _standing.clear()
            with blocker.unblock():
                empty_tables()


def _lives_in_it(test, module):
    marker = test.get_closest_marker("django_db")
    commits = marker is not None and marker.kwargs.get("transaction")
    return not commits and ("house" in test.fixturenames or test.path == module)


@pytest.fixture
def browse(house, db):
    """Return a client signed in as one of the house's people, by login."""

    def signed_in(login, **options):
        client = Client(**options)
        client.force_login(house.people[login])
        return client

    return signed_in


@pytest.fixture
def look(house, db):
    """Return what answers an address with the status alone: the page itself is not drawn."""
    requests = RequestFactory()

    def status(login, url, body=None):
        request = requests.get(url) if body is None else requests.post(url, body)
        # Read afresh: roles are kept for the length of a request.
        request.user = type(house.people[login]).objects.get(pk=house.people[login].pk)
        request._dont_enforce_csrf_checks = True
        view, args, keywords = resolve(url)
        return view(request, *args, **keywords).status_code

    return status
