"""The express lane gives the answers that Django's own handler gives, header by header."""

import io
import json
import logging
from http import HTTPStatus

import pytest
from django.conf import settings as django_settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import got_request_exception
from django.db import OperationalError, connection
from django.urls import resolve

from apps.accounts.api.authentication import forget_cached_keys
from apps.core import context, statements
from apps.core.api import places, problems, rates
from apps.core.ids import encode_id
from apps.core.models import OutboxEvent
from apps.ledger import operations, queries
from apps.ledger.operations import _plain
from config.express import ROUTE, VIEW, ExpressLane
from tests.accounts.factories import create_customer, create_organization, issue_key
from tests.ledger.factories import fund
from tests.ledger.tampering import corrupt
from tests.support import running

pytestmark = pytest.mark.django_db(transaction=True)

# Each of these is one request's own.
OWN = {"Request-Id", "RateLimit"}


class Both:
    """One key and two accounts with money, asked by way of Django and by way of the lane."""

    def __init__(self) -> None:
        forget_cached_keys()
        self.organization = create_organization()
        self.token = issue_key(self.organization, "transfers:write").token
        self.weak_token = issue_key(self.organization, "ledger:read").token
        self.ann, self.bob = (self._customer() for _ in range(2))
        fund(self.organization.id, self.ann, 1_000_00)
        self.django = WSGIHandler()
        self.lane = ExpressLane()
        self.keys = 0

    def _customer(self):
        customer = create_customer(self.organization, currencies=["EUR"])
        code = f"customers:{encode_id('cus', customer.id)}:available:EUR"
        return queries.account_ids(organization_id=self.organization.id, codes=[code])[code]

    def transfer(self, **more):
        return {
            "debit_account": encode_id("la", self.ann),
            "credit_account": encode_id("la", self.bob),
            "amount": 1_00,
            "currency": "EUR",
            **more,
        }

    def environ(self, body=None, *, path="/v1/transfers", key=None, **more):
        raw = body if isinstance(body, bytes) else json.dumps(body or self.transfer()).encode()
        found = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "testserver",
            "HTTP_AUTHORIZATION": f"Bearer {self.token}",
            "HTTP_IDEMPOTENCY_KEY": key or self.fresh_key(),
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(raw)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(raw),
            "wsgi.input_terminated": True,
            **more,
        }
        return {name: value for name, value in found.items() if value is not None}

    def fresh_key(self):
        self.keys += 1
        return f"key-{self.keys}"

    def by_django(self, environ):
        """Return status, headers and body of Django's answer."""
        came: list = []
        body = self.django(environ, lambda status, headers: came.extend([status, headers]))
        content = b"".join(body)
        body.close()
        status, headers = came
        return read_answer(int(status.split(" ", 1)[0]), headers, content)

    def by_lane(self, *environs):
        """Return the lane's answers; it must have taken the requests."""
        return [read_answer(*answer) for answer in answers_of(self.lane, environs)]


def answers_of(lane, environs):
    """Return what a lane answers, None for what is Django's, in the order of the requests."""
    found = {}
    for part in lane.admit(environs):
        found |= dict(zip(part.places, part.answer(), strict=True))
    assert sorted(found) == list(range(len(environs)))
    return [found[place] for place in range(len(environs))]


def read_answer(status, headers, content):
    names = [name for name, _value in headers]
    assert len(names) == len(set(names))
    return HTTPStatus(status), dict(headers), content


@pytest.fixture
def both():
    return Both()


def without_own(answer):
    """Leave out what differs between any two requests: ids, times, and what is left of a rate."""
    status, headers, content = answer
    document = json.loads(content) if content.startswith(b"{") else content.decode()
    if isinstance(document, dict):
        own = {
            "request_id", "id", "effective_at", "created_at", "balances", "outcomes", "resource",
        }  # fmt: skip
        document = {name: value for name, value in document.items() if name not in own} | {
            "outcomes": len(document.get("outcomes", []))
        }
    kept = {name: value for name, value in headers.items() if name not in OWN}
    return status, kept | {"has": sorted(OWN & headers.keys())}, document


