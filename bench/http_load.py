"""A load driver: keep-alive connections in a closed loop over loopback, in a process of its own."""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

_STATUS_AT = slice(9, 12)


@dataclass(slots=True)
class Load:
    """What was measured: answers by status, and each one's seconds."""

    seconds: float
    statuses: dict[str, int]
    latencies: list[float]

    @property
    def per_second(self) -> float:
        return self.statuses.get("201", 0) / self.seconds

    def percentile(self, part: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


async def _client(
    port: int, head: bytes, body: Callable[[int], bytes], name: str, until: float, load: Load
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    while (started := time.perf_counter()) < until:
        number += 1
        raw = body(number)
        writer.write(
            head
            + f"Idempotency-Key: {name}-{number}\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
            + raw
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        status = answer[_STATUS_AT].decode()
        load.statuses[status] = load.statuses.get(status, 0) + 1
        load.latencies.append(time.perf_counter() - started)
        if b"connection: close" in answer.lower():
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def drive(
    *, port: int, path: str, token: str, bodies: Callable[[int], Callable[[int], bytes]],
    clients: int, seconds: float, label: str,
) -> Load:  # fmt: skip
    """POST from `clients` connections for `seconds`; `bodies(client)(number)` is each body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\n"
    ).encode()
    load = Load(seconds, {}, [])
    until = time.perf_counter() + seconds
    await asyncio.gather(
        *(
            _client(port, head, bodies(number), f"{label}-{number}", until, load)
            for number in range(clients)
        )
    )
    return load


def transfer_bodies(accounts: list[str], *, hot: bool) -> Callable[[int], Callable[[int], bytes]]:
    """Return bodies that move one unit between accounts; `hot` credits always the first one."""

    def of_client(client: int) -> Callable[[int], bytes]:
        def body(number: int) -> bytes:
            place = (client * 7919 + number * 104_729) % (len(accounts) - 1)
            return json.dumps(
                {
                    "debit_account": accounts[place + 1],
                    "credit_account": accounts[0 if hot else (place + 2) % len(accounts)],
                    "amount": 1,
                    "currency": "EUR",
                }
            ).encode()

        return body

    return of_client


def batch_bodies(accounts: list[str], *, size: int) -> Callable[[int], Callable[[int], bytes]]:
    """Return bodies of `size` transfers each."""
    one = transfer_bodies(accounts, hot=False)

    def of_client(client: int) -> Callable[[int], bytes]:
        def body(number: int) -> bytes:
            rows = [one(client)(number * size + place) for place in range(size)]
            return b'{"mode":"atomic","transfers":[' + b",".join(rows) + b"]}"

        return body

    return of_client


def main() -> None:
    """Read one order from standard input, run it, and print what was measured as JSON."""
    order = json.load(sys.stdin)
    accounts = order["accounts"]
    bodies = (
        batch_bodies(accounts, size=order["batch"])
        if order["batch"]
        else transfer_bodies(accounts, hot=order["hot"])
    )
    load = asyncio.run(
        drive(
            port=order["port"],
            path=order["path"],
            token=order["token"],
            bodies=bodies,
            clients=order["clients"],
            seconds=order["seconds"],
            label=order["label"],
        )
    )
    print(
        json.dumps(
            {
                "per_second": load.per_second,
                "statuses": load.statuses,
                "p50": load.percentile(0.5),
                "p99": load.percentile(0.99),
            }
        )
    )


if __name__ == "__main__":
    main()
