"""The sandbox bank's channel, against the real sandbox and against a port that nobody serves."""

from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from apps.banking import operations
from apps.banking.adapters import channel_of
from apps.banking.adapters.port import SendOutcome
from apps.banking.adapters.sandbox import SandboxChannel
from apps.banking.models import BankConnection, BankFile, ConnectionPoll
from apps.banking.tasks import Fetched, fetch_due, fetch_files
from apps.core import work
from apps.core.errors import Declined, OutcomeUnknown, Unavailable
from apps.core.transactions import outermost
from tests.banking.factories import ACTOR, NOW, create_bank_account, create_organization
from tests.banking.statements import IBAN
from tests.sandbox.conftest import Bank, payment_file


@pytest.fixture
def bank(tmp_path):
    served = Bank(tmp_path / "sandbox.sqlite3")
    yield served
    served.kill()


class TestTheSandboxChannel:
    def test_sends_fetches_and_asks(self, bank):
        channel = SandboxChannel(url=bank.url)

        assert channel.send(name="a.xml", content=payment_file()) is SendOutcome.SENT
        fetched = list(channel.fetch(after=0, ibans=[IBAN]))

        assert [file.name.partition("-")[0] for file in fetched] == [
            "pain.002",
            "camt.054",
            "camt.053",
        ]
        assert list(channel.fetch(after=fetched[-1].number, ibans=[IBAN])) == []
        assert list(channel.fetch(after=0, ibans=["FI2112345600000785"])) == []
        assert channel.status(message_id="MSG1") is True
        assert channel.status(message_id="NEVER") is False

    def test_is_declined_what_the_bank_cannot_read(self, bank):
        with pytest.raises(Declined):
            SandboxChannel(url=bank.url).send(name="a.xml", content=b"<a/>")

    def test_does_not_know_what_a_silent_bank_did(self, bank):
        bank.misbehave("timeout_after", seconds=30)

        with pytest.raises(OutcomeUnknown):
            SandboxChannel(url=bank.url, timeout_seconds=0.5).send(
                name="a.xml", content=payment_file()
            )

        assert SandboxChannel(url=bank.url).status(message_id="MSG1") is True

    def test_sent_nothing_where_nobody_listens(self):
        channel = SandboxChannel(url="http://127.0.0.1:9")

        for call in (
            lambda: channel.send(name="a.xml", content=b"<a/>"),
            lambda: list(channel.fetch(after=0, ibans=[IBAN])),
            lambda: channel.status(message_id="MSG1"),
        ):
            with pytest.raises(Unavailable):
                call()

    def test_does_not_know_after_a_server_s_fault(self):
        class Broken(BaseHTTPRequestHandler):
            def do_POST(self):
                self.send_response(500)
                self.end_headers()

            def log_message(self, *_args):
                return

        with HTTPServer(("127.0.0.1", 0), Broken) as server:
            Thread(target=server.handle_request).start()
            channel = SandboxChannel(url=f"http://127.0.0.1:{server.server_port}")

            with pytest.raises(OutcomeUnknown):
                channel.send(name="a.xml", content=b"<a/>")


@pytest.mark.django_db(transaction=True)
class TestFetching:
    def test_takes_each_file_once_and_asks_again_soon(self, bank, settings):
        settings.SANDBOX_URL = bank.url
        organization_id = create_organization()
        create_bank_account(organization_id, channel="sandbox")
        bank.post("/bank/credits", {"iban": IBAN, "amount": "12.50", "name": "Ada"})

        fetch_due()
        first = ConnectionPoll.objects.get().quiet_polls
        ConnectionPoll.objects.update(next_attempt_at=datetime(2020, 1, 1, tzinfo=UTC))
        fetch_due()

        assert first == 0
        assert list(BankFile.objects.values_list("state", flat=True)) == ["imported"] * 2
        poll = ConnectionPoll.objects.get()
        assert (poll.state, poll.quiet_polls, poll.last_error_code) == ("pending", 1, "")
        assert BankConnection.objects.get().fetched_up_to == 2

    def test_stops_in_time_and_asks_on_at_once(self, bank, settings):
        settings.SANDBOX_URL = bank.url
        organization_id = create_organization()
        account = create_bank_account(organization_id, channel="sandbox")
        for number in range(2):
            bank.post("/bank/credits", {"iban": IBAN, "amount": f"{number + 1}.00", "name": "Ada"})

        asked = {"organization_id": organization_id, "connection_id": account.connection_id}
        first = fetch_files(**asked, seconds_max=-1, now=NOW)

        assert first == Fetched(count=1, is_all=False)
        assert BankConnection.objects.get().fetched_up_to == 1
        [poll] = work.claim_due(ConnectionPoll, limit=1, lease_seconds=60)
        outermost(operations.record_poll_unfinished)(poll)
        assert (poll.state, poll.quiet_polls, poll.attempts) == ("pending", 0, 0)
        assert fetch_due() == 1
        assert set(BankFile.objects.values_list("state", flat=True)) == {"imported"}
        assert BankFile.objects.count() > 1

    def test_asks_again_where_the_bank_was_away(self, settings):
        settings.SANDBOX_URL = "http://127.0.0.1:9"
        create_bank_account(create_organization(), channel="sandbox")

        fetch_due()

        poll = ConnectionPoll.objects.get()
        assert (poll.state, poll.quiet_polls, poll.last_error_code) == ("pending", 1, "Unavailable")
        assert not BankFile.objects.exists()

    def test_is_soon_after_a_file_was_stored(self, settings):
        organization_id = create_organization()
        account = create_bank_account(organization_id, channel="sandbox")
        ConnectionPoll.objects.update(
            quiet_polls=9, next_attempt_at=datetime(2999, 1, 1, tzinfo=UTC)
        )

        for _twice in range(2):
            outermost(operations.store_outgoing_file)(
                organization_id=organization_id,
                bank_account_id=account.id,
                kind="pain.001",
                version="pain.001.001.09",
                message_id="M1",
                content=b"<a/>",
                actor=ACTOR,
                now=NOW,
            )

        poll = ConnectionPoll.objects.get()
        assert poll.quiet_polls == 0
        assert poll.next_attempt_at.year < 2999
        assert BankFile.objects.get().state == "stored"

    def test_by_hand_is_not_done(self):
        account = create_bank_account(create_organization())
        connection = BankConnection.objects.get(id=account.connection_id)

        channel = channel_of(connection)

        assert channel.send(name="a.xml", content=b"") is SendOutcome.BY_HAND
        assert list(channel.fetch(after=0, ibans=[])) == []
        assert channel.status(message_id="M") is None
        assert not ConnectionPoll.objects.exists()
