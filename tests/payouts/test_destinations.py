from datetime import timedelta
from functools import partial

import pytest
from django.db import IntegrityError, connection

from apps.core.errors import InvalidInput
from apps.core.ids import encode_id
from apps.core.models import OutboxEvent
from apps.payouts import errors, operations, queries
from apps.payouts.models import Destination, DestinationVersion
from tests.payouts import factories
from tests.payouts.factories import IBANS, NOW, available, destination, request
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


def disable(home, target, key="d"):
    return operations.disable_destination(
        organization_id=home.id,
        destination_id=target.id,
        reason="lost",
        idempotency_key=key,
        actor=home.key,
        now=NOW,
    )


class TestCreate:
    def test_keeps_the_account_encrypted_and_its_tail(self, home, customer):
        made = destination(home, customer, "de75 5121 0800 1245 1261 99")

        version = queries.get_version_in_use(made)
        assert (made.state, version.iban_tail, version.country) == ("verified", "6199", "DE")
        assert queries.Clear(home.id).iban(version) == IBANS[0]
        assert queries.Clear(home.id).holder(version) == "Ada Lovelace"
        with connection.cursor() as cursor:
            cursor.execute("SELECT row_to_json(v)::text FROM payouts_destination_version v")
            [[stored]] = cursor.fetchall()
        assert IBANS[0] not in stored
        assert "Lovelace" not in stored

    def test_cools_down_by_the_setting(self, home, customer, settings):
        settings.PAYOUT_COOLDOWN_HOURS = 24

        version = queries.get_version_in_use(destination(home, customer))

        assert version.usable_from == NOW + timedelta(hours=24)

    def test_tells_of_it_without_the_account(self, home, customer):
        made = destination(home, customer)

        told = OutboxEvent.objects.filter(aggregate_id=encode_id("dst", made.id)).order_by("id")
        assert [event.type for event in told] == ["destination.created", "destination.verified"]
        assert told[0].data["iban_tail"] == "6199"
        assert IBANS[0] not in str(told[0].data)

    def test_a_replay_returns_the_same(self, home, customer):
        first = destination(home, customer, key="k")

        assert destination(home, customer, key="k").id == first.id

    def test_the_same_account_again_names_the_first(self, home, customer):
        first = destination(home, customer)

        with pytest.raises(errors.DestinationExists) as refused:
            destination(home, customer)

        assert refused.value.details["destination"] == encode_id("dst", first.id)
        assert Destination.objects.count() == 1

    def test_two_customers_may_share_an_account(self, home, customer):
        destination(home, customer)

        assert destination(home, factories.customer_with(home, 0)).state == "verified"

    def test_two_at_once_make_one(self, home, customer):
        outcomes = race(*(partial(destination, home, customer) for _ in range(4)))

        kinds = {type(one) for one in outcomes}
        assert kinds == {Destination, errors.DestinationExists}
        assert Destination.objects.count() == 1

    @pytest.mark.parametrize(
        ("iban", "more", "kind"),
        [
            ("DE00", {}, errors.InvalidIban),
            ("DE76512108001245126199", {}, errors.InvalidIban),
            ("BR1800360305000010009795493C1", {}, errors.UnsupportedCountry),
            (IBANS[0], {"currency": "SEK"}, errors.UnsupportedCurrency),
            (IBANS[0], {"bic": "COBADEFF"}, errors.BicMismatch),
            (IBANS[0], {"address": {"lines": ["x"]}}, errors.UnstructuredAddress),
            (IBANS[0], {"holder_name": "…"}, InvalidInput),
        ],
    )
    def test_what_cannot_be_paid_is_refused(self, home, customer, iban, more, kind):
        with pytest.raises(kind):
            destination(home, customer, iban, **more)

        assert Destination.objects.count() == 0

    def test_another_organizations_customer_is_not_found(self, home, customer):
        with pytest.raises(Exception, match="customer"):
            destination(factories.world(), customer)


class TestDisable:
    def test_cancels_what_waits_and_leaves_what_is_in_a_file(self, home, customer, target):
        in_file = request(home, target, 100_00)
        factories.freeze(in_file)
        waiting = request(home, target, 1_200_00)

        disabled = disable(home, target)

        in_file.refresh_from_db()
        waiting.refresh_from_db()
        assert (disabled.state, in_file.state, waiting.state) == ("disabled", "batched", "canceled")
        assert waiting.failure_code == "destination_changed"
        assert available(home, customer) == 4_900_00

    def test_again_changes_nothing(self, home, target):
        disable(home, target)

        assert disable(home, target).state == "disabled"
        assert disable(home, target, key="other").state == "disabled"

    def test_the_same_account_may_be_added_anew(self, home, customer, target):
        disable(home, target)

        assert destination(home, customer).id != target.id

    def test_against_a_request_nothing_slips_through(self, home, customer, target):
        outcomes = race(partial(disable, home, target), partial(request, home, target, 100_00))

        refused = isinstance(outcomes[1], errors.DestinationDisabled)
        assert (
            refused
            or queries.get_payout(organization_id=home.id, payout_id=outcomes[1].id).state
            == "canceled"
        )
        assert available(home, customer) == 5_000_00

    def test_against_a_freeze_it_is_in_the_file_or_canceled(self, home, customer, target):
        payout = request(home, target, 100_00)

        race(partial(disable, home, target), partial(factories.freeze, payout))

        payout.refresh_from_db()
        assert payout.state in {"batched", "canceled", "held"}


class TestGuards:
    def test_a_version_belongs_to_its_destinations_customer(self, home, customer, target):
        version = queries.get_version_in_use(target)
        other = factories.customer_with(home, 0)

        version.pk, version.number, version.customer_id = other.id, 2, other.id
        version.retired_at = NOW
        version._state.adding = True
        with pytest.raises(IntegrityError, match="destination_version_owns_its_destination"):
            version.save(force_insert=True)

        assert DestinationVersion.objects.count() == 1
