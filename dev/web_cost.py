"""
`python -m dev.web_cost`: processor time of POST /v1/transfers without the ledger's part.

Processor time of one process, not throughput: it says the same on a machine where others work. The
whole way of a request is walked but for the HTTP server and the ledger: middleware or express lane,
key, rate, JSON, ids, headers, the log line into a file; by the lane both alone and with as many as
gather under load. It needs Valkey (`make services`) and no
database: the row of the key is made up.
"""

import io
import json
import math
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from config.express import ExpressLane

ROUNDS, REQUESTS = 20, 256
GATHERED = 32
_PATH = "/v1/transfers"


def main() -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings.local",
        "KASSA_ROLE": "web",
        "KASSA_LOG_LEVEL": "INFO",
        "KASSA_LOG_FORMAT": "json",
        "API_RATE_PER_SECOND": "100000",
        "API_RATE_BURST": "200000",
    }
    # Standard output is where the log goes, from the moment that the settings are read.
    with tempfile.TemporaryFile("w") as log, redirect_stdout(log):
        costs = _measure()
    for name, microseconds in costs.items():
        print(f"{name:9s} {microseconds:6.1f} µs a request")


def _measure() -> dict[str, float]:
    # Not before: the environment is made above, and importing this sets Django up.
    from django.core.handlers.wsgi import WSGIHandler  # noqa: PLC0415

    import config.rsgi  # noqa: PLC0415,F401  (as the server does)
    from config.express import ExpressLane  # noqa: PLC0415

    environ = _make_environ(_known_token())
    _leave_the_ledger_out()
    django, lane = WSGIHandler(), ExpressLane()
    return {
        f"lane, {GATHERED}": _cost(lambda: _ask_lane(lane, environ, GATHERED), GATHERED),
        "lane, 1": _cost(lambda: _ask_lane(lane, environ, 1), 1),
        "django": _cost(lambda: _ask_django(django, environ), 1),
    }


def _cost(ask: Callable[[], None], requests: int) -> float:
    """Return the least of several rounds: what others take of the caches only adds."""
    least = math.inf
    for _ in range(1 + ROUNDS):
        started = time.process_time()
        for _ in range(REQUESTS // requests):
            ask()
        least = min(least, time.process_time() - started)
    return 1e6 * least / REQUESTS


def _ask_lane(lane: "ExpressLane", environ: dict[str, Any], requests: int) -> None:
    parts = lane.admit(
        [environ | {"wsgi.input": io.BytesIO(environ["body"])} for _ in range(requests)]
    )
    answers = [answer for part in parts for answer in part.answer()]
    if [answer and answer.status for answer in answers] != [201] * requests:
        raise RuntimeError(answers)


def _ask_django(application: Callable[..., Any], environ: dict[str, Any]) -> None:
    came: list[str] = []
    answer = application(
        environ | {"wsgi.input": io.BytesIO(environ["body"])},
        lambda status, _headers: came.append(status),
    )
    b"".join(answer)
    answer.close()
    if came != ["201 Created"]:
        raise RuntimeError(came)


def _make_environ(token: str) -> dict[str, Any]:
    from apps.core.ids import encode_id, new_ids  # noqa: PLC0415

    debit, credit = (encode_id("la", id_) for id_ in new_ids(2))
    asked = {"debit_account": debit, "credit_account": credit, "amount": 1, "currency": "EUR"}
    raw = json.dumps(asked).encode()
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": _PATH,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
        "HTTP_AUTHORIZATION": f"Bearer {token}",
        "HTTP_IDEMPOTENCY_KEY": "cost-1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(raw)),
        "wsgi.url_scheme": "http",
        "body": raw,
    }


def _known_token() -> str:
    from django.conf import settings  # noqa: PLC0415

    from apps.accounts import queries, rules  # noqa: PLC0415
    from apps.accounts.queries import StoredKey  # noqa: PLC0415
    from apps.core import clock  # noqa: PLC0415
    from apps.core.ids import new_id  # noqa: PLC0415

    token = rules.make_token(
        mode="live",
        key_id_entropy=secrets.token_bytes(rules.KEY_ID_BYTES),
        secret_entropy=secrets.token_bytes(rules.SECRET_BYTES),
    )
    key = StoredKey(
        id=new_id(),
        organization_id=new_id(),
        mode="live",
        secret_digest=rules.digest_secret(token.secret, pepper=settings.KASSA_PEPPER),
        scopes=frozenset({"transfers:write"}),
        addresses=(),
        kassa_version="2026-11-01",
        issued_by_id=new_id(),
        expires_at=clock.now() + timedelta(days=365),
        revoked_at=None,
        last_used_at=clock.now(),
    )
    queries.find_stored_keys = lambda *, key_ids: dict.fromkeys({*key_ids} & {token.key_id}, key)
    return rules.print_token(token)


def _leave_the_ledger_out() -> None:
    from apps.core.ids import new_id  # noqa: PLC0415
    from apps.ledger import operations  # noqa: PLC0415
    from apps.ledger.operations import Ticket, TransferResult  # noqa: PLC0415
    from apps.ledger.rules import Outcome, PostedLine  # noqa: PLC0415

    def take_result(asked: Ticket) -> TransferResult:
        entry_id = new_id()
        accounts = (asked.command.debit_account_id, asked.command.credit_account_id)
        lines = tuple(PostedLine(id_, 1, "EUR", 3, 100, 100) for id_ in accounts)
        outcome = Outcome(
            cast("Any", asked.command), "posted", entry_id, effective_at=asked.now, lines=lines
        )
        return TransferResult(entry_id, outcome, recorded_at=asked.now)

    operations.post_asked = lambda **_: None
    operations.take_result = take_result


if __name__ == "__main__":
    main()
