"""The kernel, thinly: one module for each thing that a process asks of Unix."""
