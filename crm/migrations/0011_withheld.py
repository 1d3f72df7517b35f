# What a message is about is one of known kinds; it may be withheld, where its recipient is not written to any more.

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("crm", "0010_notices"),
    ]

    operations = [
        migrations.AlterField(
            model_name="messagelog",
            name="kind",
            field=models.CharField(
                choices=[
                    ("deadlines", "Deadlines"),
                    ("radar", "What runs out"),
                    ("weekly_report", "Weekly report"),
                    ("notices", "News of cases"),
                    ("client_deadlines", "Deadlines, to the client"),
                    ("client_notices", "News of the case, to the client"),
                    ("welcome", "Welcome"),
                    ("password_reset", "New password"),
                ],
                max_length=40,
                verbose_name="kind",
            ),
        ),
        migrations.AlterField(
            model_name="messagelog",
            name="state",
            field=models.CharField(
                choices=[
                    ("waiting", "Waiting"),
                    ("sent", "Sent"),
                    ("failed", "Failed"),
                    ("refused", "Refused"),
                    ("expired", "Too late"),
                    ("withheld", "Withheld"),
                ],
                default="waiting",
                max_length=10,
                verbose_name="state",
            ),
        ),
    ]
