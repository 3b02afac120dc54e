"""What the master counts and measures: of requests, of processes, of itself."""
