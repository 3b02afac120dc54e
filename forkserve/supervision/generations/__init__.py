"""The generations of a watcher's processes, and whether a new one is accepted."""
