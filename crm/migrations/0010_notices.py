# Who is told of what and how, the notices themselves, the texts of messages, calendar addresses.

import crm.encryption
import crm.models.operations
import django.db.models.deletion
import django.utils.timezone
import simple_history.models
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("crm", "0009_attachments"),
    ]

    operations = [
        migrations.CreateModel(
            name="NoticeRule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("new_client", "New client"),
                            ("new_case", "New case"),
                            ("step_completed", "Step completed"),
                            ("step_reopened", "Step reopened"),
                            ("approved", "Case approved"),
                            ("declined", "Case declined"),
                            ("withdrawn", "Case withdrawn"),
                            ("reopened", "Case reopened"),
                            ("handed_over", "Case handed over"),
                            ("deadlines", "Deadlines"),
                            ("radar", "What runs out"),
                            ("weekly_report", "Weekly report"),
                        ],
                        editable=False,
                        max_length=40,
                        unique=True,
                        verbose_name="of what",
                    ),
                ),
                (
                    "to_adviser",
                    models.BooleanField(
                        default=False,
                        help_text="While he is absent his stand-in too.",
                        verbose_name="the case's adviser",
                    ),
                ),
                ("to_managers", models.BooleanField(default=False, verbose_name="managers")),
                ("to_administrators", models.BooleanField(default=False, verbose_name="administrators")),
                (
                    "to_client",
                    models.BooleanField(
                        default=False,
                        help_text="Of steps only those whose kind says so. Only who has an e-mail and has not declined.",
                        verbose_name="the client",
                    ),
                ),
            ],
            options={
                "verbose_name": "who is told of what",
                "verbose_name_plural": "who is told of what",
                "ordering": ["pk"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.AddField(
            model_name="messagelog",
            name="expires_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="no use after"),
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
                ],
                default="waiting",
                max_length=10,
                verbose_name="state",
            ),
        ),
        migrations.CreateModel(
            name="CalendarFeed",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(db_index=True, editable=False, max_length=64)),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="calendar_feed",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "calendar address",
                "verbose_name_plural": "calendar addresses",
                "ordering": ["user"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="HistoricalMessageText",
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
                    "kind",
                    models.CharField(
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
                        editable=False,
                        max_length=40,
                        verbose_name="kind",
                    ),
                ),
                (
                    "language",
                    models.CharField(
                        choices=[("cs", "Čeština"), ("en", "English")],
                        editable=False,
                        max_length=2,
                        verbose_name="language",
                    ),
                ),
                ("subject", models.CharField(blank=True, max_length=200, verbose_name="subject")),
                ("body", models.TextField(blank=True, verbose_name="text")),
                ("html", models.TextField(blank=True, verbose_name="HTML")),
                ("history_id", models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1),
                ),
            ],
            options={
                "verbose_name": "historical text of messages",
                "verbose_name_plural": "historical texts of messages",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["id", "history_id"], name="h_messagetext_versions"),
                    models.Index(fields=["operation_id", "history_id"], name="h_messagetext_operation"),
                    models.Index(
                        condition=models.Q(("history_type", "-")), fields=["history_id"], name="h_messagetext_gone"
                    ),
                ],
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalNoticeRule",
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
                    "kind",
                    models.CharField(
                        choices=[
                            ("new_client", "New client"),
                            ("new_case", "New case"),
                            ("step_completed", "Step completed"),
                            ("step_reopened", "Step reopened"),
                            ("approved", "Case approved"),
                            ("declined", "Case declined"),
                            ("withdrawn", "Case withdrawn"),
                            ("reopened", "Case reopened"),
                            ("handed_over", "Case handed over"),
                            ("deadlines", "Deadlines"),
                            ("radar", "What runs out"),
                            ("weekly_report", "Weekly report"),
                        ],
                        editable=False,
                        max_length=40,
                        verbose_name="of what",
                    ),
                ),
                (
                    "to_adviser",
                    models.BooleanField(
                        default=False,
                        help_text="While he is absent his stand-in too.",
                        verbose_name="the case's adviser",
                    ),
                ),
                ("to_managers", models.BooleanField(default=False, verbose_name="managers")),
                ("to_administrators", models.BooleanField(default=False, verbose_name="administrators")),
                (
                    "to_client",
                    models.BooleanField(
                        default=False,
                        help_text="Of steps only those whose kind says so. Only who has an e-mail and has not declined.",
                        verbose_name="the client",
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
                "verbose_name": "historical who is told of what",
                "verbose_name_plural": "historical who is told of what",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["id", "history_id"], name="h_noticerule_versions"),
                    models.Index(fields=["operation_id", "history_id"], name="h_noticerule_operation"),
                    models.Index(
                        condition=models.Q(("history_type", "-")), fields=["history_id"], name="h_noticerule_gone"
                    ),
                ],
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="MessageText",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
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
                        editable=False,
                        max_length=40,
                        verbose_name="kind",
                    ),
                ),
                (
                    "language",
                    models.CharField(
                        choices=[("cs", "Čeština"), ("en", "English")],
                        editable=False,
                        max_length=2,
                        verbose_name="language",
                    ),
                ),
                ("subject", models.CharField(blank=True, max_length=200, verbose_name="subject")),
                ("body", models.TextField(blank=True, verbose_name="text")),
                ("html", models.TextField(blank=True, verbose_name="HTML")),
            ],
            options={
                "verbose_name": "text of messages",
                "verbose_name_plural": "texts of messages",
                "ordering": ["kind", "language"],
                "abstract": False,
                "base_manager_name": "objects",
                "constraints": [models.UniqueConstraint(fields=("kind", "language"), name="message_text_unique")],
            },
        ),
        migrations.CreateModel(
            name="HistoricalCalendarFeed",
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
                ("digest", models.CharField(editable=False, max_length=64)),
                ("history_id", models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1),
                ),
                (
                    "user",
                    models.ForeignKey(
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
            ],
            options={
                "verbose_name": "historical calendar address",
                "verbose_name_plural": "historical calendar addresses",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["id", "history_id"], name="h_calendarfeed_versions"),
                    models.Index(fields=["operation_id", "history_id"], name="h_calendarfeed_operation"),
                    models.Index(
                        condition=models.Q(("history_type", "-")), fields=["history_id"], name="h_calendarfeed_gone"
                    ),
                ],
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalNoticeChoice",
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
                    "kind",
                    models.CharField(
                        choices=[
                            ("new_client", "New client"),
                            ("new_case", "New case"),
                            ("step_completed", "Step completed"),
                            ("step_reopened", "Step reopened"),
                            ("approved", "Case approved"),
                            ("declined", "Case declined"),
                            ("withdrawn", "Case withdrawn"),
                            ("reopened", "Case reopened"),
                            ("handed_over", "Case handed over"),
                            ("deadlines", "Deadlines"),
                            ("radar", "What runs out"),
                            ("weekly_report", "Weekly report"),
                        ],
                        max_length=40,
                        verbose_name="of what",
                    ),
                ),
                (
                    "channel",
                    models.CharField(
                        choices=[
                            ("both", "E-mail and inbox"),
                            ("mail", "E-mail"),
                            ("inbox", "Inbox"),
                            ("none", "Nothing"),
                        ],
                        default="both",
                        max_length=10,
                        verbose_name="how",
                    ),
                ),
                ("is_subscribed", models.BooleanField(default=False, verbose_name="of all cases that I may see")),
                ("history_id", models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1),
                ),
                (
                    "user",
                    models.ForeignKey(
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
            ],
            options={
                "verbose_name": "historical choice of notices",
                "verbose_name_plural": "historical choices of notices",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["id", "history_id"], name="h_noticechoice_versions"),
                    models.Index(fields=["operation_id", "history_id"], name="h_noticechoice_operation"),
                    models.Index(
                        condition=models.Q(("history_type", "-")), fields=["history_id"], name="h_noticechoice_gone"
                    ),
                ],
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="Notice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("new_client", "New client"),
                            ("new_case", "New case"),
                            ("step_completed", "Step completed"),
                            ("step_reopened", "Step reopened"),
                            ("approved", "Case approved"),
                            ("declined", "Case declined"),
                            ("withdrawn", "Case withdrawn"),
                            ("reopened", "Case reopened"),
                            ("handed_over", "Case handed over"),
                            ("deadlines", "Deadlines"),
                            ("radar", "What runs out"),
                            ("weekly_report", "Weekly report"),
                        ],
                        max_length=40,
                        verbose_name="of what",
                    ),
                ),
                ("count", models.PositiveIntegerField(default=1, verbose_name="count")),
                ("detail", models.JSONField(default=dict, editable=False)),
                ("by_name", models.CharField(blank=True, max_length=200, verbose_name="who")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="when")),
                ("in_inbox", models.BooleanField(default=True, editable=False)),
                ("read_at", models.DateTimeField(null=True, verbose_name="read")),
                ("wants_mail", models.BooleanField(default=False, editable=False)),
                ("mailed_at", models.DateTimeField(editable=False, null=True)),
                (
                    "case",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="crm.case",
                        verbose_name="case",
                    ),
                ),
                (
                    "client",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="crm.client",
                        verbose_name="client",
                    ),
                ),
                (
                    "step",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="crm.step",
                        verbose_name="step",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="notices",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "notice",
                "verbose_name_plural": "notices",
                "ordering": ["-created_at", "-pk"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("in_inbox", True)), fields=["user", "-created_at"], name="notice_inbox"
                    ),
                    models.Index(
                        condition=models.Q(("in_inbox", True), ("read_at", None)), fields=["user"], name="notice_unread"
                    ),
                    models.Index(
                        condition=models.Q(("mailed_at", None), ("wants_mail", True)),
                        fields=["created_at"],
                        name="notice_to_mail",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="NoticeChoice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("new_client", "New client"),
                            ("new_case", "New case"),
                            ("step_completed", "Step completed"),
                            ("step_reopened", "Step reopened"),
                            ("approved", "Case approved"),
                            ("declined", "Case declined"),
                            ("withdrawn", "Case withdrawn"),
                            ("reopened", "Case reopened"),
                            ("handed_over", "Case handed over"),
                            ("deadlines", "Deadlines"),
                            ("radar", "What runs out"),
                            ("weekly_report", "Weekly report"),
                        ],
                        max_length=40,
                        verbose_name="of what",
                    ),
                ),
                (
                    "channel",
                    models.CharField(
                        choices=[
                            ("both", "E-mail and inbox"),
                            ("mail", "E-mail"),
                            ("inbox", "Inbox"),
                            ("none", "Nothing"),
                        ],
                        default="both",
                        max_length=10,
                        verbose_name="how",
                    ),
                ),
                ("is_subscribed", models.BooleanField(default=False, verbose_name="of all cases that I may see")),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="notice_choices",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "choice of notices",
                "verbose_name_plural": "choices of notices",
                "ordering": ["user", "kind"],
                "abstract": False,
                "base_manager_name": "objects",
                "constraints": [models.UniqueConstraint(fields=("user", "kind"), name="notice_choice_unique")],
            },
        ),
    ]
