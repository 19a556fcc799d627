"""One house for all tests of a module: they look at it, and what they change is rolled back."""

import pytest
from django.test import Client, RequestFactory
from django.urls import resolve

from apps.backoffice import operations
from apps.core import clock
from tests.backoffice import world
from tests.support import empty_tables


@pytest.fixture(scope="module")
def house(django_db_setup, django_db_blocker):
    """Return the house in full use; its rows go when the module is done."""
    with django_db_blocker.unblock():
        made = world.build_lively(days=6)
        world.set_aside_a_period()
        operations.roll_up(organization_id=made.id, now=clock.now())
        operations.check_invariants(now=clock.now())
    yield made
    with django_db_blocker.unblock():
        empty_tables()


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
