# What was written to somebody who could see all cases is not sent to him once he cannot.

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("crm", "0013_covering_indexes"),
    ]

    operations = [
        migrations.AddField(
            model_name="messagelog",
            name="needs_all_cases",
            field=models.BooleanField(default=False, editable=False),
        ),
    ]
