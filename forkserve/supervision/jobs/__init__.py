"""Work on a watcher that takes time, as frozen data, and how it goes on: pure."""
