"""The driver under every backend of our own: sockets, connections, timers."""
