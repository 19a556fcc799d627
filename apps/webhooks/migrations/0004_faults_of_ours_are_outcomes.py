from django.db import migrations, models


class Migration(migrations.Migration):
    """Two outcomes more; the database's column stays as it is."""

    dependencies = [("webhooks", "0003_guards_look_at_named_columns")]
    operations = [
        migrations.AlterField(
            model_name="webhookattempt",
            name="outcome",
            field=models.CharField(
                choices=[
                    ("succeeded", "succeeded"),
                    ("redirected", "redirected"),
                    ("refused", "refused"),
                    ("rate_limited", "rate_limited"),
                    ("gone", "gone"),
                    ("server_error", "server_error"),
                    ("timeout", "timeout"),
                    ("dns_error", "dns_error"),
                    ("connect_error", "connect_error"),
                    ("tls_error", "tls_error"),
                    ("protocol_error", "protocol_error"),
                    ("blocked_address", "blocked_address"),
                    ("no_body", "no_body"),
                    ("internal_error", "internal_error"),
                ],
                max_length=16,
            ),
        ),
    ]
