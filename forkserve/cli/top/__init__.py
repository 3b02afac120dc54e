"""`forkservectl top`: two reports become rows, rows a page, and a page what a terminal shows."""
