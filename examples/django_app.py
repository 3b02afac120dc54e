"""A Django project in one file: `forkserve -w 4 -b :8000 django_app:app`."""

from __future__ import annotations

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="only for this example")


def index(request: HttpRequest) -> JsonResponse:
    """Say which process answered, as JSON."""
    return JsonResponse({"message": "Hello from Django", "pid": os.getpid()})


urlpatterns = [path("", index)]
app = get_wsgi_application()
