"""Ways to serve an application: our own backends, and thin adapters over other servers."""
