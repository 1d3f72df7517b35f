"""A line in the audit trail for every operation that left history rows before there was an audit trail."""

from django.db import migrations


def enter_older_operations(apps, schema_editor):
    quote = schema_editor.quote_name
    tables = [
        model._meta.db_table
        for model in apps.get_app_config("crm").get_models()
        if {"history_id", "operation_id"} <= {field.name for field in model._meta.fields}
    ]
    smallest_at = "history_date, history_user_id, history_user_name, source"
    rows = " UNION ALL ".join(f"SELECT operation_id, {smallest_at} FROM {quote(table)}" for table in tables)  # noqa: S608
    schema_editor.execute(
        "INSERT INTO crm_auditentry (operation_id, kind, at, user_id, user_name, source, reason, model, object_id, "  # noqa: S608
        "detail, counts) SELECT operation_id, CASE WHEN min(source) = 'import' THEN 'import' ELSE 'change' END, "
        "min(history_date), min(history_user_id), min(history_user_name), min(source), '', '', '', '', '{}' "
        f"FROM ({rows}) AS older GROUP BY operation_id ORDER BY min(history_date)"
    )


class Migration(migrations.Migration):
    dependencies = [("crm", "0002_audit_trail")]
    operations = [migrations.RunPython(enter_older_operations, migrations.RunPython.noop, elidable=True)]
