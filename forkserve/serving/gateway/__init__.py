"""The parts of a WSGI environ: its template, its input, its files, and what a trusted proxy adds."""
