"""From the options of a watcher to the start of one process."""
