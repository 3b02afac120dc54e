"""What the processes of a watcher are made of, by generation, and whether a new one is let in."""
