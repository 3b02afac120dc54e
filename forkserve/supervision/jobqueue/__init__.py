"""The jobs of each watcher in their order: what runs, what waits, and for what."""
