"""Staff screens of banking: our accounts, the files that came and went, and every booked line."""

from apps.banking.admin import _accounts, _files, _statements

__all__ = ["_accounts", "_files", "_statements"]
