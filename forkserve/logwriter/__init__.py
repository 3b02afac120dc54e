"""The log writer: the program that puts captured output into files, syslog and streams, and its client."""
