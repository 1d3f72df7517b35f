"""`python -m crm.tests.worker_with_jobs`: the worker, with a job that works for ever and short patience."""

import os
import sys
import time

import django

if __name__ == "__main__":
    django.setup()

    from crm import jobs, supervisor, tasks

    def endless(progress: jobs.Progress) -> None:
        number = 0
        while True:
            time.sleep(0.1)
            number += 1
            if not progress.arguments.get("deaf"):
                progress(number)

    tasks.JOBS["endless"] = endless
    supervisor.BEAT_EVERY_S = 2
    supervisor.SILENCE_S = float(os.environ.get("SILENCE_S", 60))
    sys.exit(supervisor.supervise())
