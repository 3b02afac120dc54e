"""Thin adapters over other servers."""
