"""ASGI 3 as data: scopes, messages, lifespan, WebSocket; no sockets here."""
