"""E-mails to contacts: taken by a real mail server, refused, put off, sent again after a crash."""

import signal
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from celery import current_app
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings as django_settings
from django.db import IntegrityError

from apps.accounts import operations, queries, tasks
from apps.accounts.models import Mail
from apps.accounts.rules import Letter
from apps.core import clock, stuck, transactions, work, working
from apps.core.actors import Actor
from apps.core.ids import encode_id, first_id
from apps.core.stuck import Standing
from tests.accounts import mail_server
from tests.accounts.factories import TESTS, create_contact, create_organization, create_staff
from tests.accounts.mail_server import MailServer
from tests.support import empty_broker, past_the_guards, running, running_worker, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

LETTER = Letter(
    kind="tests.told", about="whe_1", subject="Kassa: something happened", body="Look.\n"
)
SENDS = """
import django
django.setup()
from apps.accounts import tasks
tasks.send_mail()
"""


@pytest.fixture
def organization():
    return create_organization()


@pytest.fixture
def server(settings):
    """A mail server, to which this process sends."""
    with MailServer() as running_server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", running_server.port
        settings.EMAIL_TIMEOUT = 5
        yield running_server


@pytest.fixture
def at_soft_limit():
    """Have the task's soft limit end once something holds, as Celery does it: by a signal."""

    def stop(*_):
        raise SoftTimeLimitExceeded

    def end_it(condition):
        wait_until(condition)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    @contextmanager
    def once(condition):
        before = signal.signal(signal.SIGUSR1, stop)
        thread = threading.Thread(target=end_it, args=(condition,))
        thread.start()
        yield
        thread.join()
        signal.signal(signal.SIGUSR1, before)

    return once


@transactions.outermost
def tell(organization, *purposes, actor=TESTS, then=lambda: None):
    told = operations.tell_contacts(
        organization_id=organization.id,
        purposes=purposes or ("technical",),
        letter=LETTER,
        actor=actor,
    )
    then()
    return told


@transactions.outermost
def tell_often(organization, *, times):
    for _ in range(times):
        operations.tell_contacts(
            organization_id=organization.id, purposes=["technical"], letter=LETTER, actor=TESTS
        )


def url_of(server):
    """Return what another process is told of the server."""
    return f"smtp://127.0.0.1:{server.port}"


def let_time_pass():
    Mail.objects.filter(state__in=work.OPEN).update(next_attempt_at=clock.now())


def states():
    return [(mail.state, mail.last_error_code) for mail in Mail.objects.order_by("id")]


class TestTelling:
    def test_owes_one_mail_to_each_who_is_to_hear_of_it(self, organization):
        both = create_contact(organization, "both@a.example", "technical", "security")
        create_contact(organization, "money@a.example", "finance")
        guard = create_contact(organization, "guard@a.example", "security")

        assert tell(organization, "technical", "security") == 2

        assert {mail.contact_id for mail in Mail.objects.all()} == {both.id, guard.id}

    def test_never_tells_another_tenants_contacts(self, organization):
        create_contact(create_organization(), "them@b.example")
        create_contact(queries.get_test_twin(organization_id=organization.id), "twin@a.example")

        assert tell(organization) == 0
        assert not Mail.objects.exists()

    def test_of_nobody_is_no_fault(self, organization):
        assert tell(organization) == 0
        assert tasks.send_mail() == 0

    def test_rolled_back_owes_nothing(self, organization):
        create_contact(organization, "ops@a.example")

        def break_off():
            raise RuntimeError

        with pytest.raises(RuntimeError):
            tell(organization, then=break_off)

        assert not Mail.objects.exists()

    def test_leaves_out_the_member_of_staff_who_acts(self, organization):
        person = create_staff("support_lead")
        create_contact(organization, person.email.upper())
        other = create_contact(organization, "ops@a.example")

        assert tell(organization, actor=Actor.staff(person.id)) == 1
        assert Mail.objects.get().contact_id == other.id

    def test_leaves_out_nobody_for_a_key_that_a_contact_issued(self, organization):
        person = create_staff()
        create_contact(organization, person.email)
        key = Actor("api_key", "0199", f"staff:{person.id}")

        assert tell(organization, actor=key) == 1


