"""What a WSGI environ is made of: its template, its input, its files, and what a trusted proxy adds to it."""
