from typing import override

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "apps.accounts"
    label = "accounts"

    @override
    def ready(self) -> None:
        from apps.accounts import tasks  # noqa: PLC0415 - apps are loaded by now
        from apps.accounts.api import authentication  # noqa: PLC0415 - likewise
        from apps.core.api.caller import register_authenticator  # noqa: PLC0415 - likewise

        register_authenticator(
            authentication.authenticate_token,
            prepare=authentication.prepare_tokens,
            on_leak=authentication.revoke_leaked,
        )
        tasks.register()
