"""HTTP/1.1 without I/O: bytes in, requests out; responses in, bytes out. Nothing here knows a socket or a clock.

How a driver uses it (WSGI; for ASGI take `ScopeCollector` and its `headers` list):

    profile = Profile(HttpLimits().effective(), EnvironCollector, H11Fields)  # one per loop thread
    reader = RequestReader(profile)                          # one per connection

    try:
        if reader.feed(data):                                # bytes as recv gave them, never empty
            line, fields = reader.line, reader.fields
            environ = template | fields.headers              # both shared: never write to either
            environ.update(line.environ)
            body = body_reader(fields, profile.limits) # None: no body
            data = reader.take_rest()                        # bytes behind the head
            if body is not None:
                block = body.feed(data)                      # decoded bytes, maybe b""; ask body.done
                ...                                          # when done: data = body.rest
            ...                                              # after the response: reader.feed(data) if data
    except Refusal as refusal:
        ...                                                  # send errors.page(refusal.status), close

A reader stops behind each head and a body behind its message: what follows stays in `rest`, unparsed, until the driver
feeds it. So nothing behind a refused request runs, and bytes behind an Upgrade are not taken for HTTP. A reader holds
at most one head of `limits`; how much may wait in `rest` is what the driver reads at once.
"""
