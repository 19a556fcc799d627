"""Two organizations live through the same: no transaction is of both, and each row has a name."""

import pytest
from django.apps import apps

from apps.core.work import WorkRow
from tests.accounts.factories import Api, create_organization
from tests.core.test_tenancy_log import logged, owners_of, strays, tenants_in
from tests.journeys.test_told_as_it_stands import ALL, STORIES
from tests.webhooks.factories import create_endpoint, deliver, relay
from tests.webhooks.receiver import Receiver

pytestmark = pytest.mark.django_db(transaction=True)

# A worker's claim is of whoever has something due, and its rows are recorded by ids and lease.
WORK = {model._meta.db_table for model in apps.get_models() if issubclass(model, WorkRow)}


@pytest.mark.parametrize("about", STORIES)
def test_are_never_touched_together_nor_without_a_name(settings, about):
    settings.PAYOUT_COOLDOWN_HOURS = 0
    _, story, _ = STORIES[about]
    one, other = create_organization(), create_organization()
    with Receiver() as far, logged(one.id, other.id) as sent:
        for owner in (one, other):
            create_endpoint(owner, far.url)
        for _ in zip(story(Api(one, *ALL)), story(Api(other, *ALL)), strict=True):
            relay()
            deliver()

    assert owners_of(sent) == {frozenset(), frozenset({one.id}), frozenset({other.id})}
    assert {each.sql for each in sent if strays(each.sql) and tenants_in(each.sql) - WORK} == set()
