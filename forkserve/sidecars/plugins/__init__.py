"""Programs that `[plugin:NAME]` runs: what Circus's own plugins do, over the control interface, and those of users."""
