"""The supervising program: keeps commands running on sockets that the master owns."""
