"""A prefork WSGI/ASGI application server with socket supervision built in."""

__version__ = "0.1.0"
