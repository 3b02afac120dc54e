"""Options, each declared once, and the readers that fill them."""
