"""The organisation that an operator names on a command line."""

from uuid import UUID

from django.core.management.base import CommandError

from apps.accounts import queries as accounts
from apps.core.errors import Refusal
from apps.core.ids import decode_id


def read_organization(printed: str) -> UUID:
    """
    Return the id of the organisation that is printed so.

    :raises CommandError: naming it, if it is no id of one, or there is none
    """
    try:
        organization_id = decode_id("org", printed)
        return accounts.get_organization(organization_id=organization_id).id
    except Refusal as refusal:
        msg = f"{printed}: {refusal.message}"
        raise CommandError(msg) from None
