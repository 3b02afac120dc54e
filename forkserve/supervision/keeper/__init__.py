"""The guard of a master whose processes serve on when it is killed, and how the next master takes them over."""
