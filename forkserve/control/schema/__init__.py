"""Questions to a master, and its answers: plain typed data, validated by msgspec on arrival.

Rule: nothing here knows how a message travels. HTTP carries it as JSON under `/v1/VERB`; another interface may carry
the same structures in another way. Fields are added, never renamed: `/v1` is a promise.
"""
