"""Kombu's transport for Redis, of which one thing is changed (docs/adr/0100)."""

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
    QoS: Any = QoS


class Transport(redis.Transport):
    Channel: Any = Channel
