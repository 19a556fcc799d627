"""A mail server on loopback that says what a test has it say, and keeps what it was given."""

from __future__ import annotations

import contextlib
import email
import socketserver
import threading
from dataclasses import dataclass, field
from email import policy
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from email.message import EmailMessage

# Hang up without a word; say nothing, and stay.
GONE = ""
SILENT = "silent"


@dataclass
class MailServer:
    """
    What it answers to RCPT, DATA and the message's end (`.`), in turn, and the last one ever after.

    What came to its end is kept, whatever was answered then; and so is what was said to it after it
    had fallen silent.
    """

    answers: dict[str, list[str]] = field(default_factory=dict)
    recipients: list[str] = field(default_factory=list)
    messages: list[EmailMessage] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    unanswered: list[bytes] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Conversation)
        self._server.daemon_threads = True
        self._server.house = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def ids(self) -> list[str]:
        """Return the Message-IDs of what came, in the order of its coming."""
        return [str(message["Message-ID"]) for message in self.messages]

    def answer(self, command: str) -> str:
        """Return what is said now."""
        usual = {"DATA": "354 go on", "QUIT": "221 bye"}.get(command, "250 ok")
        said = self.answers.get(command, [usual])
        return said.pop(0) if len(said) > 1 else said[0]


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        # Clients that were killed, or have heard enough, end in the midst of it.
        with contextlib.suppress(ConnectionError):
            self.say(self.house.answer("HELLO").replace("250 ok", "220 mail.test"))
            while line := self.rfile.readline():
                if not self.reply(line.decode().strip()):
                    return

    @property
    def house(self) -> MailServer:
        server: Any = self.server
        return server.house  # type: ignore[no-any-return]

    def reply(self, line: str) -> bool:
        command = line[:4].upper()
        if command == "RCPT":
            self.house.recipients.append(line.partition("<")[2].partition(">")[0])
        self.house.commands.append(command)
        answer = self.house.answer(command)
        is_on = self.say(answer) and command != "QUIT"
        return self.take() if is_on and answer.startswith("354") else is_on

    def take(self) -> bool:
        lines: list[bytes] = []
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line.removeprefix(b"."))
        message = email.message_from_bytes(b"".join(lines), policy=policy.default)
        self.house.messages.append(message)
        return self.say(self.house.answer("."))

    def say(self, text: str) -> bool:
        if text == SILENT:
            self.house.is_over.wait()
            self.house.unanswered.append(self.rfile.read())
        if text in {GONE, SILENT}:
            return False
        self.wfile.write(f"{text}\r\n".encode())
        return True
