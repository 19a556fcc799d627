"""Staff screens of accounts: our clients, their contacts and keys, and our own people."""

from apps.accounts.admin import _keys, _organizations, _staff

__all__ = ["_keys", "_organizations", "_staff"]
