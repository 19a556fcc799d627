"""Writes of accounts; one module per kind of thing."""

from apps.accounts.operations._api_keys import (
    USE_NOTED_EVERY,
    IssuedKey,
    create_api_key,
    note_key_use,
    revoke_api_key,
    rotate_api_key,
)
from apps.accounts.operations._contacts import add_contact, change_contact, remove_contact
from apps.accounts.operations._customers import (
    change_customer,
    create_customer,
    freeze_customer,
    prepare_unfreeze,
    unfreeze_customer,
)
from apps.accounts.operations._mail import (
    MAIL_KIND,
    purge_mail,
    record_sent,
    record_unwanted,
    tell_contacts,
)
from apps.accounts.operations._organizations import create_organization
from apps.accounts.operations._staff import (
    create_first_admin,
    create_staff,
    deactivate_staff,
    end_sessions,
    grant_role,
    revoke_role,
)

__all__ = [
    "MAIL_KIND",
    "USE_NOTED_EVERY",
    "IssuedKey",
    "add_contact",
    "change_contact",
    "change_customer",
    "create_api_key",
    "create_customer",
    "create_first_admin",
    "create_organization",
    "create_staff",
    "deactivate_staff",
    "end_sessions",
    "freeze_customer",
    "grant_role",
    "note_key_use",
    "prepare_unfreeze",
    "purge_mail",
    "record_sent",
    "record_unwanted",
    "remove_contact",
    "revoke_api_key",
    "revoke_role",
    "rotate_api_key",
    "tell_contacts",
    "unfreeze_customer",
]
