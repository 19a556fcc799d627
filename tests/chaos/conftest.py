from __future__ import annotations

import pytest

from apps.core import nudging
from dev import valkey
from tests.accounts.factories import create_organization
from tests.chaos.house import House, address_of_tests


@pytest.fixture
def house(transactional_db, tmp_path, monkeypatch):
    """Processes of this test's own on its database, and a broker that may be killed."""
    house = House(tmp_path, address_of_tests())
    house.start_broker()
    # The test itself commits as a web process would, and nudges this broker.
    monkeypatch.setattr(nudging, "current_app", house.celery())
    monkeypatch.setattr(nudging, "_nudger", nudging.Nudger())
    try:
        yield house
    finally:
        house.kill_all()
        valkey.stop(house.broker)


@pytest.fixture
def organization(house):
    return create_organization()


@pytest.fixture
def far(house):
    return house.far_side()
