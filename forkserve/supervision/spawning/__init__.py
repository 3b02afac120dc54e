"""What the options of a watcher come to, and how one process is started."""
