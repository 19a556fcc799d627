"""What staff can do to an endpoint; each act is the operation that the API calls."""

from datetime import datetime
from typing import Any, Final, override

from django import forms
from django.core.exceptions import ValidationError

from apps.core.admin_base import Act, ActForm, zone_of
from apps.core.admin_base.wall_time import WallTimeField, instant_at
from apps.webhooks import operations
from apps.webhooks.models import WebhookEndpoint, WebhookReplay
from apps.webhooks.states import EndpointStatus

_PAUSED: Final = (
    ("", "Choose what becomes of it"),
    ("resume", "Send all of it"),
    ("resume_since", "Send what was made since a time, cancel the rest"),
    ("discard", "Cancel all of it"),
)


class SinceForm(ActForm):
    """An act that reaches back to an instant, typed by the clocks of the organization."""

    since = WallTimeField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.fields["since"].help_text = f"By the clocks of {zone_of(self.subject)}."

    def clean_since(self) -> datetime | None:
        return instant_at(self.cleaned_data["since"], zone=zone_of(self.subject))


class EnableForm(SinceForm):
    """What becomes of what was set aside while the endpoint was off."""

    paused = forms.ChoiceField(label="What is paused", choices=_PAUSED)
    since = WallTimeField(required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.order_fields(["paused", "since", "reason"])
        where = "Only where what was made since a time is sent."
        self.fields["since"].help_text = f"{where} {self.fields['since'].help_text}"

    @override
    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or {}
        is_asked = given.get("paused") == "resume_since"
        if is_asked and "since" in given and given["since"] is None:
            raise ValidationError({"since": "Name the time since when it was made."})
        return given | ({} if is_asked else {"since": None})


def _pause_is_off(endpoint: WebhookEndpoint, _user: Any) -> str:  # noqa: ANN401
    return "" if endpoint.status == EndpointStatus.ENABLED else f"It is {endpoint.status} already."


def _enable_is_off(endpoint: WebhookEndpoint, _user: Any) -> str:  # noqa: ANN401
    if endpoint.status == EndpointStatus.DISABLED:
        # Looked at only while it matters: what enabling would refuse with `endpoint_changing`.
        if not endpoint.is_changing or operations.is_set_aside(endpoint):
            return ""
        return "What it is owed is still being set aside; that ends by itself."
    return "It was deleted." if endpoint.status == EndpointStatus.DELETED else "It is enabled."


def _sending_is_off(endpoint: WebhookEndpoint, _user: Any) -> str:  # noqa: ANN401
    return "" if endpoint.status == EndpointStatus.ENABLED else "It is not enabled."


def _replayed(replay: WebhookReplay) -> str:
    if not replay.delivery_count:
        return "Nothing that was made since then has failed for good; nothing is sent."
    many = "delivery is" if replay.delivery_count == 1 else "deliveries are"
    return f"{replay.delivery_count:,} {many} owed again, with a new budget of attempts."


ENDPOINT_ACTS: Final = (
    Act(
        name="pause",
        capability="webhooks.pause_endpoint",
        operation=operations.disable_endpoint,
        subject="endpoint_id",
        label=lambda _endpoint: "Pause this endpoint",
        off=_pause_is_off,
        done=lambda _result: "Paused. What is owed to it waits.",
        presets=("The client asked for it.", "Its server is being moved."),
        is_dangerous=True,
        note="Nothing is sent from now on; what is owed waits until the endpoint is enabled.",
    ),
    Act(
        name="enable",
        capability="webhooks.edit_endpoint",
        operation=operations.enable_endpoint,
        form=EnableForm,
        subject="endpoint_id",
        label=lambda _endpoint: "Enable this endpoint",
        off=_enable_is_off,
        done=lambda _result: "Enabled, with a clean record.",
        presets=("The client asked for it.", "Its server answers again."),
        note="It gets what happens from now on. Say what becomes of what was paused meanwhile.",
    ),
    Act(
        name="replay",
        capability="webhooks.replay_delivery",
        operation=operations.replay_failed,
        form=SinceForm,
        subject="endpoint_id",
        label=lambda _endpoint: "Send again what failed",
        off=_sending_is_off,
        done=_replayed,
        presets=("The client asked for it.", "Their server was down."),
        note=(
            "All that failed for good and was made since a time, at most 14 days ago: the same "
            "events, ids and bytes."
        ),
    ),
    Act(
        name="ping",
        capability="webhooks.edit_endpoint",
        operation=operations.ping_endpoint,
        subject="endpoint_id",
        label=lambda _endpoint: "Send a test event",
        off=_sending_is_off,
        done=lambda _result: "A webhook.ping is on its way.",
        presets=("The client asked for it.", "To see whether it answers."),
    ),
)
