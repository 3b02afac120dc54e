"""Whether the workers make progress, and where they are if they do not."""
