"""The ordered stop of everything."""
