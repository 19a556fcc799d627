"""Who there is: tenants, keys and contacts, the customers whose money it is, and our own staff."""

from apps.accounts.models.contacts import Contact, Mail
from apps.accounts.models.customers import Customer
from apps.accounts.models.organizations import KEY_LIFE_MAX, ApiKey, Organization
from apps.accounts.models.staff import Staff, StaffManager, StaffRole, StaffScope

__all__ = [
    "KEY_LIFE_MAX",
    "ApiKey",
    "Contact",
    "Customer",
    "Mail",
    "Organization",
    "Staff",
    "StaffManager",
    "StaffRole",
    "StaffScope",
]
