"""The slots of a watcher: how they are filled, what follows from an end, and which get connections."""
