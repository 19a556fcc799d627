"""
A connection as prepared statements use it: what waits to be sent goes out in one trip.

psycopg has pipelines too, and prepares statements; per statement and trip they cost several times
what Postgres' own protocol does, and for a transfer that is alone in its transaction that was a
third of its time in Python (docs/adr/0092). This speaks the protocol by psycopg's own layer over
libpq, and leaves the connection as psycopg wants to find it.
"""

import select
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Final, NamedTuple, cast
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from apps.core._arrays import Few, Same, encode, encode_one
from apps.core._spelling import spell

_DONE: Final = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK})
_LAST_WORDS: Final = frozenset({"FATAL", "PANIC"})
_CANCEL_SECONDS_MAX: Final = 2.0
_INCOMING: Final = select.POLLIN
_BOTH: Final = select.POLLIN | select.POLLOUT

type Connection = psycopg.Connection[Any]


class _Silent(errors.OperationalError):
    """The server said nothing for as long as it is waited for on this connection."""


class Pending:
    """A statement that waits to be sent or was sent, and in the end its answer."""

    __slots__ = ("fault", "is_silent", "oids", "result", "statement", "values")

    def __init__(self, text: str, values: Mapping[str, object], *, is_silent: bool) -> None:
        self.statement = spell(text, values)
        encoded = [
            encode(values[name])
            if place is None
            else encode_one(cast("Few | Same | None", values[name]), place)
            for name, place in self.statement.values
        ]
        self.oids = tuple([oid for oid, _ in encoded])
        self.values = [value for _, value in encoded]
        # Nobody asks for its answer: its fault is told by whoever sends it.
        self.is_silent = is_silent
        self.result: PGresult | None = None
        self.fault: psycopg.Error | None = None

    @property
    def is_answered(self) -> bool:
        """Say whether its answer came, or what kept it from being carried out."""
        return self.result is not None or self.fault is not None

    @property
    def has_silent_fault(self) -> bool:
        """Say whether something kept it from being carried out that nobody would ask about."""
        return self.is_silent and self.fault is not None

    def answered(self, result: PGresult, fault: psycopg.Error | None) -> None:
        """Keep the answer, or what kept the statement from being carried out."""
        self.result, self.fault = result, fault


class _Plain:
    """A command whose answer says nothing but whether it was carried out."""

    has_silent_fault = False

    def answered(self, result: PGresult, fault: psycopg.Error | None) -> None:
        """Take note of nothing."""


_PLAIN: Final = _Plain()


class _Preparing(NamedTuple):
    """A statement that is being prepared; it is remembered if Postgres says so."""

    known: "dict[_Key, bytes]"
    key: "_Key"
    name: bytes

    @property
    def has_silent_fault(self) -> bool:
        """Say no: the statement it is prepared for has the same fault."""
        return False

    def answered(self, _result: PGresult, fault: psycopg.Error | None) -> None:
        """Remember the name."""
        if fault is None:
            self.known[self.key] = self.name


type _Key = tuple[bytes, tuple[int, ...]]
type _Sent = Pending | _Preparing | _Plain


