"""Reads of reconciliation, and the only place here that locks."""

from collections.abc import Collection, Sequence
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, QuerySet

from apps.reconciliation import errors
from apps.reconciliation.models import Break, Match, MatchLeg, OpeningBalance
from apps.reconciliation.states import BreakState, MatchState


def get_match(*, organization_id: UUID, match_id: UUID) -> Match:
    """
    Return the match with its targets.

    :raises MatchNotFound: if the organization has no such match
    """
    found = list_matches(organization_id=organization_id).filter(id=match_id).first()
    if found is None:
        raise errors.MatchNotFound("There is no such match.")
    return found


def list_matches(*, organization_id: UUID, bank_line_id: UUID | None = None) -> QuerySet[Match]:
    """
    Return matches, newest first, of one line where given.

    Each has its legs as `target_kinds` and `target_ids`, side by side.
    """
    legs = MatchLeg.objects.filter(
        organization_id=OuterRef("organization_id"), match_id=OuterRef("id")
    ).order_by("id")
    rows = Match.objects.filter(organization_id=organization_id).annotate(
        target_kinds=ArraySubquery(legs.values("target_kind")),
        target_ids=ArraySubquery(legs.values("target_id")),
    )
    if bank_line_id is not None:
        rows = rows.filter(bank_line_id=bank_line_id)
    return rows.order_by("-id")


def get_break(*, organization_id: UUID, break_id: UUID) -> Break:
    """
    Return the break.

    :raises BreakNotFound: if the organization has no such break
    """
    found = Break.objects.filter(organization_id=organization_id, id=break_id).first()
    if found is None:
        raise errors.BreakNotFound("There is no such break.")
    return found


def list_breaks(*, organization_id: UUID) -> QuerySet[Break]:
    """Return breaks, newest first."""
    return Break.objects.filter(organization_id=organization_id).order_by("-id")


def find_matched(
    *, organization_id: UUID, bank_line_ids: Collection[UUID]
) -> set[tuple[UUID, UUID | None]]:
    """Return what of these lines is matched: line and detail, None where it is the line whole."""
    rows = Match.objects.filter(
        organization_id=organization_id, bank_line_id__in=bank_line_ids, state=MatchState.LIVE
    )
    return set(rows.values_list("bank_line_id", "bank_line_detail_id"))


def lock_open_breaks(
    *,
    organization_id: UUID,
    bank_line_ids: Collection[UUID] = (),
    statement_ids: Collection[UUID] = (),
) -> Sequence[Break]:
    """Return what is open about these lines or statements, locked in ascending order."""
    rows = Break.objects.select_for_update(no_key=True).filter(organization_id=organization_id)
    rows = rows.exclude(state=BreakState.RESOLVED)
    rows = (
        rows.filter(bank_line_id__in=bank_line_ids)
        if bank_line_ids
        else rows.filter(statement_id__in=statement_ids)
    )
    return list(rows.order_by("id"))


def list_openings(*, organization_id: UUID) -> QuerySet[OpeningBalance]:
    """Return the opening balances of the organization's accounts, newest first."""
    return OpeningBalance.objects.filter(organization_id=organization_id).order_by("-id")


def get_opening(*, organization_id: UUID, opening_id: UUID) -> OpeningBalance:
    """
    Return the opening balance.

    :raises OpeningBalanceNotFound: if the organization has no such opening balance
    """
    found = list_openings(organization_id=organization_id).filter(id=opening_id).first()
    if found is None:
        raise errors.OpeningBalanceNotFound("There is no such opening balance.")
    return found


def get_opening_for_update(*, organization_id: UUID, opening_id: UUID) -> OpeningBalance:
    """
    Return the opening balance locked: its decision and a second proposal go one after the other.

    :raises OpeningBalanceNotFound: if the organization has no such opening balance
    """
    found = (
        OpeningBalance.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=opening_id)
        .first()
    )
    if found is None:
        raise errors.OpeningBalanceNotFound("There is no such opening balance.")
    return found


def find_opening_for_update(
    *, organization_id: UUID, bank_account_id: UUID
) -> OpeningBalance | None:
    """Return the account's opening balance locked, if its first statement had one."""
    return (
        OpeningBalance.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, bank_account_id=bank_account_id)
        .first()
    )
