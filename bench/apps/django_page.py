"""A Django view that renders a template of 50 rows, as WSGI and as ASGI."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine
from django.urls import path

PAGE = """<!doctype html><title>{{ title }}</title><table>
{% for row in rows %}<tr class="{% cycle 'odd' 'even' %}"><td>{{ row.id }}<td>{{ row.name|title }}</tr>
{% endfor %}</table>"""

if not settings.configured:
    settings.configure(DEBUG=False, SECRET_KEY="bench", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)
    django.setup()

_template = Engine().from_string(PAGE)


def index(request: HttpRequest) -> HttpResponse:
    """Render the page."""
    rows = [{"id": number, "name": f"name <{number}>"} for number in range(50)]
    return HttpResponse(_template.render(Context({"title": "Bench", "rows": rows})))


urlpatterns = [path("", index)]
wsgi = get_wsgi_application()
_asgi = get_asgi_application()


async def asgi(scope, receive, send):  # type: ignore[no-untyped-def]
    """Django has no lifespan; some servers insist on one."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await _asgi(scope, receive, send)
