# Long exports are made by a job, and wait encrypted for their reader.

import crm.encryption
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("crm", "0011_withheld"),
    ]

    operations = [
        migrations.AddField(
            model_name="exportrun",
            name="job",
            field=models.ForeignKey(
                blank=True,
                null=True,
                editable=False,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="crm.jobrun",
            ),
        ),
        migrations.AddField(
            model_name="exportrun",
            name="claim",
            field=models.UUIDField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="exportrun",
            name="kept_until",
            field=models.DateTimeField(blank=True, null=True, verbose_name="file kept until"),
        ),
        migrations.AddField(
            model_name="exportrun",
            name="source",
            field=crm.encryption.EncryptedTextField(blank=True, editable=False),
        ),
        migrations.CreateModel(
            name="ExportPiece",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("claim", models.UUIDField()),
                ("number", models.PositiveIntegerField()),
                ("content", models.BinaryField()),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="pieces", to="crm.exportrun"
                    ),
                ),
            ],
            options={
                "ordering": ["number"],
                "constraints": [models.UniqueConstraint(fields=("run", "claim", "number"), name="export_piece_unique")],
            },
        ),
    ]
