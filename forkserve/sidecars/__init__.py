"""Programs that run beside the master and use only the control interface, like any other client."""
