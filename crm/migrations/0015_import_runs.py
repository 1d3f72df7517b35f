# Imports keep their file in pieces, what was chosen, and what their check found; jobs make the long ones.

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import crm.encryption


class Migration(migrations.Migration):
    dependencies = [
        ("crm", "0014_needs_all_cases"),
    ]

    operations = [
        migrations.CreateModel(
            name="ImportMapping",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("header", crm.encryption.EncryptedTextField(verbose_name="column")),
                ("field", models.CharField(blank=True, max_length=60, verbose_name="field")),
            ],
            options={
                "verbose_name": "remembered column",
                "verbose_name_plural": "remembered columns",
                "ordering": ["pk"],
            },
        ),
        migrations.CreateModel(
            name="ImportPiece",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "part",
                    models.CharField(
                        choices=[("file", "File"), ("columns", "Columns"), ("rows", "Rows"), ("index", "Index")],
                        max_length=10,
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("content", models.BinaryField()),
            ],
            options={
                "ordering": ["number"],
            },
        ),
        migrations.AddField(
            model_name="importrun",
            name="corrections",
            field=crm.encryption.EncryptedTextField(blank=True, editable=False),
        ),
        migrations.AddField(
            model_name="importrun",
            name="duplicate_count",
            field=models.PositiveIntegerField(default=0, verbose_name="probable duplicates"),
        ),
        migrations.AddField(
            model_name="importrun",
            name="fingerprint",
            field=models.CharField(blank=True, editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name="importrun",
            name="job",
            field=models.ForeignKey(
                blank=True,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="crm.jobrun",
            ),
        ),
        migrations.AddField(
            model_name="importrun",
            name="mapping",
            field=crm.encryption.EncryptedTextField(blank=True, editable=False, verbose_name="columns"),
        ),
        migrations.AddField(
            model_name="importrun",
            name="model",
            field=models.CharField(default="client", editable=False, max_length=40, verbose_name="list"),
        ),
        migrations.AddField(
            model_name="importrun",
            name="options",
            field=models.JSONField(blank=True, default=dict, editable=False, verbose_name="options"),
        ),
        migrations.AlterField(
            model_name="importrun",
            name="state",
            field=models.CharField(
                choices=[
                    ("uploaded", "Waits for its columns"),
                    ("checking", "Being checked"),
                    ("checked", "Checked"),
                    ("running", "Running"),
                    ("done", "Done"),
                    ("failed", "Failed"),
                    ("missed", "Missed"),
                ],
                default="uploaded",
                max_length=10,
                verbose_name="state",
            ),
        ),
        migrations.AddIndex(
            model_name="importrun",
            index=models.Index(fields=["sha256"], name="import_run_sha256"),
        ),
        migrations.AddField(
            model_name="importmapping",
            name="user",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="import_mappings", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="importpiece",
            name="run",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="pieces", to="crm.importrun"
            ),
        ),
        migrations.AddConstraint(
            model_name="importpiece",
            constraint=models.UniqueConstraint(fields=("run", "part", "number"), name="import_piece_unique"),
        ),
    ]
