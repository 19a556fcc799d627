"""
What an app tells approvals about an act of its own; approvals imports none of them.

The functions run inside the deciding transaction. Lock order: subject, risk rows, approval request,
balances; so `lock` is called before the request is locked, the rest after.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.approvals.rules import Facts, Policy
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """The end of a request, as its app hears it: whose, about what, and who said the last word."""

    organization_id: UUID
    request_id: UUID
    subject_id: UUID
    snapshot_digest: bytes
    reason: str
    actor: Actor
    now: datetime


@dataclass(frozen=True, kw_only=True)
class Act:
    """
    One act that may need other people.

    `capability` is what a person must hold to decide at all. `describe` gives a title and masked
    fields per subject, for a screen. `snapshot` gives what is agreed to, as JSON values.
    """

    name: str
    subject_type: str
    capability: str
    default_policy: Policy
    lock: Callable[[UUID, UUID], None]
    snapshot: Callable[[UUID, UUID], Mapping[str, object]]
    facts: Callable[[UUID, UUID], Facts]
    describe: Callable[[UUID, Sequence[UUID]], dict[UUID, Mapping[str, str]]]
    on_approved: Callable[[Resolution], None]
    on_denied: Callable[[Resolution], None]
    on_expired: Callable[[Resolution], None]


_acts: dict[str, Act] = {}


def register(act: Act) -> None:
    """Make an act known; called from `AppConfig.ready()`."""
    _acts[act.name] = act


def find_act(name: str) -> Act | None:
    """Return the act, or None where an app of a newer release has asked for it."""
    return _acts.get(name)


def get_act(name: str) -> Act:
    """
    Return the act that an app registered.

    :raises InvariantBroken: if none did: a stored name is never unknown
    """
    try:
        return _acts[name]
    except KeyError:
        msg = f"No app registered the act {name!r}."
        raise InvariantBroken(msg) from None


def list_acts() -> list[Act]:
    """Return every registered act, by name."""
    return [_acts[name] for name in sorted(_acts)]