def assert_same(both, **changes):
    by_django = both.by_django(both.environ(**changes))
    [by_lane] = both.by_lane(both.environ(**changes))
    assert without_own(by_lane) == without_own(by_django)
    assert int(by_lane[1]["Content-Length"]) == len(by_lane[2])
    return by_lane


def assert_left_to_django(both, **changes):
    """Assert that the lane does not take the request, and return what Django answers to it."""
    environ = both.environ(**changes)
    told = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"]}
    if both.lane.takes(**told, query=environ["QUERY_STRING"]):
        assert answers_of(both.lane, [environ]) == [None]
        # Nothing of it was read.
        assert environ["wsgi.input"].tell() == 0
    return both.by_django(environ)


def test_its_route_is_that_of_the_url_configuration():
    match = resolve(f"/{ROUTE}")

    assert (match.func.view_class, match.route) == (VIEW, ROUTE)


class TestGoodRequests:
    def test_a_transfer(self, both):
        status, headers, content = assert_same(both)

        assert status == HTTPStatus.CREATED
        assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert json.loads(content)["balances"][1]["posted"] == 2_00

    def test_a_replay(self, both):
        key = both.fresh_key()
        first = both.by_django(both.environ(key=key))

        by_django = both.by_django(both.environ(key=key))
        [by_lane] = both.by_lane(both.environ(key=key))

        assert by_lane[2] == by_django[2] == first[2]
        assert without_own(by_lane) == without_own(by_django)
        assert by_lane[1]["Idempotent-Replayed"] == "true"

    def test_a_request_id_of_the_clients_own(self, both):
        _status, headers, _content = assert_same(both, HTTP_REQUEST_ID="abc-12345")

        assert headers["Request-Id"] == "abc-12345"
        [other] = both.by_lane(both.environ(HTTP_REQUEST_ID="a b"))
        assert other[1]["Request-Id"] != "a b"

    def test_a_trace(self, both):
        trace = f"00-{'a' * 32}-{'b' * 16}-01"

        assert_same(both, HTTP_TRACEPARENT=trace)

        assert context.current().traceparent == trace

    def test_a_chunked_body(self, both):
        assert assert_same(both, CONTENT_LENGTH=None)[0] == HTTPStatus.CREATED


