"""The kernel, thinly: one module for each thing that a process needs from Unix."""
