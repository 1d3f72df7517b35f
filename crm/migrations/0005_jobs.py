# Runs of jobs are claimed, watched and tried again; the office chooses when; workers say that they live.

import crm.encryption
import crm.models.jobs
import crm.models.operations
import django.utils.timezone
import simple_history.models
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('crm', '0004_what_was_deleted'),
    ]

    operations = [
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('worker', models.CharField(max_length=80, primary_key=True, serialize=False)),
                ('at', models.DateTimeField(db_index=True)),
                ('since', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='HistoricalJobSchedule',
            fields=[
                ('id', models.BigIntegerField(auto_created=True, blank=True, verbose_name='ID')),
                ('history_user_name', models.CharField(default=crm.models.operations.history_user_name, editable=False, max_length=200, verbose_name='by')),
                ('operation_id', models.UUIDField(default=crm.models.operations.history_operation_id, editable=False, verbose_name='operation')),
                ('source', models.CharField(choices=[('admin', 'Admin'), ('import', 'Import'), ('api', 'API'), ('portal', 'Portal'), ('job', 'Job'), ('command', 'Command'), ('shell', 'Shell')], default=crm.models.operations.history_source, editable=False, max_length=10, verbose_name='source')),
                ('history_user_id', models.BigIntegerField(blank=True, null=True)),
                ('history_change_reason', crm.encryption.EncryptedTextField(blank=True, null=True)),
                ('name', models.CharField(editable=False, max_length=60, verbose_name='job')),
                ('at', models.TimeField(blank=True, help_text='Empty: the usual time.', null=True, verbose_name='time')),
                ('weekday', models.PositiveSmallIntegerField(blank=True, choices=[(1, 'Monday'), (2, 'Tuesday'), (3, 'Wednesday'), (4, 'Thursday'), (5, 'Friday'), (6, 'Saturday'), (7, 'Sunday')], null=True, verbose_name='weekday')),
                ('is_paused', models.BooleanField(default=False, verbose_name='paused')),
                ('ping_url', models.CharField(blank=True, help_text='Called when the job is done; with /start at its beginning and /fail when it failed.', max_length=300, validators=[crm.models.jobs.is_http_url], verbose_name='ping address')),
                ('since', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('history_id', models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ('history_date', models.DateTimeField(db_index=True)),
                ('history_type', models.CharField(choices=[('+', 'Created'), ('~', 'Changed'), ('-', 'Deleted')], max_length=1)),
            ],
            options={
                'verbose_name': 'historical schedule',
                'verbose_name_plural': 'historical schedules',
                'ordering': ('-history_date', '-history_id'),
                'get_latest_by': ('history_date', 'history_id'),
                'default_permissions': (),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name='JobSchedule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(editable=False, max_length=60, unique=True, verbose_name='job')),
                ('at', models.TimeField(blank=True, help_text='Empty: the usual time.', null=True, verbose_name='time')),
                ('weekday', models.PositiveSmallIntegerField(blank=True, choices=[(1, 'Monday'), (2, 'Tuesday'), (3, 'Wednesday'), (4, 'Thursday'), (5, 'Friday'), (6, 'Saturday'), (7, 'Sunday')], null=True, verbose_name='weekday')),
                ('is_paused', models.BooleanField(default=False, verbose_name='paused')),
                ('ping_url', models.CharField(blank=True, help_text='Called when the job is done; with /start at its beginning and /fail when it failed.', max_length=300, validators=[crm.models.jobs.is_http_url], verbose_name='ping address')),
                ('since', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                'verbose_name': 'schedule',
                'verbose_name_plural': 'schedules',
                'ordering': ['name'],
                'abstract': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.AlterModelOptions(
            name='jobrun',
            options={'ordering': ['-created_at', '-pk'], 'permissions': [('run_job', 'Can run, cancel and retry jobs')], 'verbose_name': 'job run', 'verbose_name_plural': 'job runs'},
        ),
        migrations.AddField(
            model_name='jobrun',
            name='arguments',
            field=models.JSONField(blank=True, default=dict, editable=False),
        ),
        migrations.AddField(
            model_name='jobrun',
            name='beat_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='last sign of life'),
        ),
        migrations.AddField(
            model_name='jobrun',
            name='claim',
            field=models.UUIDField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name='jobrun',
            name='counts',
            field=models.JSONField(blank=True, default=dict, verbose_name='result'),
        ),
        migrations.AddField(
            model_name='jobrun',
            name='done_count',
            field=models.PositiveIntegerField(default=0, verbose_name='done so far'),
        ),
        migrations.AddField(
            model_name='jobrun',
            name='due_at',
            field=models.DateTimeField(default=django.utils.timezone.now, verbose_name='due'),
        ),
        migrations.AddField(
            model_name='jobrun',
            name='enqueued_at',
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name='jobrun',
            name='is_cancelled',
            field=models.BooleanField(default=False, verbose_name='cancel'),
        ),
        migrations.AddField(
            model_name='jobrun',
            name='log',
            field=models.TextField(blank=True, verbose_name='log'),
        ),
        migrations.AddField(
            model_name='jobrun',
            name='progressed_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='last progress'),
        ),
        migrations.AddField(
            model_name='jobrun',
            name='queue',
            field=models.CharField(choices=[('quick', 'Quick'), ('long', 'Long')], default='quick', max_length=10, verbose_name='queue'),
        ),
        migrations.AddField(
            model_name='jobrun',
            name='total_count',
            field=models.PositiveIntegerField(default=0, verbose_name='of'),
        ),
        migrations.AddField(
            model_name='jobrun',
            name='worker',
            field=models.CharField(blank=True, max_length=80, verbose_name='worker'),
        ),
        migrations.AddIndex(
            model_name='jobrun',
            index=models.Index(condition=models.Q(('state__in', ['queued', 'running'])), fields=['state', 'due_at'], name='job_run_open'),
        ),
        migrations.AddIndex(
            model_name='jobrun',
            index=models.Index(fields=['name', '-due_at'], name='job_run_of_job'),
        ),
        migrations.AddIndex(
            model_name='jobrun',
            index=models.Index(fields=['-progressed_at'], name='job_run_progress'),
        ),
        migrations.AddIndex(
            model_name='historicaljobschedule',
            index=models.Index(fields=['id', 'history_id'], name='h_jobschedule_versions'),
        ),
        migrations.AddIndex(
            model_name='historicaljobschedule',
            index=models.Index(fields=['operation_id', 'history_id'], name='h_jobschedule_operation'),
        ),
        migrations.AddIndex(
            model_name='historicaljobschedule',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_jobschedule_gone'),
        ),
    ]
