from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    """Freezes from before are compliance's where the person is of them now: rather too many."""

    dependencies = [
        ("accounts", "0005_freezes_of_compliance"),
    ]

    operations = [
        migrations.RunSQL(
            """
            UPDATE accounts_customer
               SET is_frozen_by_compliance = true
             WHERE state = 'frozen'
               AND frozen_by IN (SELECT 'staff:' || staff_id
                                   FROM accounts_staffrole
                                  WHERE role = 'compliance')
            """,
            migrations.RunSQL.noop,
        ),
        ValidateConstraint("customer", "customer_of_compliance_is_not_open"),
    ]
