import pytest

from apps.accounts.api.authentication import forget_cached_keys


@pytest.fixture(autouse=True)
def _no_cached_keys():
    """Each test's keys are read from its own database."""
    forget_cached_keys()
