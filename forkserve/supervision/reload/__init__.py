"""A changed configuration: read, compared, applied as one transaction, or taken back."""
