# The erasure ledger, and who may erase.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('crm', '0019_export_of_every_list'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='client',
            options={'ordering': ['-reference'], 'permissions': [('import_client', 'Can import clients'), ('export_client', 'Can export clients'), ('erase_client', 'Can erase clients')], 'verbose_name': 'client', 'verbose_name_plural': 'clients'},
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='kind',
            field=models.CharField(choices=[('change', 'Change'), ('import', 'Import'), ('bulk_edit', 'Bulk edit'), ('revert', 'Put back'), ('undo', 'Undo'), ('restore', 'Taken from the recycle bin'), ('export', 'Export'), ('login', 'Login'), ('logout', 'Logout'), ('login_failed', 'Failed login'), ('lockout', 'Lockout'), ('password', 'Password set'), ('permissions', 'Permissions changed'), ('refused', 'Access refused'), ('erasure', 'Erasure')], default='change', max_length=12, verbose_name='kind'),
        ),
        migrations.CreateModel(
            name='Erasure',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scope', models.CharField(choices=[('client', 'Client')], max_length=10, verbose_name='of what')),
                ('object_id', models.BigIntegerField(verbose_name='number')),
                ('made_at', models.DateTimeField(verbose_name='record made')),
                ('asked_at', models.DateTimeField(verbose_name='asked for')),
                ('kept_until', models.DateField(blank=True, null=True, verbose_name='kept until')),
                ('erased_at', models.DateTimeField(blank=True, null=True, verbose_name='erased')),
            ],
            options={
                'verbose_name': 'erasure',
                'verbose_name_plural': 'erasures',
                'ordering': ['-asked_at', '-pk'],
                'default_permissions': ('view',),
                'indexes': [models.Index(condition=models.Q(('erased_at__isnull', True)), fields=['kept_until'], name='erasure_waiting')],
                'constraints': [models.UniqueConstraint(fields=('scope', 'object_id', 'made_at'), name='erasure_unique')],
            },
        ),
    ]
