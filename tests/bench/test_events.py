"""Parts of the benchmarks of events, on few rows: they measure, and pass over no fault."""

import pytest

from apps.core.models import EventWork, OutboxEvent
from apps.webhooks.models import WebhookAttempt, WebhookDelivery
from bench import _claims, _deliveries, _endless, _events, _lag, processes
from bench._deliveries import Endpoint, World
from bench._registry import Figure
from bench.webhooks import WORKERS
from tests.support import empty_broker, running, running_worker
from tests.webhooks import factories

# One in five is due, half of those one organization's, before what the others wait for.
ROWS = {"rows": 1000, "backlog": 500, "organizations": 10}


class TestFigure:
    def test_is_judged_by_its_value_where_a_reference_only_stands_beside_it(self):
        figure = Figure(name="a", value=600, unit="/s", how="", reference=2000, must=500)

        assert (figure.ratio, figure.verdict) == (None, "must")

    def test_is_below_where_it_misses_a_bound_that_no_reference_moves(self):
        figure = Figure(name="a", value=499, unit="/s", how="", reference=100, must=500)

        assert figure.verdict == "below"


class TestProcfile:
    def test_names_what_the_benchmarks_run(self):
        for name in ("web", *WORKERS):
            assert "KASSA_ROLE=" in processes.command(name)

    def test_refuses_a_process_that_it_does_not_name(self):
        with pytest.raises(RuntimeError, match="names no worke process"):
            processes.command("worke")


@pytest.mark.django_db(transaction=True)
class TestClaims:
    def test_claim_each_row_once_and_leave_the_others(self):
        measure = _claims.prepare({"claims": 5, "limit": 10} | ROWS)

        measured = measure()

        assert 0 < measured["p50"] <= measured["p99"] <= measured["slowest"]
        # Five to warm up and five that were measured, of 200 that were due.
        assert EventWork.objects.filter(state="done", lapses=0, attempts=2).count() == 100
        assert EventWork.objects.filter(state="pending").count() == 100

    def test_end_the_run_where_fewer_are_due_than_were_asked_for(self):
        with pytest.raises(RuntimeError, match="A claim of 300 rows leased 200"):
            _claims.prepare({"claims": 1, "limit": 300} | ROWS)


class TestEndless:
    def test_says_by_how_much_a_sender_grew(self):
        measured = _endless.prepare({"answers": 5})()

        assert measured["grown_kib"] < measured["before_kib"]
        assert measured["sent_bytes"] >= 5 * 20 * 1024


@pytest.mark.django_db(transaction=True)
class TestRounds:
    @pytest.fixture
    def world(self):
        organization_id = _events.open_organization()
        id_, secret = _events.create_endpoint(
            organization_id, "http://127.0.0.1:9/a", event_type=_events.OPENED
        )
        _events.publish([_events.opened(organization_id)])
        factories.relay()
        return World(None, organization_id, [Endpoint(id_, "/a", secret)], owed=1)

    def test_wait_in_vain_for_a_delivery_that_is_not_recorded(self, world):
        with pytest.raises(RuntimeError, match="every delivery recorded as succeeded"):
            _deliveries._check_records(world, seconds=0.1)

    def test_refuse_a_delivery_that_took_two_attempts(self, world):
        [delivery] = WebhookDelivery.objects.all()
        for number, outcome in enumerate(("server_error", "succeeded"), 1):
            WebhookAttempt.objects.create(
                organization_id=delivery.organization_id, delivery=delivery,
                endpoint_id=delivery.endpoint_id, number=number, duration_ms=1, outcome=outcome,
                started_at=delivery.created_at,
            )  # fmt: skip
        WebhookDelivery.objects.update(status="succeeded", closed_at=delivery.created_at)

        with pytest.raises(RuntimeError, match=r"1 deliveries were owed; .* are \(1, 2\)"):
            _deliveries._check_records(world)


@pytest.mark.django_db(transaction=True)
class TestWithWorkers:
    """Each part once, with real workers and few events."""

    @pytest.fixture(autouse=True)
    def workers(self):
        beat = ("-m", "celery", "-A", "config", "beat", "--pidfile=")
        with (
            running(*beat, KASSA_ROLE="beat"),
            running_worker("events", "default", concurrency=1),
            running_worker("webhooks", pool="threads", concurrency=8),
        ):
            yield
        empty_broker()

    @pytest.mark.soak
    def test_deliveries_are_counted_beside_an_endpoint_that_hangs(self):
        measured = _deliveries.prepare({"measure": "saturated", "events": 5, "endpoints": 2})()

        assert measured["per_second"] > 0
        assert measured["bare_per_second"] > 0
        assert OutboxEvent.objects.filter(type=_events.OPENED).count() == 5 * 4

    @pytest.mark.soak
    def test_lags_are_those_of_every_event(self):
        measured = _lag.prepare({"rate": 20, "seconds": 1, "warm_up": 1})()

        assert measured["events"] == 20
        assert 0 < measured["p50"] <= measured["p99"] <= measured["slowest"]
