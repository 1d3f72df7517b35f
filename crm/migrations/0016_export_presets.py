# Columns of exports under a name, the last choice, and exports by the calendar; reasons of exports are encrypted.

import crm.encryption
import crm.models.operations
import django.db.models.deletion
import django.utils.timezone
import simple_history.models
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("crm", "0015_import_runs"),
    ]

    operations = [
        migrations.CreateModel(
            name="HistoricalExportPreset",
            fields=[
                ("id", models.BigIntegerField(auto_created=True, blank=True, verbose_name="ID")),
                (
                    "history_user_name",
                    models.CharField(
                        default=crm.models.operations.history_user_name,
                        editable=False,
                        max_length=200,
                        verbose_name="by",
                    ),
                ),
                (
                    "operation_id",
                    models.UUIDField(
                        default=crm.models.operations.history_operation_id, editable=False, verbose_name="operation"
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("admin", "Admin"),
                            ("import", "Import"),
                            ("api", "API"),
                            ("portal", "Portal"),
                            ("job", "Job"),
                            ("command", "Command"),
                            ("shell", "Shell"),
                        ],
                        default=crm.models.operations.history_source,
                        editable=False,
                        max_length=10,
                        verbose_name="source",
                    ),
                ),
                ("history_user_id", models.BigIntegerField(blank=True, null=True)),
                ("history_change_reason", crm.encryption.EncryptedTextField(blank=True, null=True)),
                ("name", models.CharField(max_length=80, verbose_name="name")),
                ("model", models.CharField(editable=False, max_length=40, verbose_name="list")),
                ("format", models.CharField(max_length=10, verbose_name="format")),
                ("columns", models.JSONField(default=list, verbose_name="columns")),
                ("query", crm.encryption.EncryptedTextField(blank=True, editable=False, verbose_name="filter")),
                (
                    "is_shared",
                    models.BooleanField(
                        default=False, help_text="Whoever may export this list can use it.", verbose_name="shared"
                    ),
                ),
                ("history_id", models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1),
                ),
            ],
            options={
                "verbose_name": "historical export preset",
                "verbose_name_plural": "historical export presets",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
                "default_permissions": (),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalExportSchedule",
            fields=[
                ("id", models.BigIntegerField(auto_created=True, blank=True, verbose_name="ID")),
                (
                    "history_user_name",
                    models.CharField(
                        default=crm.models.operations.history_user_name,
                        editable=False,
                        max_length=200,
                        verbose_name="by",
                    ),
                ),
                (
                    "operation_id",
                    models.UUIDField(
                        default=crm.models.operations.history_operation_id, editable=False, verbose_name="operation"
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("admin", "Admin"),
                            ("import", "Import"),
                            ("api", "API"),
                            ("portal", "Portal"),
                            ("job", "Job"),
                            ("command", "Command"),
                            ("shell", "Shell"),
                        ],
                        default=crm.models.operations.history_source,
                        editable=False,
                        max_length=10,
                        verbose_name="source",
                    ),
                ),
                ("history_user_id", models.BigIntegerField(blank=True, null=True)),
                ("history_change_reason", crm.encryption.EncryptedTextField(blank=True, null=True)),
                (
                    "rhythm",
                    models.CharField(
                        choices=[("weekly", "Weekly"), ("monthly", "Monthly")],
                        default="weekly",
                        max_length=10,
                        verbose_name="how often",
                    ),
                ),
                (
                    "day",
                    models.PositiveSmallIntegerField(
                        default=1, help_text="Of the week, 1 is Monday; of the month, 1 to 28.", verbose_name="day"
                    ),
                ),
                (
                    "channel",
                    models.CharField(
                        choices=[("both", "E-mail and inbox"), ("mail", "E-mail"), ("inbox", "Inbox")],
                        default="both",
                        help_text="The mail holds a link, which needs a login and works for a week.",
                        max_length=10,
                        verbose_name="told by",
                    ),
                ),
                (
                    "reason",
                    crm.encryption.EncryptedCharField(
                        blank=True,
                        help_text="Needed where the preset has sensitive columns.",
                        max_length=200,
                        verbose_name="reason",
                    ),
                ),
                ("is_paused", models.BooleanField(default=False, verbose_name="paused")),
                ("since", models.DateField(default=django.utils.timezone.localdate, editable=False)),
                ("history_id", models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1),
                ),
            ],
            options={
                "verbose_name": "historical regular export",
                "verbose_name_plural": "historical regular exports",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
                "default_permissions": (),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.AlterModelOptions(
            name="exportrun",
            options={
                "ordering": ["-created_at", "-pk"],
                "permissions": [("export_sensitive", "Can export sensitive columns")],
                "verbose_name": "export",
                "verbose_name_plural": "exports",
            },
        ),
        migrations.AddField(
            model_name="exportrun",
            name="slot",
            field=models.CharField(blank=True, editable=False, max_length=10),
        ),
        migrations.AddField(
            model_name="exportrun",
            name="told_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AlterField(
            model_name="exportrun",
            name="reason",
            field=crm.encryption.EncryptedCharField(blank=True, max_length=200, verbose_name="reason"),
        ),
        migrations.CreateModel(
            name="ExportChoice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("model", models.CharField(max_length=40)),
                ("format", models.CharField(max_length=10)),
                ("columns", models.JSONField(default=list)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="ExportPreset",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=80, verbose_name="name")),
                ("model", models.CharField(editable=False, max_length=40, verbose_name="list")),
                ("format", models.CharField(max_length=10, verbose_name="format")),
                ("columns", models.JSONField(default=list, verbose_name="columns")),
                ("query", crm.encryption.EncryptedTextField(blank=True, editable=False, verbose_name="filter")),
                (
                    "is_shared",
                    models.BooleanField(
                        default=False, help_text="Whoever may export this list can use it.", verbose_name="shared"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="export_presets",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "export preset",
                "verbose_name_plural": "export presets",
                "ordering": ["name", "pk"],
                "permissions": [("share_exportpreset", "Can share export presets")],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="ExportSchedule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "rhythm",
                    models.CharField(
                        choices=[("weekly", "Weekly"), ("monthly", "Monthly")],
                        default="weekly",
                        max_length=10,
                        verbose_name="how often",
                    ),
                ),
                (
                    "day",
                    models.PositiveSmallIntegerField(
                        default=1, help_text="Of the week, 1 is Monday; of the month, 1 to 28.", verbose_name="day"
                    ),
                ),
                (
                    "channel",
                    models.CharField(
                        choices=[("both", "E-mail and inbox"), ("mail", "E-mail"), ("inbox", "Inbox")],
                        default="both",
                        help_text="The mail holds a link, which needs a login and works for a week.",
                        max_length=10,
                        verbose_name="told by",
                    ),
                ),
                (
                    "reason",
                    crm.encryption.EncryptedCharField(
                        blank=True,
                        help_text="Needed where the preset has sensitive columns.",
                        max_length=200,
                        verbose_name="reason",
                    ),
                ),
                ("is_paused", models.BooleanField(default=False, verbose_name="paused")),
                ("since", models.DateField(default=django.utils.timezone.localdate, editable=False)),
                (
                    "preset",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="schedules",
                        to="crm.exportpreset",
                        verbose_name="export preset",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        editable=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="export_schedules",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="for whom",
                    ),
                ),
            ],
            options={
                "verbose_name": "regular export",
                "verbose_name_plural": "regular exports",
                "ordering": ["preset", "pk"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.AddField(
            model_name="exportrun",
            name="schedule",
            field=models.ForeignKey(
                blank=True,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="runs",
                to="crm.exportschedule",
            ),
        ),
        migrations.AddConstraint(
            model_name="exportrun",
            constraint=models.UniqueConstraint(fields=("schedule", "slot"), name="export_run_slot_unique"),
        ),
        migrations.AddField(
            model_name="historicalexportpreset",
            name="user",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="user",
            ),
        ),
        migrations.AddField(
            model_name="historicalexportschedule",
            name="preset",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="crm.exportpreset",
                verbose_name="export preset",
            ),
        ),
        migrations.AddField(
            model_name="historicalexportschedule",
            name="user",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="for whom",
            ),
        ),
        migrations.AddConstraint(
            model_name="exportchoice",
            constraint=models.UniqueConstraint(fields=("user", "model"), name="export_choice_unique"),
        ),
        migrations.AddConstraint(
            model_name="exportpreset",
            constraint=models.UniqueConstraint(fields=("user", "model", "name"), name="export_preset_unique"),
        ),
        migrations.AddIndex(
            model_name="historicalexportpreset",
            index=models.Index(fields=["id", "history_id"], name="h_exportpreset_versions"),
        ),
        migrations.AddIndex(
            model_name="historicalexportpreset",
            index=models.Index(fields=["operation_id", "history_id"], name="h_exportpreset_operation"),
        ),
        migrations.AddIndex(
            model_name="historicalexportpreset",
            index=models.Index(
                condition=models.Q(("history_type", "-")), fields=["history_id"], name="h_exportpreset_gone"
            ),
        ),
        migrations.AddIndex(
            model_name="historicalexportschedule",
            index=models.Index(fields=["id", "history_id"], name="h_exportschedule_versions"),
        ),
        migrations.AddIndex(
            model_name="historicalexportschedule",
            index=models.Index(fields=["operation_id", "history_id"], name="h_exportschedule_operation"),
        ),
        migrations.AddIndex(
            model_name="historicalexportschedule",
            index=models.Index(
                condition=models.Q(("history_type", "-")), fields=["history_id"], name="h_exportschedule_gone"
            ),
        ),
    ]
