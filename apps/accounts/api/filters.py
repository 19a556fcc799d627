"""Parameters that lists of several apps are narrowed by."""

from uuid import UUID

from rest_framework.request import Request

from apps.accounts import queries
from apps.core.api.caller import get_caller
from apps.core.ids import decode_id


def read_customer(request: Request) -> UUID | None:
    """
    Return the customer that a list is narrowed to, if it is: one of the caller's own.

    :raises CustomerNotFound: if the organization has no such customer
    """
    given = request.query_params.get("customer")
    if given is None:
        return None
    customer = queries.get_customer(
        organization_id=get_caller(request).organization_id, customer_id=decode_id("cus", given)
    )
    return customer.id
