"""The web process. It alone pools database connections, and it does not come up with unsafe settings or a wrong key."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
os.environ.setdefault("DATABASE_POOL", "1")

from django.core.asgi import get_asgi_application
from django.utils.module_loading import import_string

django_application = get_asgi_application()  # sets Django up, before anything of crm can be imported
import_string("crm.checks.refuse_unsafe_start")()
application = import_string("crm.middleware.BodyLimit")(django_application)
