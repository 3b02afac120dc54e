"""A changed configuration: read, compared, taken over as one transaction, or taken back."""
