"""Work on a watcher that takes time, as frozen data, and how it continues: pure."""
