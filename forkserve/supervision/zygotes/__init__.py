"""The processes that import an application once, and fork the workers of a watcher."""
