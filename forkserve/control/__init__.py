"""Commands over the master, and the HTTP/JSON interface that carries them."""
