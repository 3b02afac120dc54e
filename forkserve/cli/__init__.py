"""The three commands: arguments, printing, exit codes."""
