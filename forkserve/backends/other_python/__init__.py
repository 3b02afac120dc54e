"""Serve a WSGI application on inherited sockets under any CPython from 3.8 on, with nothing of ours installed there.

`forkserve-worker --python PATH` has that interpreter execute `__main__.py` of this folder, which imports the modules
beside it as a package of their own. Rules for all of them but `launch`: the standard library and the server's own
library only, relative imports only, the language of Python 3.8 (a test runs them so). A foreign worker keeps the pid
and the descriptors it was started with; TERM and QUIT drain, INT drains within a second, READY=1 goes to
$NOTIFY_SOCKET (sd_notify(3)) when connections are taken. Exit codes are forkserve's.
"""
