"""Supervision as plain data, and back, for the master that comes next."""
