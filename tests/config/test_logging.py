"""A request's line in the log: what it always says, and nothing that a client chose."""

import json
import logging
import select

import pytest
from django.test import Client

from apps.core import context, counters
from config.logging import (
    TOGETHER_MAX,
    add_request,
    describe_request,
    log_request,
    make_logging,
    write_requests,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def lines(settings):
    """What the process would write to standard output, in either form."""
    written: dict[str, list[str]] = {"json": [], "console": []}
    requests = logging.getLogger("kassa.request")
    before = requests.level
    requests.setLevel(logging.INFO)
    handlers = [_Keeping(form, written[form]) for form in written]
    for handler in handlers:
        requests.addHandler(handler)
    yield written
    for handler in handlers:
        requests.removeHandler(handler)
    requests.setLevel(before)


class _Keeping(logging.Handler):
    def __init__(self, form: str, kept: list[str]) -> None:
        super().__init__()
        made = make_logging(level="INFO", form=form)["formatters"]["lines"]
        factory = made.pop("()")
        self.setFormatter(factory(**made))
        self.kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(self.format(record))


def test_says_what_was_asked_and_what_came_of_it(lines):
    response = Client().post("/v1/ledger-accounts/la_00000000000000000000000000?x=1")

    [line] = lines["json"]
    said = json.loads(line)
    assert said.pop("duration_ms") >= 0
    assert said.pop("ts").endswith("Z")
    assert said == {
        "method": "POST",
        "route": "v1/ledger-accounts/<str:account_id>",
        "status": 401,
        "replayed": False,
        "event": "request",
        "level": "info",
        "logger": "kassa.request",
        "request_id": response.headers["Request-Id"],
    }
    assert "la_" not in line


def test_names_the_trace_that_it_came_with(lines):
    trace = "0af7651916cd43dd8448eb211c80319c"
    Client().get("/v1/me", headers={"Traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    Client().get("/v1/me", headers={"Traceparent": "00-not-a-trace-01"})

    traced, untraced = map(json.loads, lines["json"])
    assert traced["trace_id"] == trace
    assert "trace_id" not in untraced


def test_of_a_row_at_work_names_its_trace():
    with context.in_trace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
        said = add_request(None, "info", {"event": "consumer_failed"})

    assert said["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert "trace_id" not in add_request(None, "info", {"event": "consumer_failed"})


def test_is_readable_in_a_terminal(lines):
    Client().get("/v1/me")

    [line] = lines["console"]
    assert "request" in line
    assert "status=401" in line
    assert "route=v1/me" in line


class TestTogether:
    """The lines of requests that were answered together."""

    # What the longest id and trace that we take make of it, under the longest of the lane's words.
    LONGEST = context.RequestContext(
        request_id="r" * 64, traceparent=f"00-{'a' * 32}-{'b' * 16}-01", is_given=True
    )

    def described(self, count):
        return [
            describe_request(self.LONGEST, method="POST", route="v1/transfers", status=200 + place)
            for place in range(count)
        ]

    @pytest.mark.parametrize("form", ["json", "console"])
    def test_are_lines_of_their_own(self, lines, form):
        write_requests(self.described(3))

        [written] = lines[form]
        spelled = '"status":20{}' if form == "json" else "status=20{}"
        assert len(written.splitlines()) == 3
        for place, line in enumerate(written.splitlines()):
            assert spelled.format(place) in line

    def test_are_pieces_that_a_pipe_takes_whole(self, lines):
        """Or processes with one standard output would break into each other's lines."""
        write_requests(self.described(2 * TOGETHER_MAX + 1))

        pieces = [piece.splitlines() for piece in lines["json"]]
        assert [len(piece) for piece in pieces] == [TOGETHER_MAX, TOGETHER_MAX, 1]
        said = [json.loads(line)["status"] for piece in pieces for line in piece]
        assert said == [200 + place for place in range(2 * TOGETHER_MAX + 1)]
        assert max(len(f"{piece}\n".encode()) for piece in lines["json"]) <= select.PIPE_BUF

    def test_of_nothing_are_none(self, lines):
        write_requests([])

        assert lines == {"json": [], "console": []}


def test_masks_an_id_that_a_client_chose(lines):
    for chosen in ("4111111111111111", "kassa_live_abcdefgh", "DE89370400440532013000"):
        response = Client().get("/v1/me", headers={"Request-Id": chosen})
        assert response.headers["Request-Id"] == chosen

    assert [json.loads(line)["request_id"] for line in lines["json"]] == [
        "[pan]",
        "[key]",
        "[iban]",
    ]


def test_is_not_made_where_nobody_listens(lines):
    logging.getLogger("kassa.request").setLevel(logging.WARNING)

    log_request(context.begin(), method="GET", route="v1/me", status=200)
    described = describe_request(context.begin(), method="POST", route="v1/transfers", status=201)
    write_requests([described])

    assert lines["json"] == []


@pytest.mark.parametrize("path", ["/v1/me", "/admin/login/", "/livez", "/hooks/sandbox/pvc_1"])
@pytest.mark.parametrize("host", ["a.example", "a b", "[", "xn--", "a.example:99999999"])
def test_a_strange_host_is_counted_and_no_error(host, path, metrics_folder, caplog):
    caplog.set_level(logging.DEBUG)

    answer = Client().post(path, headers={"Host": host})

    assert answer.status_code == 400
    assert counters.read()["kassa_strange_hosts_total"] == 1
    assert [one for one in caplog.records if one.levelno > logging.WARNING] == []
    assert not [one for one in caplog.records if host in one.getMessage() or one.exc_info]
