"""
What a sender does with names that turn inwards, by the C library's resolver and a real name server.

Run in namespaces of its own (`unshare --map-root-user --mount --net`), where port 53 is free and
`/etc/resolv.conf` may name it. Prints what became of each attempt, as JSON.
"""

import datetime as dt
import fcntl
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from uuid import UUID

from apps.webhooks.adapters import addresses
from apps.webhooks.adapters.sender import Message, Sender
from apps.webhooks.rules import targets
from apps.webhooks.rules.targets import Policy, Target
from tests.webhooks.receiver import Receiver

PUBLIC, INNER, HOME, NEIGHBOR = "93.184.216.34", "10.0.0.7", "127.0.0.1", "127.0.0.2"

# What each question for a name is answered, one after the other; the last again and again.
ANSWERS = {
    "rebind.example": [[PUBLIC], [HOME]],
    "mixed.example": [[PUBLIC, INNER]],
    "alias.example": [["inner.example", INNER]],
    "once.example": [[NEIGHBOR], [HOME]],
    "six.example": [[PUBLIC]],
}
# And what it is answered if it asks for IPv6; the others have none.
INNER_V6 = {"six.example": "fd00::7"}
_A, _CNAME, _AAAA = 1, 5, 28
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


class NameServer:
    """Answers over UDP on port 53; every record may be kept for 0 seconds."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOME, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            question, client = self._socket.recvfrom(512)
            self._socket.sendto(self._answer(question), client)

    def _answer(self, message: bytes) -> bytes:
        end = message.index(b"\0", 12) + 5
        name, kind = _read_name(message[12 : end - 4]), int.from_bytes(message[end - 4 : end - 2])
        records = self._records(name) if kind == _A else []
        if kind == _AAAA and name in INNER_V6:
            address = socket.inet_pton(socket.AF_INET6, INNER_V6[name])
            records = [_write_name(name) + struct.pack(">HHIH", _AAAA, 1, 0, 16) + address]
        head = message[:2] + struct.pack(">HHHHH", 0x8180, 1, len(records), 0, 0)
        return head + message[12:end] + b"".join(records)

    def _records(self, name: str) -> list[bytes]:
        known = ANSWERS.get(name, [[]])
        found = known[min(self.asked[name], len(known) - 1)]
        self.asked[name] += 1
        owner, records = _write_name(name), []
        for each in found:
            is_address = each[0].isdigit()
            data = socket.inet_aton(each) if is_address else _write_name(each)
            kind = _A if is_address else _CNAME
            records.append(owner + struct.pack(">HHIH", kind, 1, 0, len(data)) + data)
            owner = owner if is_address else data
        return records


def _read_name(labels: bytes) -> str:
    found, place = [], 0
    while length := labels[place]:
        found.append(labels[place + 1 : place + 1 + length].decode())
        place += 1 + length
    return ".".join(found)


def _write_name(name: str) -> bytes:
    return b"".join(bytes([len(each)]) + each.encode() for each in name.split(".")) + b"\0"


def _settle_in() -> None:
    """Bring the loopback up, and have the C library ask our name server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sH14x", b"lo", 0)
        _, flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, asked))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
    conf = Path(tempfile.mkdtemp()) / "resolv.conf"
    conf.write_text(f"nameserver {HOME}\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", conf, "/etc/resolv.conf"], check=True)


def _send(target: Target, policy: Policy) -> dict[str, object]:
    sender = Sender(policy=policy)
    attempt = sender.send(
        Message(
            delivery_id=UUID(int=1),
            number=1,
            target=target,
            headers={"webhook-id": "evt_1"},
            body=b"{}",
            started_at=dt.datetime(2026, 11, 2, 12, tzinfo=dt.UTC),
        )
    )
    sender.close()
    return {"outcome": attempt.outcome, "address": attempt.address}


def main() -> None:
    _settle_in()
    names = NameServer()
    told: dict[str, object] = {}
    with Receiver() as home:
        policy = Policy(ports=frozenset({home.port}))
        for host in ("rebind.example", "mixed.example", "alias.example", "six.example"):
            target = targets.parse_url(f"https://{host}:{home.port}/", policy=policy)
            if host == "rebind.example":
                # When it is saved it leads outwards.
                addresses.check_at_save(target, policy=policy)
            told[host] = _send(target, policy) | {"asked": names.asked[host]}
        with Receiver(host=NEIGHBOR, port=home.port) as neighbor:
            allowed = Policy(allow_networks=targets.parse_networks([f"{NEIGHBOR}/32"]))
            target = Target(scheme="http", host="once.example", port=home.port, path="/hook")
            told["once.example"] = _send(target, allowed) | {
                "asked": names.asked["once.example"],
                "received": len(neighbor.requests),
            }
        told["connections_at_home"] = home.connections
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
