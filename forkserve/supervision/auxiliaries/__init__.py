"""The programs beside the master: the guard, the log writer and sidecars."""
