"""Whether the workers go on, and where they are when they do not."""
