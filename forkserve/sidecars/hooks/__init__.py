"""The program that hooks of the user's run in, a client of the control interface."""
