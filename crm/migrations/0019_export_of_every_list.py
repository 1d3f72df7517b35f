# Each list has a permission of its own to export it.

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("crm", "0018_exports_of_all_cases"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="caseparty",
            options={
                "permissions": [("export_caseparty", "Can export parties")],
                "verbose_name": "party",
                "verbose_name_plural": "parties",
            },
        ),
        migrations.AlterModelOptions(
            name="casestep",
            options={
                "ordering": ["case", "step__number", "step"],
                "permissions": [("export_casestep", "Can export steps of cases")],
                "verbose_name": "step of a case",
                "verbose_name_plural": "steps of cases",
            },
        ),
        migrations.AlterModelOptions(
            name="commission",
            options={
                "permissions": [("export_commission", "Can export commissions")],
                "verbose_name": "commission",
                "verbose_name_plural": "commissions",
            },
        ),
        migrations.AlterModelOptions(
            name="consent",
            options={
                "permissions": [("export_consent", "Can export consents")],
                "verbose_name": "consent",
                "verbose_name_plural": "consents",
            },
        ),
        migrations.AlterModelOptions(
            name="document",
            options={
                "permissions": [("export_document", "Can export documents")],
                "verbose_name": "document",
                "verbose_name_plural": "documents",
            },
        ),
        migrations.AlterModelOptions(
            name="financeitem",
            options={
                "permissions": [("export_financeitem", "Can export incomes and liabilities")],
                "verbose_name": "income or liability",
                "verbose_name_plural": "incomes and liabilities",
            },
        ),
        migrations.AlterModelOptions(
            name="identification",
            options={
                "permissions": [("export_identification", "Can export identifications")],
                "verbose_name": "identification",
                "verbose_name_plural": "identifications",
            },
        ),
        migrations.AlterModelOptions(
            name="messagelog",
            options={
                "ordering": ["-created_at"],
                "permissions": [
                    ("resend_message", "Can send messages again"),
                    ("export_messagelog", "Can export messages"),
                ],
                "verbose_name": "message",
                "verbose_name_plural": "messages",
            },
        ),
        migrations.AlterModelOptions(
            name="note",
            options={
                "ordering": ["-created_at", "-pk"],
                "permissions": [("export_note", "Can export notes")],
                "verbose_name": "note",
                "verbose_name_plural": "notes",
            },
        ),
        migrations.AlterModelOptions(
            name="property",
            options={
                "permissions": [("export_property", "Can export properties")],
                "verbose_name": "property",
                "verbose_name_plural": "properties",
            },
        ),
    ]
