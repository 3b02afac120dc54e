"""The serving program: everything that a worker needs between an inherited socket and an application."""
