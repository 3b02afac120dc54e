"""The WSGI interface, PEP 3333: environ, input, start_response and the ways in which a response is sent."""
