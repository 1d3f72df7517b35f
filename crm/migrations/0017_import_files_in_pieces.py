# A file waits in pieces. One that waited in the run's row meanwhile has to be sent again.

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def forget_waiting(apps, schema_editor):
    runs = apps.get_model("crm", "ImportRun").objects
    runs.filter(state="checked", pieces=None).update(state="missed")


class Migration(migrations.Migration):
    dependencies = [
        ("crm", "0016_export_presets"),
    ]

    operations = [
        migrations.RunPython(forget_waiting, migrations.RunPython.noop),
        migrations.RemoveField(model_name="importrun", name="file"),
        migrations.AlterField(
            model_name="importmapping",
            name="user",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="import_mappings",
                to=settings.AUTH_USER_MODEL,
                verbose_name="user",
            ),
        ),
        migrations.AlterField(
            model_name="importpiece",
            name="part",
            field=models.CharField(max_length=10),
        ),
    ]
