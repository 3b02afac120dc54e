"""Suites that extension authors run against their own backends."""
