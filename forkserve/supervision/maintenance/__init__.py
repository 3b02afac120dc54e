"""Workers that accept nothing for a while."""