class TestSending:
    def test_hands_over_what_was_written_to_the_contacts_address_now(self, organization, server):
        contact = create_contact(organization, "old@a.example")
        tell(organization)
        operations.change_contact(
            organization_id=organization.id,
            contact_id=contact.id,
            email="ops@a.example",
            purposes=["finance"],
            actor=TESTS,
        )

        assert tasks.send_mail() == 1

        mail = Mail.objects.get()
        [message] = server.messages
        assert server.recipients == ["ops@a.example"]
        assert message["To"] == "ops@a.example"
        assert message["From"] == django_settings.DEFAULT_FROM_EMAIL
        assert message["Subject"] == LETTER.subject
        assert message["Message-ID"] == f"<{encode_id('mail', mail.id)}@kassa.invalid>"
        assert message["Auto-Submitted"] == "auto-generated"
        assert message.get_content().strip() == "Look."
        assert (mail.state, mail.attempts, mail.sent_at is not None) == ("done", 1, True)

    def test_again_finds_nothing_to_send(self, organization, server):
        create_contact(organization, "ops@a.example")
        tell(organization)
        tasks.send_mail()

        let_time_pass()

        assert tasks.send_mail() == 0
        assert len(server.messages) == 1

    def test_to_each_of_many_ends_with_them_all(self, organization, server):
        for number in range(12):
            create_contact(organization, f"ops{number}@a.example")
        tell(organization)

        assert tasks.send_mail() == 12

        assert sorted(server.recipients) == sorted(f"ops{number}@a.example" for number in range(12))
        assert set(states()) == {("done", "")}

    def test_stops_for_a_contact_that_was_removed(self, organization, server):
        contact = create_contact(organization, "ops@a.example")
        tell(organization)
        operations.remove_contact(
            organization_id=organization.id,
            contact_id=contact.id,
            idempotency_key="gone",
            actor=TESTS,
            now=clock.now(),
        )

        tasks.send_mail()

        assert server.messages == []
        assert states() == [("done", "contact_removed")]
        assert Mail.objects.get().sent_at is None

    def test_takes_turns_between_organizations(self, organization, server):
        create_contact(organization, "ops@a.example")
        tell_often(organization, times=300)
        other = create_organization()
        create_contact(other, "ops@b.example")
        tell(other)

        working.work_due(tasks.SENDING)

        assert sorted(server.recipients) == ["ops@a.example"] * 4 + ["ops@b.example"]


class TestRefusals:
    @pytest.mark.parametrize("command", ["RCPT", "DATA", "."])
    def test_for_good_fail_the_row_at_once_and_are_seen(self, organization, server, command):
        create_contact(organization, "gone@a.example")
        create_contact(organization, "here@a.example")
        tell(organization)
        good = "354 go on" if command == "DATA" else "250 ok"
        server.answers = {command: ["550 no such user", good]}

        tasks.send_mail()

        assert states() == [("failed", "smtp_550"), ("done", "")]
        [row] = stuck.list_stuck(organization_ids=None, limit=9, standings=[Standing.FAILED])
        assert (row.kind, row.error_code, row.attempts) == ("accounts.mail", "smtp_550", 1)
        let_time_pass()
        assert tasks.send_mail() == 0

    @pytest.mark.parametrize(
        ("answers", "code"),
        [
            ({"RCPT": ["451 greylisted", "250 ok"]}, "smtp_451"),
            ({"MAIL": ["550 not from you", "250 ok"]}, "smtp_550"),
            ({"HELLO": ["421 too busy", "250 ok"]}, "smtp_421"),
            ({"DATA": ["452 full", "354 go on"]}, "smtp_452"),
            ({"RCPT": [mail_server.GONE, "250 ok"]}, "SMTPServerDisconnected"),
            ({".": [mail_server.GONE, "250 ok"]}, "SMTPServerDisconnected"),
        ],
    )
    def test_for_now_are_tried_again_by_the_policy_of_all_work(
        self, organization, server, answers, code
    ):
        create_contact(organization, "ops@a.example")
        tell(organization)
        server.answers = answers

        tasks.send_mail()

        assert states() == [("pending", code)]
        let_time_pass()
        tasks.send_mail()
        assert states() == [("done", "")]
        assert len(set(server.ids())) == 1

    @pytest.mark.parametrize("command", ["HELLO", "RCPT", "."])
    def test_of_a_server_that_says_nothing_are_not_waited_for(
        self, organization, server, settings, command
    ):
        settings.EMAIL_TIMEOUT = 0.2
        create_contact(organization, "ops@a.example")
        tell(organization)
        server.answers = {command: [mail_server.SILENT]}

        tasks.send_mail()

        assert states() == [("pending", "SMTPServerDisconnected")]

    def test_of_a_server_that_outlasts_the_task_say_so(self, organization, server, at_soft_limit):
        create_contact(organization, "ops@a.example")
        tell(organization)
        server.answers = {"RCPT": [mail_server.SILENT]}

        with at_soft_limit(lambda: server.recipients):
            tasks.send_mail()

        assert states() == [("pending", "too_slow")]
        # Nor is it waited for at the parting: that would outlast what is left of the task.
        server.is_over.set()
        wait_until(lambda: server.unanswered)
        assert server.unanswered == [b""]

    def test_to_part_undo_nothing(self, organization, server, at_soft_limit):
        create_contact(organization, "ops@a.example")
        tell(organization)
        server.answers = {"QUIT": [mail_server.SILENT]}

        with at_soft_limit(lambda: "QUIT" in server.commands):
            tasks.send_mail()

        assert states() == [("done", "")]

    def test_without_end_are_set_aside_for_a_person_and_never_dropped(self, organization, server):
        create_contact(organization, "ops@a.example")
        tell(organization)
        server.answers = {"RCPT": ["451 greylisted"]}

        for _ in range(work.ATTEMPTS_MAX):
            let_time_pass()
            tasks.send_mail()

        assert states() == [("quarantined", "smtp_451")]
        assert server.messages == []

    def test_of_a_server_that_is_away_say_so_and_name_nobody(self, organization, server, caplog):
        create_contact(organization, "ops@a.example")
        tell(organization)
        server.__exit__()

        tasks.send_mail()

        assert states() == [("pending", "ConnectionRefusedError")]
        assert "ops@a.example" not in caplog.text

    def test_name_nobody_in_the_log(self, organization, server, caplog):
        create_contact(organization, "gone@a.example")
        tell(organization)
        server.answers = {"RCPT": ["550 <gone@a.example>: no such user"]}

        tasks.send_mail()

        assert states() == [("failed", "smtp_550")]
        assert "gone@a.example" not in caplog.text


