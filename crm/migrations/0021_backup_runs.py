# What a backup is, how far it is proven and where it lies.

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('crm', '0020_erasures'),
    ]

    operations = [
        migrations.CreateModel(
            name='BackupWatch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('trouble', models.TextField(blank=True, verbose_name='trouble')),
                ('looked_at', models.DateTimeField(verbose_name='looked at')),
            ],
        ),
        migrations.AlterModelOptions(
            name='backuprun',
            options={'ordering': ['-created_at', '-pk'], 'permissions': [('make_backup', 'Can make backups'), ('download_backup', 'Can download backups')], 'verbose_name': 'backup', 'verbose_name_plural': 'backups'},
        ),
        migrations.AddField(
            model_name='backuprun',
            name='engine',
            field=models.CharField(blank=True, max_length=60, verbose_name='database'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='files_total',
            field=models.PositiveIntegerField(default=0, verbose_name='files'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='is_local',
            field=models.BooleanField(default=True, verbose_name="on the worker's disk"),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='job',
            field=models.ForeignKey(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='crm.jobrun'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='kind',
            field=models.CharField(choices=[('nightly', 'Nightly'), ('weekly', 'Weekly archive'), ('hourly', 'Of the day'), ('by-hand', 'By hand'), ('before-migrate', 'Before an update'), ('safety', 'Before a restore')], default='by-hand', max_length=20, verbose_name='kind'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='offsite_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='off-site since'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='offsite_etag',
            field=models.CharField(blank=True, max_length=100, verbose_name='ETag'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='offsite_key',
            field=models.CharField(blank=True, max_length=400, verbose_name='off-site'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='offsite_message',
            field=models.TextField(blank=True, verbose_name='said by the store'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='proof',
            field=models.CharField(blank=True, choices=[('digests', 'Whole, but not restored'), ('restored', 'Restored and compared'), ('bad', 'Damaged')], max_length=10, verbose_name='proof'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='removed_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='removed'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='rows_total',
            field=models.PositiveBigIntegerField(default=0, verbose_name='rows'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='took_s',
            field=models.PositiveIntegerField(default=0, verbose_name='took (seconds)'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='verify_message',
            field=models.TextField(blank=True, verbose_name='said by the verification'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='verify_took_s',
            field=models.PositiveIntegerField(default=0, verbose_name='verification took (seconds)'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='version',
            field=models.CharField(blank=True, max_length=40, verbose_name='version of the program'),
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='kind',
            field=models.CharField(choices=[('change', 'Change'), ('import', 'Import'), ('bulk_edit', 'Bulk edit'), ('revert', 'Put back'), ('undo', 'Undo'), ('restore', 'Taken from the recycle bin'), ('export', 'Export'), ('login', 'Login'), ('logout', 'Logout'), ('login_failed', 'Failed login'), ('lockout', 'Lockout'), ('password', 'Password set'), ('permissions', 'Permissions changed'), ('refused', 'Access refused'), ('erasure', 'Erasure'), ('download', 'Backup downloaded')], default='change', max_length=12, verbose_name='kind'),
        ),
        migrations.AlterField(
            model_name='backuprun',
            name='created_at',
            field=models.DateTimeField(default=django.utils.timezone.now, verbose_name='made'),
        ),
        migrations.AddIndex(
            model_name='backuprun',
            index=models.Index(fields=['-created_at'], name='backup_run_newest'),
        ),
        migrations.AddConstraint(
            model_name='backuprun',
            constraint=models.UniqueConstraint(condition=models.Q(('file_name', ''), _negated=True), fields=('file_name',), name='backup_run_file_unique'),
        ),
    ]