class Wire:
    """
    What waits to be sent on one connection, and what was prepared there.

    Only the thread that has the connection uses it.
    """

    def __init__(self, raw: Connection) -> None:
        self.waiting: list[Pending] = []
        # What Postgres is at already, whose answers come with the next exchange's.
        self._started: list[_Sent] = []
        # How often it was waited for Postgres: tests count these.
        self.trips = 0
        self._pgconn: PGconn = raw.pgconn
        # Of a connection whose server is not waited for without end, how long it is; None: as long
        # as it takes.
        seconds: float | None = getattr(raw, "answer_seconds_max", None)
        self._wait_ms = None if seconds is None else seconds * 1000
        # Not the connection itself, which would never be let go of.
        self._transformer = Transformer(raw.adapters)
        self._prepared: dict[_Key, bytes] = {}
        self._numbers = count(1)

    @property
    def is_idle(self) -> bool:
        """Say whether nothing waits, to be sent or to be answered."""
        return not self.waiting and not self._started

    def start(self, raw: Connection) -> None:
        """
        Send what waits and take no answers: Postgres is at it while its next statements are made.

        :raises psycopg.Error: if the connection is lost
        """
        asked, self.waiting = self.waiting, []
        pgconn = self._pgconn
        _refuse_closed(pgconn)
        try:
            if not self._started:
                pgconn.enter_pipeline_mode()
            self._started += self._send(raw, asked)
            self._push()
        except BaseException as fault:
            self._started = []
            _give_up(raw, fault)
            raise

    def drop(self, raw: Connection) -> None:
        """Forget what waits; what was sent already is waited for, and its answers are dropped."""
        self.waiting.clear()
        if self._started and self._pgconn.status == ConnStatus.OK:
            # Faults are those of a transaction that is not to be; a lost connection shows itself.
            with suppress(psycopg.Error):
                self.exchange(raw)
        self._started = []

    def exchange(self, raw: Connection, *, commit: bool = False) -> None:
        """
        Send what waits, BEGIN first where no transaction is open yet, and take the answers.

        With `commit`, COMMIT goes along; it is not carried out if anything before it fails.

        :raises psycopg.Error: the first fault, if COMMIT or a silent statement is behind it or met
            it, or if the connection is lost; a statement that was asked keeps what it met
        """
        asked, self.waiting = self.waiting, []
        sent, self._started = self._started, []
        pgconn = self._pgconn
        _refuse_closed(pgconn)
        self.trips += 1
        try:
            if not sent:
                pgconn.enter_pipeline_mode()
            sent += self._send(raw, asked, commit=commit)
            pgconn.pipeline_sync()
            fault = self._take(sent, self._results())
            pgconn.exit_pipeline_mode()
        except BaseException as fault:
            # An interrupt, or the server is gone: nobody can say what would still come in.
            _give_up(raw, fault)
            raise
        if fault is not None and (commit or any(one.has_silent_fault for one in sent)):
            raise fault

    def exchange_alone(self, raw: Connection, asked: Pending, *, commits: bool) -> None:
        """
        Send a statement that is no part of a transaction, or `commits` by itself; take the answer.

        It keeps its rows or what it met. If the connection is lost, that is what it met: nobody can
        say what became of it.

        :raises psycopg.Error: if the connection was lost before
        """
        pgconn = self._pgconn
        _refuse_closed(pgconn)
        self.trips += 1
        try:
            pgconn.enter_pipeline_mode()
            sent = self._send_alone(raw, asked, commits=commits)
            results = self._results()
            faults = [self._take(part, results) for part in sent]
            pgconn.exit_pipeline_mode()
            asked.fault = next(filter(None, faults), None)
        except psycopg.Error as fault:
            _give_up(raw, fault)
            # Of one that was answered, but not its COMMIT, too.
            asked.result, asked.fault = None, fault
        except BaseException as fault:
            _give_up(raw, fault)
            raise

    def _send_alone(self, raw: Connection, asked: Pending, *, commits: bool) -> list[list[_Sent]]:
        """Queue a statement of its own; return what its answers will be of, up to each SYNC."""
        sets: dict[str, str] = {}
        # What commits does so while its statement is timed: its time up, a COMMIT that waits for a
        # standby ends as if it had one.
        if commits:
            sets["statement_timeout"] = "0"
        if raw.isolation_level is not None:
            sets["default_transaction_isolation"] = _name_of(raw.isolation_level)
        # Transactions of their own: a procedure that is called in one cannot commit.
        for name, value in sets.items():
            self._send_plain(f"SET {name} = '{value}'")
        own = self._send(raw, [asked])
        # Its COMMIT, or that of what it did last.
        self._pgconn.pipeline_sync()
        for name in sets:
            self._send_plain(f"RESET {name}")
        plain: list[list[_Sent]] = [[_PLAIN] for _ in sets]
        return [*plain, own, *plain]

    def _send_plain(self, command: str) -> None:
        self._pgconn.send_query_params(command.encode(), None)
        self._pgconn.pipeline_sync()

    def rows(self, asked: Pending) -> list[tuple[Any, ...]]:
        """Return the rows that a statement was answered, as Python's values."""
        if asked.fault is not None:
            raise asked.fault
        if asked.result is None:
            raise errors.InterfaceError("The statement was never sent.")
        transformer = self._transformer
        transformer.set_pgresult(asked.result)
        try:
            return transformer.load_rows(0, asked.result.ntuples, tuple)
        finally:
            transformer.set_pgresult(None)

    def _send(self, raw: Connection, asked: list[Pending], *, commit: bool = False) -> list[_Sent]:
        """Queue everything in order; return what each answer will be of."""
        pgconn = self._pgconn
        new: dict[_Key, bytes] = {}
        sent: list[_Sent] = []
        if not raw.autocommit and pgconn.transaction_status == TransactionStatus.IDLE:
            pgconn.send_query_params(_begin(raw), None)
            sent.append(_PLAIN)
        prepares = raw.prepare_threshold is not None
        for one in asked:
            sql, formats = one.statement.sql, [Format.BINARY] * len(one.values)
            if prepares:
                key = (sql, one.oids)
                name = self._prepared.get(key) or new.get(key)
                if name is None:
                    name = new[key] = b"kassa_%d" % next(self._numbers)
                    pgconn.send_prepare(name, sql, one.oids)
                    sent.append(_Preparing(self._prepared, key, name))
                pgconn.send_query_prepared(name, one.values, formats, Format.BINARY)
            else:
                pgconn.send_query_params(sql, one.values, one.oids, formats, Format.BINARY)
            sent.append(one)
        if commit:
            pgconn.send_query_params(b"COMMIT", None)
            sent.append(_PLAIN)
        return sent

    def _push(self) -> None:
        """Hand over everything that was queued, however little of it Postgres takes at a time."""
        pgconn, poll = self._pgconn, select.poll()
        poll.register(pgconn.socket, _BOTH)
        while pgconn.flush():
            self._wait(poll)
            # It may have something to say before it has heard all.
            pgconn.consume_input()

    def _take(self, sent: list[_Sent], results: Iterator[PGresult]) -> psycopg.Error | None:
        """Take each answer, up to the next end of a pipeline; return the first fault."""
        fault: psycopg.Error | None = None
        for one in sent:
            result = next(results)
            fault = fault or _fault_of(result)
            one.answered(result, fault)
            if fault is not None and fault.diag.severity_nonlocalized in _LAST_WORDS:
                # The server has said why it hangs up, and says nothing more.
                raise fault
        end = next(results)
        if end.status == ExecStatus.FATAL_ERROR:
            # What is no transaction's block is committed by the SYNC, and that failed.
            fault = fault or _fault_of(end)
            end = next(results)
        if end.status != ExecStatus.PIPELINE_SYNC:
            raise errors.InterfaceError("Postgres answered more than it was asked.")
        return fault

    def _results(self) -> Iterator[PGresult]:
        """Yield one result for each thing that was sent, and the end's."""
        pgconn, poll = self._pgconn, select.poll()
        unsent = pgconn.flush()
        poll.register(pgconn.socket, _BOTH if unsent else _INCOMING)
        while True:
            while pgconn.is_busy():
                self._wait(poll)
                pgconn.consume_input()
                if unsent and not (unsent := pgconn.flush()):
                    poll.modify(pgconn.socket, _INCOMING)
            result = pgconn.get_result()
            # Each answer but the last is followed by nothing.
            if result is not None:
                yield result
            elif pgconn.status != ConnStatus.OK:
                raise errors.OperationalError("the connection is lost")

    def _wait(self, poll: select.poll) -> None:
        """Wait until Postgres has something to say, or takes more of what it is told."""
        if not poll.poll(self._wait_ms):
            raise _Silent("the server says nothing")


