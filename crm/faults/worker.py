"""`python -m crm.faults.worker`: the worker, with a job that notes what it does in a file, past every transaction, and with
short patience where the environment asks for it."""

import datetime
import os
import sys
import time

import django

# Nothing of it may stay anywhere when a job raises it.
SECRET = "Alenka Neprozrazená 850101/1235"


def work(progress) -> None:
    run, arguments = progress.run.pk, progress.arguments
    note("begin", run)
    for number in range(arguments.get("chunks", 0)):
        time.sleep(0.1)
        if not arguments.get("deaf"):
            progress(number)
    if arguments.get("raises"):
        raise ValueError(SECRET)
    note("end", run)


def note(what: str, run: int) -> None:
    with open(os.environ["FAULTS_JOURNAL"], "a") as journal:  # one write, so lines of several processes stay whole
        journal.write(f"{what} {run} {os.getpid()}\n")


def noted(job):
    """That job of the product's, with its beginning in the file."""

    def do(progress):
        note("begin", progress.run.pk)
        return job(progress)

    return do


def add_slots(count: int) -> None:
    """So many schedules; each has had one slot in any stretch of a day."""
    from crm import schedules, tasks

    for number in range(count):
        name = f"slot {number}"
        tasks.JOBS[name] = work
        schedules.SCHEDULES[name] = schedules.Schedule(
            name, name, schedules.Clock(datetime.time(8)), datetime.timedelta(days=1)
        )


def lose_patience() -> None:
    """A suite has no time; what is waited for stays the same."""
    from django_q import pusher

    from crm import jobs, supervisor

    second = datetime.timedelta(seconds=1)
    supervisor.BEAT_EVERY_S, supervisor.SILENCE_S = 1, float(os.environ.get("FAULTS_SILENCE_S", 40))
    jobs.BEAT_EVERY_S, jobs.SILENT, jobs.LOST = 0.3, 3 * second, second
    jobs.RETRY_AFTER = (second / 2, second / 2)
    pusher.sleep = lambda seconds: time.sleep(min(seconds, 1))


if __name__ == "__main__":
    django.setup()

    from crm import supervisor, tasks

    tasks.JOBS |= {"work": work, "write_import": noted(tasks.JOBS["write_import"])}
    add_slots(int(os.environ.get("FAULTS_SLOTS", 0)))
    if os.environ.get("FAULTS_PATIENCE") == "short":
        lose_patience()
    sys.exit(supervisor.supervise())
