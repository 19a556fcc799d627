"""Of each kind of work: a worker dies with a row, another has it within a minute, once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from celery import current_app
from django.db import connection
from django.db.models.functions import Now

from apps.banking import operations as banking
from apps.banking.models import BankFile, BankStatement
from apps.core import failpoints, jobs, outbox, transactions, work
from apps.core.failpoints import Failpoint
from apps.core.models import OutboxBatch
from apps.payments.models import Payment
from apps.webhooks import operations as webhooks
from apps.webhooks import registry
from apps.webhooks.models import WebhookDelivery
from tests.accounts.factories import create_contact, create_organization
from tests.accounts.mail_server import MailServer
from tests.accounts.test_mail import tell
from tests.banking.factories import (
    ACTOR,
    NOW,
    create_bank_account,
    import_file,
)
from tests.banking.factories import create_organization as create_bank_customer
from tests.banking.statements import IBAN, Entry, Made, camt053
from tests.core.events_of_tests import opened
from tests.core.events_of_tests import publish as publish_opened
from tests.payouts import factories as payouts
from tests.reconciliation.factories import create_customer, create_reference
from tests.sandbox.conftest import Bank
from tests.webhooks import inbox, things
from tests.webhooks.factories import create_endpoint, owe
from tests.webhooks.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Stage:
    """What a scenario may change for its time."""

    settings: object
    monkeypatch: pytest.MonkeyPatch
    stack: ExitStack
    folder: Path


@pytest.fixture
def stage(settings, monkeypatch, tmp_path):
    with ExitStack() as stack:
        yield Stage(settings, monkeypatch, stack, tmp_path)


# Each leaves one row due, and returns what says how often its effect happened.


def a_batch_to_number(_stage):
    publish_opened(opened())
    return lambda: list(OutboxBatch.objects.values_list("position", flat=True)).count(1)


def a_batch_to_consume(stage):
    consumed = []
    stage.monkeypatch.setattr(outbox._consuming, "_consumers", {})
    outbox.register_consumer(name="tests", handler=lambda _owner, events: consumed.extend(events))
    publish_opened(opened())
    outbox.relay()
    return lambda: len(consumed)


def a_job(stage):
    runs = []
    stage.monkeypatch.setattr(jobs, "_jobs", {})
    jobs.declare(kind="tests.job", schedule=jobs.Every(10), run=lambda *run: runs.append(run))
    jobs.plan_due(now=NOW)
    return lambda: len(runs)


def a_file(_stage):
    owner = create_bank_customer()
    create_bank_account(owner)
    content = camt053(Made(entries=(Entry(amount=1_00),)))
    banking.receive_bank_file(
        organization_id=owner, content=content, name="a.xml", actor=ACTOR, now=NOW
    )
    return BankStatement.objects.count


def a_poll(stage):
    bank = Bank(stage.folder / "sandbox.sqlite3")
    stage.stack.callback(bank.kill)
    stage.settings.SANDBOX_URL = bank.url
    create_bank_account(create_bank_customer(), channel="sandbox")
    bank.post("/bank/credits", {"iban": IBAN, "amount": "12.50", "name": "Ada"})
    # The bank tells of a credit twice: at once, and in the day's statement.
    return lambda: BankFile.objects.filter(state="imported").count() / 2


def lines_to_match(_stage):
    owner = create_bank_customer()
    create_bank_account(owner)
    reference = create_reference(create_customer(owner)).reference
    import_file(owner, camt053(Made(entries=(Entry(amount=1_00, reference=reference),))))
    return Payment.objects.count


def a_batch_of_payouts(stage):
    stage.settings.PAYOUT_COOLDOWN_HOURS = 0
    home = payouts.world()
    target = payouts.destination(home, payouts.customer_with(home, 500_00))
    payouts.freeze(payouts.request(home, target, 100_00))
    return BankFile.objects.filter(direction="out").count


def a_lane(stage, *, is_slow=False):
    far = stage.stack.enter_context(Receiver())
    organization = create_organization()
    endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
    owe(organization, "thing_1")
    webhooks.move_to_queue(
        organization_id=organization.id, endpoint_id=endpoint.id, is_slow=is_slow
    )
    return lambda: len(far.requests)


def a_slow_lane(stage):
    return a_lane(stage, is_slow=True)


def a_changed_endpoint(stage):
    stage.monkeypatch.setattr("apps.webhooks.operations._changes.PORTION", 1)
    far = stage.stack.enter_context(Receiver())
    organization = create_organization()
    endpoint, _ = create_endpoint(organization, far.url)
    owe(organization, "thing_1", "thing_2")
    webhooks.delete_endpoint(
        organization_id=organization.id, endpoint_id=endpoint.id, actor=ACTOR, now=NOW
    )
    canceled = WebhookDelivery.objects.filter(endpoint=endpoint, status="canceled")
    # One of the two went with the act.
    return lambda: canceled.count() - 1


def an_event_of_a_provider(stage):
    stage.monkeypatch.setattr(registry, "_handlers", {})
    things.register(things.Things())
    things.create_table()
    stage.stack.callback(things.drop_table)
    organization = create_organization()
    things.appear(organization, "thing_1")
    inbox.say(inbox.connect(organization), "thing.paid", message_id="msg_1")
    return lambda: things.standing(organization, "thing_1")[1].count("msg_1")


def a_mail(stage):
    server = stage.stack.enter_context(MailServer())
    stage.settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    stage.settings.EMAIL_HOST, stage.settings.EMAIL_PORT = "127.0.0.1", server.port
    organization = create_organization()
    create_contact(organization, "ops@a.example", "technical")
    tell(organization)
    return lambda: len(server.recipients)


SCENARIOS: dict[str, Callable[[Stage], Callable[[], float]]] = {
    "accounts.mail": a_mail,
    "core.relay": a_batch_to_number,
    "core.consume": a_batch_to_consume,
    "core.jobs": a_job,
    "banking.files": a_file,
    "banking.polls": a_poll,
    "banking.lines": lines_to_match,
    "payouts.batches": a_batch_of_payouts,
    "webhooks.lane": a_lane,
    "webhooks.slow_lane": a_slow_lane,
    "webhooks.change": a_changed_endpoint,
    "webhooks.inbound": an_event_of_a_provider,
}


class Died(BaseException):
    """The worker is gone. No boundary of ours catches this, so nothing of it tidies up."""


def die_once_claimed(stage: Stage, task: Callable[[], object]) -> None:
    """Run the task until its claim is committed, and no further."""

    def reach(point):
        if point is Failpoint.WORK_CLAIMED:
            raise Died

    with stage.monkeypatch.context() as patched:
        patched.setattr(failpoints, "reach", reach)
        with pytest.raises(Died):
            task()


def database_now():
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def test_every_kind_is_here():
    ours = {kind.name for kind in work.kinds() if not kind.name.startswith("tests.")}

    assert set(SCENARIOS) == ours


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_a_dead_worker_had_is_another_s_within_a_minute(stage, name):
    kind = work.find_kind(name)
    task = current_app.tasks[kind.task]
    count = SCENARIOS[name](stage)

    die_once_claimed(stage, task)

    # 15 s more than its work may take, and a minute at most; until then nobody else takes it.
    [held] = kind.model.objects.filter(state="leased")
    lease = held.lease_until - database_now()
    assert lease <= timedelta(seconds=kind.hard_seconds + 15) <= timedelta(minutes=1)
    assert held.next_attempt_at == held.lease_until
    task()
    assert count() == 0

    # A second ago: the clock of a virtual machine may step back by a little.
    kind.model.objects.filter(id=held.id).update(next_attempt_at=Now() - timedelta(seconds=1))
    task()
    assert count() == 1

    # Whoever was only thought dead may record nothing, and nothing is left to be done.
    assert lock_by(held) is None
    task()
    assert count() == 1


@transactions.outermost
def lock_by(held: work.WorkRow) -> work.WorkRow | None:
    """Return the row, locked, if the lease that the dead worker had still holds it."""
    return work.lock_leased(
        type(held),
        organization_id=getattr(held, "organization_id", None),
        row_id=held.id,
        lease_token=held.lease_token,
    )
