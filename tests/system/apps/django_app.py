"""The routes of the frameworks' suite, in Django: `wsgi` and `asgi` serve the same views."""

from __future__ import annotations

import hashlib
import json

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="only for this test")


def json_view(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        return JsonResponse({"sum": sum(json.loads(request.body)["numbers"])})
    interface = "asgi" if hasattr(request, "scope") else "wsgi"
    facts = {"name": request.GET["name"], "address": request.META["REMOTE_ADDR"]}
    return JsonResponse(facts, headers={"X-Interface": interface})


def form(request: HttpRequest) -> HttpResponse:
    return JsonResponse(request.POST.dict())


def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    data = file.read()
    return JsonResponse({"name": file.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def later() -> object:
        for number in range(100):
            yield f"line {number}\n"

    lines = later() if hasattr(request, "scope") else (f"line {number}\n" for number in range(100))
    return StreamingHttpResponse(lines, content_type="text/plain")


def cookies(request: HttpRequest) -> HttpResponse:
    response = JsonResponse(request.COOKIES)
    response.set_cookie("first", "1")
    response.set_cookie("second", "2")
    response["X-Seen"] = request.headers["X-Sent"]
    return response


urlpatterns = [
    path("json", json_view),
    path("form", form),
    path("upload", upload),
    path("stream", stream),
    path("cookies", cookies),
]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