class TestWorker:
    def test_finds_what_nobody_told_it_of(self, organization, server):
        empty_broker()
        create_contact(organization, "ops@a.example")
        tell(organization)
        empty_broker()

        with running_worker("default", concurrency=1, EMAIL_URL=url_of(server)):
            current_app.send_task("core.sweep", queue="default")
            wait_until(lambda: states() == [("done", "")])

        assert server.recipients == ["ops@a.example"]
        empty_broker()


class TestCrash:
    def test_after_the_server_took_it_sends_the_same_message_again(self, organization, server):
        create_contact(organization, "ops@a.example")
        tell(organization)

        armed = {"KASSA_FAILPOINTS": "mail.sent=kill", "EMAIL_URL": url_of(server)}
        with running("-c", SENDS, **armed) as process:
            assert process.wait(60) == -signal.SIGKILL
        mail = Mail.objects.get()
        assert (mail.state, mail.attempts, mail.sent_at) == ("leased", 1, None)
        assert len(server.messages) == 1
        # Until its lease ends nobody else may send it.
        assert tasks.send_mail() == 0

        let_time_pass()
        tasks.send_mail()

        assert states() == [("done", "")]
        first, again = server.messages
        assert first["Message-ID"] == again["Message-ID"]
        assert (first["Date"], first.get_content()) == (again["Date"], again.get_content())


class TestKeeping:
    def test_ends_after_ninety_days_for_what_is_over(self, organization, server):
        create_contact(organization, "ops@a.example")
        for _ in range(4):
            tell(organization)
        tasks.send_mail()
        old, young, failed, stuck_one = Mail.objects.order_by("id")
        Mail.objects.filter(id=failed.id).update(state="failed", sent_at=None)
        Mail.objects.filter(id=stuck_one.id).update(state="quarantined", sent_at=None)
        age(old, days=91)
        age(young, days=89)
        age(failed, days=92)
        age(stuck_one, days=93)

        assert operations.purge_mail() == 2

        assert sorted(Mail.objects.values_list("state", flat=True)) == ["done", "quarantined"]

    def test_is_guarded_for_a_month(self, organization, server):
        create_contact(organization, "ops@a.example")
        tell(organization)
        tasks.send_mail()

        with pytest.raises(IntegrityError, match="are kept"):
            Mail.objects.all().delete()
        with pytest.raises(IntegrityError, match="never change"):
            Mail.objects.update(body="Something else.")


def age(mail, *, days):
    """Let a mail have been written so long ago."""
    then = clock.now() - timedelta(days=days)
    past_the_guards(
        lambda: Mail.objects.filter(id=mail.id).update(id=first_id(then), created_at=then)
    )
