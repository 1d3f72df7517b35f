"""What is told of an import whose job ends while somebody looks."""

from crm.choices import ImportState, RunState
from crm.imports import runs
from crm.models import ImportRun, JobRun


def made(job_state: str) -> ImportRun:
    job = JobRun.objects.create(name="check_import", slot=job_state, due_at="2026-03-02T08:00Z", state=job_state)
    return ImportRun.objects.create(state=ImportState.CHECKING, file_name="x.csv", job=job)


def test_a_job_that_ended_between_two_looks_is_no_failure(db):
    run = made(RunState.DONE)
    ImportRun.objects.filter(pk=run.pk).update(state=ImportState.CHECKED)
    assert runs.state_of(run) == ImportState.CHECKED


def test_a_job_that_ended_without_a_word_to_its_run_is_one(db):
    assert {runs.state_of(made(state)) for state in (RunState.FAILED, RunState.DONE)} == {ImportState.FAILED}
