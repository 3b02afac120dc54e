"""What only the master asks of the kernel, one module for each thing."""
