"""What every test of payouts starts from and ends with."""

import pytest

from tests.payouts import factories


@pytest.fixture
def home(settings):
    settings.PAYOUT_COOLDOWN_HOURS = 0
    return factories.world()


@pytest.fixture
def customer(home):
    return factories.customer_with(home, 5_000_00)


@pytest.fixture
def target(home, customer):
    return factories.destination(home, customer)


@pytest.fixture(autouse=True)
def _invariants(request):
    yield
    if request.node.get_closest_marker("django_db"):
        factories.check_invariants()
