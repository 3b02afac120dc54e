"""From what the user typed to a callable: `target` reads it, `importing` gets it, `interface` tells WSGI from ASGI."""
