"""Watchers with a schedule: when a run is due, the runs, and how they ended."""
