"""Kombu's transport for Redis, of which two things are changed (docs/adr/0100 and 0136)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, override

from kombu.transport import redis, virtual


class QoS(redis.QoS):
    """
    What a worker holds unacknowledged; a message that it has finished with is held no more.

    Kombu frees its place once the broker has heard. If the broker is away at that moment it never
    hears, and a worker all of whose places were taken looks for nothing any more, not even for the
    broker: it is deaf until it is killed. With its place free it reads, meets the lost connection
    and connects anew. The broker gives the message out once more, and the row is found done.
    """

    @override
    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        finally:
            virtual.QoS.ack(self, delivery_tag)

    @override
    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue=requeue)
        finally:
            virtual.QoS.ack(self, delivery_tag)


class Channel(redis.Channel):
    """
    A channel that keeps the client of its pool of connections.

    Kombu makes one for each message, which costs more than to send it. It has no state but the
    pool, which kombu replaces once a connection is lost.
    """

    QoS: Any = QoS
    _kept: Any = None

    @override
    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        if client is None and not self._is_kept:
            with super().conn_or_acquire() as self._kept:
                pass
        yield client or self._kept

    @property
    def _is_kept(self) -> bool:
        return self._kept is not None and self._kept.connection_pool is self.pool


class Transport(redis.Transport):
    Channel: Any = Channel