class TestBadRequests:
    @pytest.mark.parametrize(
        ("changes", "status"),
        [
            ({"HTTP_AUTHORIZATION": None}, 401),
            ({"HTTP_AUTHORIZATION": "Basic YTpi"}, 401),
            ({"HTTP_AUTHORIZATION": "Bearer kassa_live_x"}, 401),
            ({"HTTP_AUTHORIZATION": "Bearer " + "x" * 1_000}, 401),
            ({"HTTP_AUTHORIZATION": "Bearer a,Bearer b"}, 401),
            ({"HTTP_IDEMPOTENCY_KEY": None}, 400),
            ({"HTTP_IDEMPOTENCY_KEY": ""}, 400),
            ({"HTTP_IDEMPOTENCY_KEY": "a b"}, 400),
            ({"HTTP_IDEMPOTENCY_KEY": "é"}, 400),
            ({"HTTP_IDEMPOTENCY_KEY": "x" * 256}, 400),
            ({"CONTENT_TYPE": "text/plain"}, 415),
            ({"CONTENT_TYPE": None}, 415),
            ({"CONTENT_TYPE": "application/json; charset=latin-1"}, 415),
            ({"CONTENT_TYPE": 'application/json;charset="utf-8"'}, 201),
            ({"HTTP_CONTENT_ENCODING": "gzip"}, 415),
            ({"CONTENT_LENGTH": str(2 * 1024 * 1024)}, 413),
            ({"CONTENT_LENGTH": "x"}, 400),
            ({"CONTENT_LENGTH": ""}, 201),
            ({"body": b"{"}, 400),
            ({"body": b"\xff"}, 400),
            ({"body": b"[" * 100_000}, 400),
            ({"body": b'{"a":' * 30}, 400),
            ({"body": b'{"amount": 1, "amount": 1}'}, 400),
            ({"body": b'{"amount": NaN}'}, 400),
            ({"body": b'{"amount": 1e400}'}, 400),
            ({"body": b"null"}, 400),
            ({"body": b"{}"}, 400),
            ({"body": b""}, 400),
            ({"body": b"x" * (1024 * 1024 + 1)}, 413),
            ({"body": b"x" * (1024 * 1024 + 1), "CONTENT_LENGTH": None}, 413),
            ({"body": b'{"debit_account": "je_00000000000000000000000000"}'}, 404),
        ],
        ids=lambda value: ascii(value)[:60],
    )
    def test_is_refused_alike(self, both, changes, status):
        answer = assert_same(both, **changes)

        assert answer[0] == status

    def test_a_wrong_secret_an_unknown_key_and_a_missing_scope(self, both):
        mistyped = both.token[:-1] + ("0" if both.token[-1] != "0" else "1")

        for token, status in ((mistyped, 401), (both.weak_token, 403)):
            assert assert_same(both, HTTP_AUTHORIZATION=f"Bearer {token}")[0] == status

    def test_what_a_rule_refuses(self, both):
        poor = both.transfer(amount=5_000_00)

        assert assert_same(both, body=poor)[0] == HTTPStatus.UNPROCESSABLE_ENTITY
        both.by_django(both.environ(body=poor, key="the-same"))
        assert "Idempotent-Replayed" in assert_same(both, body=poor, key="the-same")[1]

    def test_past_the_rate(self, both, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 4
        for _ in range(2):
            assert assert_same(both)[0] == HTTPStatus.CREATED

        status, headers, _content = assert_same(both)

        assert status == HTTPStatus.TOO_MANY_REQUESTS
        assert headers["Retry-After"]

    def test_too_many_at_once(self, both, settings):
        settings.API_IN_FLIGHT_MAX = settings.WEB_PROCESSES = 1
        [admitted] = both.by_lane(both.environ())
        places._in_flight.update({key.int: 1 for key in self.keys(both)})

        answer = assert_same(both)
        places._in_flight.clear()

        assert admitted[0] == HTTPStatus.CREATED
        assert answer[0] == HTTPStatus.TOO_MANY_REQUESTS

    def keys(self, both):
        from apps.accounts.models import ApiKey  # noqa: PLC0415

        return ApiKey.objects.filter(organization=both.organization).values_list("id", flat=True)


class TestFaults:
    def test_a_fault_is_500_reported_and_without_a_word_of_it(self, both, monkeypatch):
        seen = []
        got_request_exception.connect(receiver := lambda **more: seen.append(more["request"].path))

        def fail(**_):
            raise ValueError("The driver's own words.")

        monkeypatch.setattr(operations, "take_result", fail)
        answer = assert_same(both)
        got_request_exception.disconnect(receiver)

        assert answer[0] == HTTPStatus.INTERNAL_SERVER_ERROR
        assert b"driver" not in answer[2]
        assert seen == ["/v1/transfers"] * 2
        assert not places._in_flight


REPORTS = """
import json
import logging

import django

django.setup()
import sentry_sdk
from django.conf import settings
from sentry_sdk.transport import Transport

from apps.ledger import operations
from config.errors import start_reporting
from tests.config.test_express import Both


class Kept(Transport):
    def __init__(self):
        super().__init__()
        self.events = []

    def capture_envelope(self, envelope):
        self.events += filter(None, [envelope.get_event()])


def fail(*_):
    raise ValueError("Something is broken.")


settings.SENTRY_DSN = "https://key@127.0.0.1:9/1"
start_reporting(dsn=settings.SENTRY_DSN, environment="tests")
kept = sentry_sdk.get_client().transport = Kept()
# As in production.
logging.getLogger("kassa.request").setLevel(logging.INFO)
first, second = Both(), Both()
[done] = first.by_lane(first.environ(HTTP_REQUEST_ID="of-the-first"))
operations.take_result = fail
[failed] = second.by_lane(second.environ(HTTP_REQUEST_ID="of-the-second"))
[event] = [event for event in kept.events if "exception" in event]
print(json.dumps([done[0], failed[0], event["exception"]["values"][-1]["type"],
                  " ".join(crumb["message"] for crumb in event["breadcrumbs"]["values"])]))
"""


class TestReports:
    def test_of_a_fault_tell_what_led_to_it_and_not_what_another_key_did(self):
        """In a process of its own: reporting is switched on once for all of it."""
        with running("-c", REPORTS) as process:
            told, _ = process.communicate(timeout=60)

        assert process.returncode == 0, told
        done, failed, kind, crumbs = json.loads(told.strip().rpartition("\n")[2])
        assert (done, failed, kind) == (201, 500, "ValueError")
        assert "of-the-second" in crumbs
        assert "of-the-first" not in crumbs


class TestWhatIsDjangos:
    """Whatever is not plainly the lane's is handed on, before anything of it was read."""

    @pytest.mark.parametrize(
        ("changes", "status"),
        [
            ({"HTTP_HOST": "evil.example"}, 400),
            ({"HTTP_HOST": "testserver,evil.example"}, 400),
            ({"HTTP_HOST": ""}, 400),
            ({"HTTP_X_FORWARDED_HOST": "evil.example"}, 201),
            # A list that this key may not read.
            ({"REQUEST_METHOD": "GET"}, 403),
            ({"REQUEST_METHOD": "PUT"}, 405),
            ({"REQUEST_METHOD": "OPTIONS"}, 405),
            ({"REQUEST_METHOD": "post"}, 201),
            ({"QUERY_STRING": "a=b"}, 400),
            ({"QUERY_STRING": "key=kassa_live_x"}, 401),
            ({"path": "/v1/transfers/"}, 404),
            ({"path": "/v1//transfers"}, 404),
            ({"path": "/V1/transfers"}, 404),
            ({"SCRIPT_NAME": "/below"}, 201),
        ],
        ids=ascii,
    )
    def test_is_answered_by_django(self, both, changes, status):
        assert assert_left_to_django(both, **changes)[0] == status

    def test_without_a_host_the_servers_own_name_is_asked(self, both):
        assert assert_same(both, HTTP_HOST=None)[0] == HTTPStatus.CREATED
        for odd in ({"HTTP_HOST": None, "SERVER_NAME": "x"}, {"HTTP_HOST": ""}):
            assert assert_left_to_django(both, **odd)[0] == HTTPStatus.BAD_REQUEST

    def test_a_host_that_was_refused_is_not_remembered(self, both):
        for _ in range(2):
            refused = assert_left_to_django(both, HTTP_HOST="evil.example")
            assert refused[0] == HTTPStatus.BAD_REQUEST
            assert assert_same(both, HTTP_HOST="testserver")[0] == HTTPStatus.CREATED


def lines_of_requests(caplog):
    """What was written of requests, line by line; several may be of one record."""
    records = [record for record in caplog.records if record.name == "kassa.request"]
    return [line for record in records for line in record.msg]


class TestMany:
    """What has gathered is answered by turns, and each is told its own."""

    def test_each_has_its_own_answer_request_id_and_log_line(self, both, caplog):
        caplog.set_level(logging.INFO)
        ids = [f"own-{number:05}" for number in range(5)]
        bodies = [
            both.transfer(),
            b"{",
            both.transfer(amount=5_000_00),
            both.transfer(dry_run=True),
            both.transfer(),
        ]

        answers = both.by_lane(
            *(
                both.environ(body, HTTP_REQUEST_ID=id_)
                for body, id_ in zip(bodies, ids, strict=True)
            )
        )

        assert [answer[0] for answer in answers] == [201, 400, 422, 200, 201]
        assert [answer[1]["Request-Id"] for answer in answers] == ids
        said = lines_of_requests(caplog)
        # What is answered without more comes first.
        assert sorted((line["request_id"], line["status"]) for line in said) == [
            (id_, answer[0]) for id_, answer in zip(ids, answers, strict=True)
        ]
        assert [json.loads(answers[place][2])["balances"][1]["posted"] for place in (0, 4)] == [
            1_00,
            2_00,
        ]
        made = OutboxEvent.objects.filter(request_id__in=ids).values_list("request_id", flat=True)
        assert set(made) == {ids[0], ids[4]}

    def test_the_same_key_twice_is_posted_once(self, both):
        first, second = both.by_lane(*(both.environ(key="twice") for _ in range(2)))

        assert (first[0], second[0]) == (201, 201)
        assert json.loads(first[2])["id"] == json.loads(second[2])["id"]
        assert "Idempotent-Replayed" not in first[1]
        assert second[1]["Idempotent-Replayed"] == "true"

    def test_of_several_organizations_each_moves_its_own_money(self, both):
        other = Both()

        answers = both.by_lane(both.environ(), other.environ(key="other"), both.environ())

        assert [answer[0] for answer in answers] == [201, 201, 201]
        [foreign] = both.by_lane(
            other.environ(key="foreign", HTTP_AUTHORIZATION=f"Bearer {both.token}")
        )
        assert json.loads(foreign[2])["code"] == "unknown_ledger_account"

    def test_of_several_organizations_plain_transfers_are_one_trip(self, both):
        others = [Both() for _ in range(3)]
        asked = [one.environ(key=f"of-{place}") for place, one in enumerate([both, *others])]
        too_much = others[1].transfer(amount=5_000_00)
        asked[2] = others[1].environ(too_much, key="too-much")
        # Keys are looked up, and statements prepared.
        both.by_lane(*(one.environ(key="warm") for one in (both, *others)))
        before = statements.trips()

        parts = both.lane.admit(asked)

        # The keys of all, and the transfers of all; what is not plain is left.
        assert statements.trips() == before + 1
        # Whose part is done waits for no turn of its organization's.
        assert {part.organization_id for part in parts} == {None, others[1].organization.id}
        answers = {p: a for part in parts for p, a in zip(part.places, part.answer(), strict=True)}
        assert [answers[place].status for place in range(4)] == [201, 201, 422, 201]
        assert [queries.get_balance(
            organization_id=one.organization.id, account_id=one.bob
        ).posted for one in (both, *others)] == [2_00, 2_00, 1_00, 2_00]  # fmt: skip

    def test_of_one_organization_under_two_keys_are_one_transaction(self, both):
        second = issue_key(both.organization, "transfers:write").token

        answers = both.by_lane(both.environ(), both.environ(HTTP_AUTHORIZATION=f"Bearer {second}"))

        assert [answer[0] for answer in answers] == [201, 201]
        made = [json.loads(answer[2])["created_at"] for answer in answers]
        assert len(set(made)) == 1

    def test_a_fault_of_what_is_done_ahead_leaves_all_to_be_done(self, both, monkeypatch):
        def fail(_asked):
            raise ValueError("A bug.")

        monkeypatch.setattr(operations, "post_plain", fail)

        [(status, _, _)] = both.by_lane(both.environ())

        assert status == 201

    def test_what_is_djangos_among_them_is_left_and_the_rest_answered(self, both):
        answers = answers_of(
            both.lane, [both.environ(), both.environ(HTTP_HOST="evil.example"), both.environ()]
        )

        assert [answer and answer.status for answer in answers] == [201, None, 201]

    def test_one_that_is_no_request_at_all_is_djangos_and_harms_nobody(self, both):
        odd = both.environ(CONTENT_TYPE="application/json; charset*=bogus''%41")

        answers = answers_of(both.lane, [both.environ(), odd, both.environ()])

        assert [answer and answer.status for answer in answers] == [201, None, 201]

    def test_a_fault_that_all_meet_is_told_to_each(self, both, monkeypatch):
        def fail(**_):
            raise OperationalError("The way to Postgres is gone.")

        monkeypatch.setattr(operations, "post_asked", fail)
        answers = both.by_lane(both.environ(), both.environ(b"{"), both.environ())

        assert [answer[0] for answer in answers] == [503, 400, 503]
        assert not places._in_flight

    def test_what_cannot_be_printed_is_djangos_which_finds_it_done(self, both, monkeypatch):
        def fail(*_):
            raise RuntimeError("No header can be made.")

        monkeypatch.setattr("config.express.list_headers", fail)
        assert answers_of(both.lane, [both.environ(key="unprinted")]) == [None]
        answer = both.by_django(both.environ(key="unprinted"))

        assert (answer[0], answer[1]["Idempotent-Replayed"]) == (201, "true")

    def test_what_was_done_is_answered_though_its_line_cannot_be_written(
        self, both, monkeypatch, caplog
    ):
        def fail(_lines):
            raise MemoryError

        monkeypatch.setattr("config.express.write_requests", fail)
        [answer] = both.by_lane(both.environ())

        assert answer[0] == 201
        assert "lines_not_written" in caplog.text

    def test_a_key_beyond_its_rate_is_refused_from_there_on(self, both, settings):
        settings.API_RATE_PER_SECOND, settings.API_RATE_BURST = 0.001, 3

        answers = both.by_lane(*(both.environ() for _ in range(5)))

        assert [answer[0] for answer in answers] == [201, 201, 201, 429, 429]
        assert not places._in_flight

    def test_what_has_no_place_is_not_counted_against_its_keys_rate(
        self, both, settings, monkeypatch
    ):
        settings.API_IN_FLIGHT_MAX = settings.WEB_PROCESSES = 1
        other, counted, measure = Both(), [], rates.shared.measure

        def counting(asked, limits):
            counted.append([question.wanted for question in asked])
            return measure(asked, limits)

        monkeypatch.setattr(rates.shared, "measure", counting)
        answers = both.by_lane(*(both.environ() for _ in range(3)), other.environ(key="other"))

        assert [answer[0] for answer in answers] == [201, 429, 429, 201]
        assert counted == [[1, 1]]
        assert not places._in_flight

    def test_what_is_given_up_keeps_no_place_and_may_be_asked_for_again(self, both):
        # Under a reference, so that nothing of it is done ahead.
        named = both.transfer(reference="order-1")
        parts = both.lane.admit([both.environ(named, key="given-up"), both.environ(b"{")])
        assert [part.organization_id for part in parts] == [None, both.organization.id]
        assert sum(places._in_flight.values()) == 1
        for part in parts:
            part.give_up()
        assert not places._in_flight

        [(status, headers, _)] = both.by_lane(both.environ(named, key="given-up"))

        assert (status, headers.get("Idempotent-Replayed")) == (201, None)

    def test_a_thread_that_is_ended_while_admitting_keeps_no_place(self, both, monkeypatch):
        ask, asked = operations.ask_transfer, []

        def ended(**given):
            asked.append(given)
            if len(asked) == 2:
                raise SystemExit
            return ask(**given)

        monkeypatch.setattr(operations, "ask_transfer", ended)
        with pytest.raises(SystemExit):
            both.lane.admit([both.environ(), both.environ()])

        assert not places._in_flight


class TestDoneAhead:
    """What organizations ask for alone is done when it is admitted, and answered together."""

    def test_is_one_part_of_which_each_has_its_own_and_one_record_of_the_log(self, both, caplog):
        caplog.set_level(logging.INFO)
        asked = {f"own-{number:05}": one for number, one in enumerate([both, Both(), Both()])}

        parts = both.lane.admit(
            [one.environ(HTTP_REQUEST_ID=id_) for id_, one in asked.items()]
            + [both.environ(b"{", HTTP_REQUEST_ID="refused-1")]
        )
        assert [part.organization_id for part in parts] == [None]
        assert not places._in_flight
        answers = [read_answer(*answer) for answer in parts[0].answer()]

        ids = [*asked, "refused-1"]
        assert [answer[0] for answer in answers] == [201, 201, 201, 400]
        assert [answer[1]["Request-Id"] for answer in answers] == ids
        for one, (_, _, content) in zip(asked.values(), answers, strict=False):
            accounts = [balance["ledger_account"] for balance in json.loads(content)["balances"]]
            assert accounts == [encode_id("la", one.ann), encode_id("la", one.bob)]
        [record] = [record for record in caplog.records if record.name == "kassa.request"]
        assert [(line["request_id"], line["status"]) for line in record.msg] == list(
            zip(ids, [201, 201, 201, 400], strict=True)
        )

    def test_of_a_replay_is_said_to_whom_it_is_one(self, both):
        other = Both()
        [first] = both.by_lane(both.environ(key="again"))

        # What stands under a key is the engine's to say, in a part of its own.
        replayed, fresh = both.by_lane(both.environ(key="again"), other.environ())

        assert (first[0], replayed[0], fresh[0]) == (201, 201, 201)
        assert replayed[1].get("Idempotent-Replayed") == "true"
        assert "Idempotent-Replayed" not in fresh[1]
        assert json.loads(first[2])["id"] == json.loads(replayed[2])["id"]

    @pytest.mark.parametrize("faults", [0, 1])
    def test_a_fault_in_showing_one_is_its_own(self, both, monkeypatch, faults):
        """Also where not even the answer about the fault can be made, at first."""
        other, take, respond = Both(), operations.take_result, problems.respond
        left = [RuntimeError("No answer can be made.")] * faults

        def take_result(ticket):
            if ticket.command.debit_account_id == both.ann:
                raise ValueError("A bug.")
            return take(ticket)

        def responding(fault, request):
            if left:
                raise left.pop()
            return respond(fault, request)

        monkeypatch.setattr(operations, "take_result", take_result)
        monkeypatch.setattr(problems, "respond", responding)
        answers = both.by_lane(both.environ(), other.environ())

        assert [answer[0] for answer in answers] == [500, 201]
        assert left == []
        assert not places._in_flight

    def test_without_a_connection_each_is_told_so(self, both, monkeypatch):
        def away(_asked):
            raise OperationalError("The way to Postgres is gone.")

        monkeypatch.setattr(_plain, "post", away)
        answers = both.by_lane(both.environ(), Both().environ())

        assert [answer[0] for answer in answers] == [503, 503]
        assert not places._in_flight

    def test_a_thread_that_is_ended_while_they_are_shown_keeps_no_place(self, both, monkeypatch):
        take, taken = operations.take_result, []

        def ended(ticket):
            taken.append(ticket)
            if len(taken) == 2:
                raise SystemExit
            return take(ticket)

        monkeypatch.setattr(operations, "take_result", ended)
        with pytest.raises(SystemExit):
            both.lane.admit([both.environ(), Both().environ()])

        assert not places._in_flight

    def test_a_fault_after_they_were_admitted_keeps_no_place(self, both, monkeypatch):
        def fail():
            raise RuntimeError("No connection can be closed.")

        def post_plain(_asked):
            connection.errors_occurred = True

        monkeypatch.setattr("config.express.close_old_connections", fail)
        monkeypatch.setattr(operations, "post_plain", post_plain)
        with pytest.raises(RuntimeError):
            both.lane.admit([both.environ(both.transfer(reference="order-1"))])

        assert not places._in_flight


class TestLogOfMany:
    def test_what_goes_wrong_is_said_of_the_request_that_it_is_of(self, both, caplog):
        """And what is of all of them, of the first that was posted: not of the one refused last."""
        # Its next posting has the version of the one before, which Postgres refuses.
        both.by_lane(both.environ())
        corrupt("UPDATE ledger_balance SET version = version - 1 WHERE id = %s", both.bob)
        cat = both._customer()
        fine = both.transfer(credit_account=encode_id("la", cat))
        asked = {
            "not-json": b"{", "fine-one": fine, "broken-one": both.transfer(), "fine-two": fine,
            "no-field": b"{}",
        }  # fmt: skip

        answers = both.by_lane(
            *(both.environ(body, HTTP_REQUEST_ID=id_) for id_, body in asked.items())
        )

        assert [answer[0] for answer in answers] == [400, 201, 500, 201, 400]
        said = [
            (record.msg["event"], record.msg["request_id"])
            for record in caplog.records
            if isinstance(record.msg, dict)
        ]
        assert said == [
            # By the group as one statement, by the engine, and by itself.
            ("plain_transfer_failed", "fine-one"),
            ("group_split", "fine-one"),
            ("request_failed", "broken-one"),
        ]
        assert queries.get_balance(organization_id=both.organization.id, account_id=cat).posted == (
            2_00
        )
        corrupt("UPDATE ledger_balance SET version = version + 1 WHERE id = %s", both.bob)


class TestInProduction:
    @pytest.fixture
    def both(self, settings):
        settings.SECURE_SSL_REDIRECT = True
        settings.SECURE_HSTS_SECONDS = 63_072_000
        settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
        settings.ALLOWED_HOSTS = [".kassa.example"]
        return Both()

    def test_tls_is_wanted_and_promised(self, both):
        secure = {"HTTP_HOST": "api.kassa.example", "HTTP_X_FORWARDED_PROTO": "https"}

        _status, headers, _content = assert_same(both, **secure)

        assert headers["Strict-Transport-Security"].startswith("max-age=63072000; includeSub")
        for host in ("api.kassa.example", "kassa.example:8443"):
            assert_same(both, **secure | {"HTTP_HOST": host})
        evil = assert_left_to_django(both, **secure | {"HTTP_HOST": "kassa.evil"})
        assert evil[0] == HTTPStatus.BAD_REQUEST

    def test_plain_http_is_sent_to_tls(self, both):
        answer = assert_left_to_django(both, HTTP_HOST="api.kassa.example")

        assert answer[0] == HTTPStatus.MOVED_PERMANENTLY


class TestLog:
    def test_says_the_same_of_a_request(self, both, caplog):
        caplog.set_level(logging.INFO)
        for changes in ({}, {"HTTP_AUTHORIZATION": None}, {"body": b"{}"}):
            caplog.clear()
            assert_same(both, **changes)
            own = {"duration_ms", "ts", "request_id"}
            by_django, by_lane = [
                {name: value for name, value in line.items() if name not in own}
                for line in lines_of_requests(caplog)
            ]
            assert by_django == by_lane
            others = [
                (record.levelname, record.getMessage())
                for record in caplog.records
                if record.name == "django.request"
            ]
            assert others[::2] == others[1::2]


def test_the_tests_middleware_is_what_the_lane_knows():
    """Whoever adds middleware learns here that the lane has to know of it."""
    assert django_settings.MIDDLEWARE == [
        "django.middleware.security.SecurityMiddleware",
        "whitenoise.middleware.WhiteNoiseMiddleware",
        "config.middleware.RequestContextMiddleware",
        "config.middleware.ApiHeadersMiddleware",
        "config.middleware.StaffFormsMiddleware",
        "config.middleware.StaffSessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "csp.middleware.CSPMiddleware",
    ]
