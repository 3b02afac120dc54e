"""Serves a WSGI application on inherited sockets under any CPython from 3.8 on, without forkserve installed there.

`forkserve-worker --python PATH` makes that interpreter execute `__main__.py` of this folder, which imports the modules
beside it as a separate package. Rules for all of them but `launch`: only the standard library and the server's
library, only relative imports, only the syntax of Python 3.8 (a test runs them so). A foreign worker keeps the pid
and the descriptors it was started with; TERM and QUIT drain, INT drains within a second, and READY=1 goes to
$NOTIFY_SOCKET (sd_notify(3)) once it accepts connections. Exit codes are forkserve's.
"""