def _refuse_closed(pgconn: PGconn) -> None:
    if pgconn.status != ConnStatus.OK:
        raise errors.OperationalError("the connection is closed")


def _fault_of(result: PGresult) -> psycopg.Error | None:
    if result.status not in _DONE:
        return errors.error_from_result(result)
    if result.command_status == b"ROLLBACK":
        # How COMMIT is answered, without a fault, where something failed before.
        return errors.InternalError("The transaction was rolled back.")
    return None


def _begin(raw: Connection) -> bytes:
    level = raw.isolation_level
    if level is None:
        return b"BEGIN"
    return f"BEGIN ISOLATION LEVEL {_name_of(level)}".encode()


def _name_of(level: int) -> str:
    return psycopg.IsolationLevel(level).name.replace("_", " ")


def _give_up(raw: Connection, fault: BaseException) -> None:
    """Close a connection in the middle of an exchange, and have Postgres end what it was at."""
    try:
        # One that says nothing would not hear it, or is at a COMMIT that waits for a standby.
        if raw.pgconn.status == ConnStatus.OK and not isinstance(fault, _Silent):
            raw.cancel_safe(timeout=_CANCEL_SECONDS_MAX)
    except psycopg.Error:
        # It ends when it finds that nobody listens.
        pass
    finally:
        raw.close()


_wires: Final[WeakKeyDictionary[Connection, Wire]] = WeakKeyDictionary()


def wire_of(raw: Connection) -> Wire:
    """Return the connection's wire, which lives as long as it does."""
    wire = _wires.get(raw)
    if wire is None:
        wire = _wires[raw] = Wire(raw)
    return wire
