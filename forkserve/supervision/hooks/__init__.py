"""Hooks: callables of the user's that supervision asks before and after what it does; they run in other processes."""
