"""The control API by TCP, for those that have its token: a door before the control socket, in a separate process."""
