"""The requests that the load driver sends, made beforehand as bytes."""

import base64
import hmac
import json
import time
from itertools import cycle
from typing import Any

# One request is `head + key + tail`; a pool is walked round and round by its connections.
type Pool = list[tuple[bytes, bytes]]

_BATCH_TURNS = 4
_PER_TENANT_MAX = 500
_OTHERS_MAX = 10
_FIRST_SHARE = 9


def key_of(label: str, pool: int, number: int) -> bytes:
    """Return what no other request is named by: its Idempotency-Key, or its event's id."""
    return f"{label}-{pool}-{number:x}".encode()


def make_pools(order: dict[str, Any]) -> list[Pool]:
    """
    Return the pools of an order; connection number n walks pool n modulo their count.

    Single transfers have one pool in which the organisations take turns. Batches have one for each
    half of the accounts, so that two can run at once: a batch of 8,000 locks all it has. A
    provider's events have one, each about another card: sent twice, an event would be refused,
    since what is signed names it.
    """
    if order.get("hook"):
        return [_signed(order["hook"], order["label"])]
    if order["batch"]:
        return _batch_pools(order)
    tenants = order["tenants"]
    if order.get("by_size"):
        return [_by_size(order["path"], tenants)]
    each = [_transfers(tenant["accounts"], hot=order["hot"]) for tenant in tenants]
    if len(each) > 1:
        each = [bodies[:_PER_TENANT_MAX] for bodies in each]
    heads = [_head(order["path"], tenant["token"]) for tenant in tenants]
    longest = max(map(len, each))
    return [
        [
            (heads[place], _tail(bodies[turn % len(bodies)]))
            for turn in range(longest)
            for place, bodies in enumerate(each)
        ]
    ]


def _by_size(path: str, tenants: list[dict[str, Any]]) -> Pool:
    """Return a pool in which the first organisation sends nine of ten, and the others the tenth."""
    first, *others = tenants
    head = _head(path, first["token"])
    most = cycle(_transfers(first["accounts"], hot=False))
    heads = [_head(path, tenant["token"]) for tenant in others]
    each = [_transfers(tenant["accounts"], hot=False) for tenant in others]
    few = [
        (heads[place], _tail(bodies[turn % len(bodies)]))
        for turn in range(_OTHERS_MAX)
        for place, bodies in enumerate(each)
    ]
    return [
        request
        for rare in few
        for request in (*((head, _tail(next(most))) for _ in range(_FIRST_SHARE)), rare)
    ]


def _head(path: str, token: str) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nIdempotency-Key: "
    ).encode()


def _tail(body: bytes) -> bytes:
    return b"\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _transfers(accounts: list[str], *, hot: bool) -> list[bytes]:
    """
    Return one transfer out of every account, in a scattered order.

    Each goes to the account half the round away (or all to the first one), so that those in flight
    together share no account by construction, and a round leaves every balance as it was.
    """
    listed = accounts[1:] if hot else accounts
    count = len(listed)
    order = _scattered(listed)
    return [
        _body(order[place], accounts[0] if hot else order[(place + count // 2) % count])
        for place in range(count)
    ]


def _scattered(accounts: list[str]) -> list[str]:
    step = 7919 if len(accounts) % 7919 else 7907
    return [accounts[place * step % len(accounts)] for place in range(len(accounts))]


def _body(debit: str, credit: str) -> bytes:
    return (
        f'{{"debit_account":{json.dumps(debit)},"credit_account":{json.dumps(credit)},'
        '"amount":1,"currency":"EUR"}'
    ).encode()


def _batch_pools(order: dict[str, Any]) -> list[Pool]:
    [tenant] = order["tenants"]
    head = _head(order["path"], tenant["token"])
    half = len(tenant["accounts"]) // 2
    pools: list[Pool] = []
    for accounts in (tenant["accounts"][:half], tenant["accounts"][half:]):
        listed = _scattered(accounts)
        pools.append(
            [(head, _tail(_batch(listed, order["batch"], t))) for t in range(_BATCH_TURNS)]
        )
    return pools


def _batch(accounts: list[str], size: int, turn: int) -> bytes:
    count = len(accounts)
    away = count // 2 + turn
    rows = [
        _body(accounts[place % count], accounts[(place + away) % count]) for place in range(size)
    ]
    return b'{"mode":"atomic","transfers":[' + b",".join(rows) + b"]}"


def _signed(hook: dict[str, Any], label: str) -> Pool:
    """Return one event for each card, signed now, which holds for five minutes."""
    secret = base64.b64decode(hook["secret"].removeprefix("whsec_"))
    at = b"%d" % int(time.time())
    head = (
        f"POST {hook['path']} HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/json\r\nwebhook-id: "
    ).encode()
    pool = []
    for number in range(hook["count"]):
        body = b'{"type":"%b","data":{"id":"card_%d"}}' % (hook["type"].encode(), number)
        said = b"%b.%b.%b" % (key_of(label, 0, number), at, body)
        signature = base64.b64encode(hmac.digest(secret, said, "sha256"))
        signed = b"\r\nwebhook-timestamp: %b\r\nwebhook-signature: v1,%b" % (at, signature)
        pool.append((head, signed + _tail(body)))
    return pool
