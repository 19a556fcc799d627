"""One row of work, of whatever kind."""

from collections.abc import Collection
from uuid import UUID

from apps.core import work
from apps.core.work import WorkRow


def find_work(
    *, kind_name: str, row_id: UUID, organization_ids: Collection[UUID] | None
) -> WorkRow | None:
    """Return a row of work of these organizations (None: of all), or of the platform itself."""
    kind = work.find_kind(kind_name)
    if kind is None:
        return None
    row = kind.model.objects.filter(id=row_id).first()
    owner: UUID | None = getattr(row, "organization_id", None)
    is_theirs = organization_ids is None or owner is None or owner in organization_ids
    return row if is_theirs else None
