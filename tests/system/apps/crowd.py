"""Says which process answers. `/hold` holds the whole process until the test lets it go: by the pipes named ENTERED and
LEAVE. `/hold-later` of the ASGI application does so in a later step of the event loop."""

import asyncio
import os

PID = b"pid=%d." % os.getpid()
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(PID)))]


def hold():
    entered = os.open(os.environ["ENTERED"], os.O_WRONLY)
    leave = os.open(os.environ["LEAVE"], os.O_RDONLY)
    os.write(entered, b".")
    os.read(leave, 1)
    os.close(entered)
    os.close(leave)


def wsgi(environ, start_response):
    if environ["PATH_INFO"].startswith("/hold"):
        hold()
    start_response("200 OK", HEADERS)
    return [PID]


async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/hold":
        hold()
    elif scope["path"] == "/hold-later":
        await asyncio.sleep(0)
        hold()
    headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PID})
