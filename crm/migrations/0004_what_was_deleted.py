# The message keeps the number of its deleted case; what was deleted is found by an index of its own.

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('crm', '0003_audit_of_older_changes'),
    ]

    operations = [
        migrations.AlterField(
            model_name='messagelog',
            name='case',
            field=models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='messages', to='crm.case', verbose_name='case'),
        ),
        migrations.AddIndex(
            model_name='historicalcase',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_case_gone'),
        ),
        migrations.AddIndex(
            model_name='historicalcaseparty',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_caseparty_gone'),
        ),
        migrations.AddIndex(
            model_name='historicalcasestep',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_casestep_gone'),
        ),
        migrations.AddIndex(
            model_name='historicalclient',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_client_gone'),
        ),
        migrations.AddIndex(
            model_name='historicalcommission',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_commission_gone'),
        ),
        migrations.AddIndex(
            model_name='historicalconsent',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_consent_gone'),
        ),
        migrations.AddIndex(
            model_name='historicaldocument',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_document_gone'),
        ),
        migrations.AddIndex(
            model_name='historicaldocumenttype',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_documenttype_gone'),
        ),
        migrations.AddIndex(
            model_name='historicalfinanceitem',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_financeitem_gone'),
        ),
        migrations.AddIndex(
            model_name='historicalidentification',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_identification_gone'),
        ),
        migrations.AddIndex(
            model_name='historicallender',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_lender_gone'),
        ),
        migrations.AddIndex(
            model_name='historicalnote',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_note_gone'),
        ),
        migrations.AddIndex(
            model_name='historicalproperty',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_property_gone'),
        ),
        migrations.AddIndex(
            model_name='historicalregulatorylimit',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_regulatorylimit_gone'),
        ),
        migrations.AddIndex(
            model_name='historicalstep',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_step_gone'),
        ),
        migrations.AddIndex(
            model_name='historicaluser',
            index=models.Index(condition=models.Q(('history_type', '-')), fields=['history_id'], name='h_user_gone'),
        ),
    ]
