# Whether an operation was undone is asked by each of its pages.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('crm', '0005_jobs'),
    ]

    operations = [
        migrations.AlterField(
            model_name='auditentry',
            name='undoes',
            field=models.UUIDField(blank=True, db_index=True, editable=False, null=True),
        ),
    ]
