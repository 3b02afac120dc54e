"""The program that runs a user's hooks, a client of the control interface."""
