# The weekly report carries a spreadsheet.

import crm.encryption
from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('crm', '0008_bound_verifications'),
    ]

    operations = [
        migrations.AddField(
            model_name='messagelog',
            name='attachments',
            field=crm.encryption.EncryptedTextField(blank=True, editable=False),
        ),
    ]
