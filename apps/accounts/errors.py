"""Every refusal of accounts, with its public code."""

from apps.core.errors import InvalidInput, NotFound, NotPermitted, RuleViolation, StateConflict


class OrganizationNotFound(NotFound):
    code = "organization_not_found"


class CustomerNotFound(NotFound):
    code = "customer_not_found"


class ApiKeyNotFound(NotFound):
    code = "api_key_not_found"


class ContactNotFound(NotFound):
    """The organization has no such contact, or it was removed."""

    code = "contact_not_found"


class StaffNotFound(NotFound):
    code = "staff_not_found"


class ExternalIdTaken(RuleViolation):
    """Another customer of the organization has this `external_id`."""

    code = "external_id_taken"


class ContactAddressTaken(RuleViolation):
    """Another contact of the organization has this address."""

    code = "contact_address_taken"


class MalformedContact(InvalidInput):
    """What is said of a contact makes no sense: its name, address or purposes."""

    code = "malformed_contact"


class CustomerNotOpen(StateConflict):
    """The customer is frozen or closed, and this needs an open one."""

    code = "customer_not_open"


class CustomerNotFrozen(StateConflict):
    """There is no freeze to lift; `state` says what the customer is."""

    code = "customer_not_frozen"


class FreezeOfCompliance(NotPermitted):
    """Compliance set this freeze: only they ask for it to be lifted, and only they decide it."""

    code = "freeze_of_compliance"


class ApiKeyNotLive(StateConflict):
    """The key is revoked or expired."""

    code = "api_key_not_live"


class ApiKeyHasSuccessor(StateConflict):
    """The key was rotated already, and its successor is live: there are at most two."""

    code = "api_key_has_successor"


class MalformedApiKey(InvalidInput):
    """What is asked of a new key makes no sense: its scopes, networks or end."""

    code = "malformed_api_key"


class UnknownTimeZone(InvalidInput):
    code = "unknown_time_zone"


class CapabilityMissing(NotPermitted):
    """No role of this person gives the capability."""

    code = "capability_missing"


class OwnRole(NotPermitted):
    """Who asks, who decides and whose role it is are three people."""

    code = "own_role"


class RolePairRefused(RuleViolation):
    """Nobody holds these two roles together."""

    code = "role_pair_refused"


class EmailTaken(RuleViolation):
    code = "email_taken"


class WeakPassword(RuleViolation):
    code = "weak_password"


class AdminsExist(StateConflict):
    """The first admins are made by hand; there are two already."""

    code = "admins_exist"
