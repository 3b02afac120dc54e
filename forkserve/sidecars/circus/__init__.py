"""Circus's ZeroMQ interface over the control interface: circusctl and the client classes work unmodified."""
