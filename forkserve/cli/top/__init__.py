"""`forkservectl top`: two pictures become rows, rows a page, and a page what a terminal shows."""
