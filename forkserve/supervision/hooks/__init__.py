"""Hooks: user functions that supervision calls before and after its actions; they run in other processes."""
