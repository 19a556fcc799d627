"""
Releasing work that was set aside, by a member of staff.

It lies here because the core knows no staff: this app sees both the work and who may release it.
"""

from typing import Final
from uuid import UUID

from apps.accounts import queries as accounts
from apps.core import idempotency, operations, transactions
from apps.core.actors import Actor

REQUEUE: Final = "core.requeue_work"
# A job's period belongs to no organization, and neither do the keys of what is done to it.
_NOBODYS: Final = UUID(int=0)


@transactions.outermost
def requeue_work(
    *,
    organization_id: UUID | None,
    kind_name: str,
    row_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
) -> None:
    """
    Make a row that was set aside due now, as if it had never been tried; money's rows as well.

    It moves nothing by itself: a worker does what it did not get to, and every rule is asked
    again. Replaying the key releases nothing anew, also if the row was set aside again meanwhile.

    :raises CapabilityMissing: if the actor is staff who may not
    :raises OrganizationNotFound: if the actor may not see the organization
    :raises NotFound: if there is no such kind of work, or the organization has no such row
    :raises StateConflict: if the row is not set aside
    """
    claim = idempotency.claim(
        organization_id or _NOBODYS, idempotency_key, "requeue_work", kind_name, row_id, reason
    )
    if claim.replayed:
        return
    accounts.require_capability(actor=actor, capability=REQUEUE, organization_id=organization_id)
    operations.release_set_aside(
        organization_id=organization_id,
        kind_name=kind_name,
        row_id=row_id,
        reason=reason,
        actor=actor,
    )
