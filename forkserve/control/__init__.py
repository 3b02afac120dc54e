"""Commands over the master, and the HTTP/JSON interface that carries them.

    schema    what may be asked and what is answered: typed, validated data
    commands  one function a verb, over the master
    routes    between HTTP and the verbs
    usage     what a process uses
    http      one HTTP exchange without I/O: bytes in, request out; reply in, bytes out
    server    the Unix socket and its connections, in the master's own loop
    client    the other end, for forkservectl and for anyone's program
    place     where the socket is found

Circus's own face (ZeroMQ) is another translator over `commands`, beside `server`.
"""
