"""The control API over TCP, for clients with its token: a separate process in front of the control socket."""
