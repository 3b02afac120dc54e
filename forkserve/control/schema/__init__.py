"""What may be asked of a master, and what it answers: plain typed data, validated by msgspec where it comes in.

Rule: nothing here knows how a message travels. HTTP carries it as JSON under `/v1/VERB`; another interface may carry
the same structures otherwise. Fields are added, never renamed: `/v1` is a promise.
"""
