"""The pages of the site that belong to no single model."""

from apps.backoffice.views import sign_in
from apps.backoffice.views._trial_balance import trial_balance
from apps.backoffice.views.pages import bind, find, home
from apps.backoffice.views.stuck_work import stuck_row, stuck_work

__all__ = ["bind", "find", "home", "sign_in", "stuck_row", "stuck_work", "trial_balance"]
