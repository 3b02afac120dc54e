"""Programs that `[plugin:NAME]` runs: Circus's own plugins, over the control interface, and those of users."""
