"""From the user's input to a callable: `target` parses it, `importing` imports it, `interface` tells WSGI from ASGI."""
