"""The verbs over the master, and the HTTP/JSON interface that carries them.

    schema       questions and answers: typed, validated data
    verbs        the verbs, each declared once; `openapi` describes the API from them
    commands/    the function behind each verb, over the master
    routes       between HTTP and the verbs; `answering` makes replies, `stream` endless ones
    http         one HTTP exchange without I/O: bytes in, request out; reply in, bytes out
    server       the Unix socket and its clients (`connection`), in the master's own loop
    client       the other end, for forkservectl and any program; `asyncclient` for one with an asyncio loop
    place        where the socket is found
    sampler      measures processes aside from the loop; `usage` reads what one uses
    status/      health and metrics over HTTP, for monitoring

Circus's endpoints are a client of this interface (`sidecars.circus`).
"""
