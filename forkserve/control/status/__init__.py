"""The master for monitoring: health and metrics."""
