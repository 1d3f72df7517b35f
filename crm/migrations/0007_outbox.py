# A message is tried again under one id until it is taken, refused or given up, and is found by its recipient.

import crm.encryption
import django.db.models.deletion
import django.utils.timezone
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('crm', '0006_undone_operations'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='messagelog',
            options={'ordering': ['-created_at'], 'permissions': [('resend_message', 'Can send messages again')], 'verbose_name': 'message', 'verbose_name_plural': 'messages'},
        ),
        migrations.AddField(
            model_name='messagelog',
            name='attempts',
            field=models.PositiveSmallIntegerField(default=0, verbose_name='attempts'),
        ),
        migrations.AddField(
            model_name='messagelog',
            name='html',
            field=crm.encryption.EncryptedTextField(blank=True, editable=False),
        ),
        migrations.AddField(
            model_name='messagelog',
            name='language',
            field=models.CharField(choices=[('cs', 'Čeština'), ('en', 'English')], default='cs', max_length=2, verbose_name='language'),
        ),
        migrations.AddField(
            model_name='messagelog',
            name='message_id',
            field=models.UUIDField(default=uuid.uuid4, editable=False),
        ),
        migrations.AddField(
            model_name='messagelog',
            name='next_try_at',
            field=models.DateTimeField(blank=True, default=django.utils.timezone.now, null=True, verbose_name='next try'),
        ),
        migrations.AddField(
            model_name='messagelog',
            name='recipient_digest',
            field=models.BinaryField(blank=True, max_length=16, null=True),
        ),
        migrations.AddField(
            model_name='messagelog',
            name='user',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='user'),
        ),
        migrations.AddIndex(
            model_name='messagelog',
            index=models.Index(condition=models.Q(('state__in', ['waiting', 'failed'])), fields=['next_try_at'], name='message_to_send'),
        ),
        migrations.AddIndex(
            model_name='messagelog',
            index=models.Index(fields=['recipient_digest'], name='message_recipient'),
        ),
    ]
