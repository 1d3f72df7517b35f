"""`python -m crm.faults.victim KEY COMMAND ...`: a command, or `night SLOT` or `again RUN` for the job, that notes its
beginning and says at its end how many steps it took on the disk. With FAULTS_STEP it is killed before that one of them, with
all that it has started: so the moments between two steps, too short for any clock, are met too."""

import os
import resource
import signal
import sys

import django

# What changes a folder or begins to write a file; and who is started meanwhile. A lock is a moment of its own.
STEPS = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "fcntl.flock", "subprocess.Popen"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Steps:
    def __init__(self, last: int):
        self.done, self.last = 0, last

    def __call__(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _mode, flags = arguments
            counts = flags & WRITES and "__pycache__" not in str(path) and str(path) != os.devnull
        else:
            counts = event in STEPS
        if counts:
            self.done += 1
            if self.done == self.last:
                os.killpg(0, signal.SIGKILL)


def night(slot: str) -> None:
    from crm import jobs

    again(jobs.enqueue("nightly_backup", slot=slot, queue="long", is_knocked=False).pk)


def again(run) -> None:
    from crm import tasks

    tasks.run_job(int(run))


def limit_files() -> None:
    """So many bytes a file, also of all that is started."""
    if most := int(os.environ.get("FAULTS_FILE_SIZE", 0)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def lose_patience() -> None:
    from crm.backups import offsite

    offsite.CONNECT_S, offsite.READ_S, offsite.ATTEMPTS = 2, 2, 2
    offsite.PATIENCE_S, offsite.SLOWEST = 2, 1 << 20
    offsite.PART = 5 << 20  # the least that S3 takes


def main(key: str, what: str, *arguments: str) -> None:
    from django.core.management import CommandError, call_command

    from crm.faults.worker import note

    steps = Steps(int(os.environ.get("FAULTS_STEP", 0)))
    note("begin", int(key))
    limit_files()
    sys.addaudithook(steps)
    if what in ("night", "again"):
        lose_patience()
        globals()[what](*arguments)
    else:
        try:
            call_command(what, *arguments)
        except CommandError as error:
            sys.exit(str(error))
    print("steps", steps.done)


if __name__ == "__main__":
    django.setup()
    main(*sys.argv[1:])
