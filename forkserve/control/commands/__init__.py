"""The function behind each verb, over the master."""
