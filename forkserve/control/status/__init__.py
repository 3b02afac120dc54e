"""What monitoring is told of the master: health and metrics."""
