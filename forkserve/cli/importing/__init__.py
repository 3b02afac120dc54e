"""Reads the configurations of other programs and writes them as TOML for forkserve: `forkserve import FILE`."""
