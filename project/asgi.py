"""The web process. It alone pools database connections, and it does not come up with unsafe settings or a wrong key."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
os.environ.setdefault("DATABASE_POOL", "1")

from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from project import env

STARTUP_FAILURE = 3  # uvicorn's own: with any other code it starts the process again, for ever


def prepare() -> None:
    try:
        import_string("crm.checks.refuse_unsafe_start")()
        import_string("crm.backups.placing.finish_at_start")()
    finally:
        connections.close_all()


django_application = get_asgi_application()  # sets Django up, before anything of crm can be imported
try:
    # In a thread: one of several processes imports this inside its event loop, where Django refuses to ask a database.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(prepare).result()
except ImproperlyConfigured as error:
    print(f"Hypodesk does not start: {error}", file=sys.stderr, flush=True)
    # At once: uvicorn's parent waits its whole health check's time for a process that is still tidying up.
    os._exit(STARTUP_FAILURE)
if env.boolean("RUN_WORKER_IN_WEB"):
    import_string("crm.supervisor.run_beside_web")()
application = import_string("crm.middleware.BodyLimit")(django_application)
