"""The processes of a watcher, from their start to their end."""
