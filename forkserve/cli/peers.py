"""Answers to flags of Gunicorn or Uvicorn that have no meaning here: the reason, and what to do instead.

Rules: data, and one look-up. A flag with a meaning is declared as an option and is not listed here, where the nearest
name would be misleading.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["advice"]

_LOGGING = "configure the application's logging in the application; ours is set by --log-level and --log-file"
_SYSLOG = "name it as a place: --log-file 'syslog:///dev/log?daemon' or --log-file 'syslog://HOST:514?daemon'"
_STATSD = "the queue is among the metrics, whose labels are in their names: --statsd-host HOST:PORT"
_STRICT = "requests are read strictly, without a switch; leave it out"
_TLS = "it is not needed: TLS 1.2 and newer are served; leave it out"
_HTTP2 = "HTTP/2 is not served; put nginx in front of it"
_DIRTY = "dirty workers are not served; make the program another watcher in a configuration file"
_ADDRESS = "give the address as -b HOST:PORT, -b unix:PATH or -b fd://N"
_WORKERS = "the number of processes is the master's: forkserve -w N"
_NOT_NEEDED = "it is not needed; leave it out"

_EVERYWHERE: Mapping[str, str] = {
    "--log-config": _LOGGING,
    "--log-config-json": _LOGGING,
    "--logger-class": _LOGGING,
    "--log-syslog": _SYSLOG,
    "--log-syslog-to": _SYSLOG,
    "--log-syslog-prefix": _SYSLOG,
    "--log-syslog-facility": _SYSLOG,
    "--disable-redirect-access-to-syslog": "the access log goes where --access-logfile says; leave it out",
    "--dogstatsd-tags": _STATSD,
    "--enable-backlog-metric": _STATSD,
    "--worker-tmp-dir": "heartbeats are in shared memory, not in files; leave it out",
    "--no-sendfile": "sendfile is used where the kernel can do it; leave it out",
    "--initgroups": "the groups of --user are always set; leave it out",
    "--spew": "run the application under a tracer of your own, e.g. python -m trace",
    "--reload-engine": "--reload uses watchfiles where it is installed, else it polls; leave it out",
    "--reload-include": "name files by --reload-extra-file and folders by --reload-dir",
    "--reload-exclude": "name files by --reload-extra-file and folders by --reload-dir",
    "--reload-delay": _NOT_NEEDED,
    "--ssl-version": _TLS,
    "--suppress-ragged-eofs": _TLS,
    "--do-handshake-on-connect": _TLS,
    "--cert-reqs": "--ca-certs FILE asks clients for a certificate and insists on it",
    "--ssl-cert-reqs": "--ca-certs FILE asks clients for a certificate and insists on it",
    "--ssl-keyfile-password": "the key must be readable without a password; protect its file instead",
    "--http-protocols": _HTTP2,
    "--http2": _HTTP2,
    "--http2-cleartext": _HTTP2,
    "--http2-max-concurrent-streams": _HTTP2,
    "--http2-initial-window-size": _HTTP2,
    "--http2-max-frame-size": _HTTP2,
    "--http2-max-header-list-size": _HTTP2,
    "--protocol": "HTTP alone is served; for the uwsgi protocol use proxy_pass in nginx instead of uwsgi_pass",
    "--uwsgi-allow-from": "the uwsgi protocol is not served; use proxy_pass in nginx instead of uwsgi_pass",
    "--paste-global": "put it into the PasteDeploy file, under [DEFAULT]",
    "--permit-obsolete-folding": _STRICT,
    "--strip-header-spaces": _STRICT,
    "--permit-unconventional-http-method": _STRICT,
    "--permit-unconventional-http-version": _STRICT,
    "--casefold-http-method": _STRICT,
    "--header-map": _STRICT,
    "--forwarder-headers": "--forwarded-allow-ips says whose forwarding fields are trusted",
    "--proxy-headers": "--forwarded-allow-ips says whose forwarding fields are trusted; leave it out",
    "--no-proxy-headers": "to trust no forwarding fields give --forwarded-allow-ips ''",
    "--asgi-lifespan": "it is called --lifespan",
    "--asgi-disconnect-grace-period": "an application learns at once that its client has left; leave it out",
    "--websocket-max-message-size": "it is called --ws-max-size",
    "--ws-per-message-deflate": "messages are compressed unless --no-ws-compression is given",
    "--ws-max-queue": "a client is read from as fast as the application receives; leave it out",
    "--ws": "the engine's own protocol is used; for another server choose a backend by -k",
    "--http": "use --parser auto, c or h11",
    "--http-parser": "use --parser auto, c or h11",
    "--limit-concurrency": "bound it by --threads N (threads) or --worker-connections N (gevent)",
    "--h11-max-incomplete-event-size": "it is called --limit-request-head",
    "--header": "set response headers in the application, or in the proxy in front",
    "--server-header": _NOT_NEEDED,
    "--no-server-header": "a Server header of the application's own replaces ours",
    "--date-header": _NOT_NEEDED,
    "--no-date-header": "a response has a Date (RFC 9110 section 6.6.1); leave it out",
    "--no-access-log": "there is no access log unless --access-log is given; leave it out",
    "--use-colors": _NOT_NEEDED,
    "--no-use-colors": _NOT_NEEDED,
    "--env-file": "give variables by --env NAME=VALUE, or in [env] of a configuration file",
    "--reset-contextvars": "each request has its own context; leave it out",
    "--timeout-worker-healthcheck": "a worker that hangs is found by --timeout; leave it out",
    "--dirty-app": _DIRTY,
    "--dirty-workers": _DIRTY,
    "--dirty-threads": _DIRTY,
    "--dirty-timeout": _DIRTY,
    "--dirty-graceful-timeout": _DIRTY,
}

_OF_MASTER: Mapping[str, str] = {
    "--host": _ADDRESS,
    "--port": _ADDRESS,
    "--uds": _ADDRESS,
    "--fd": f"{_ADDRESS}; in a command after -- it belongs to forkserve-worker",
    "--control-socket": "it is called --control",
    "--no-control-socket": "it is called --control none",
    "--control-socket-mode": "the control socket lies in a private folder; leave it out",
}

_OF_WORKER: Mapping[str, str] = {
    "-w": _WORKERS,
    "--workers": _WORKERS,
    "-D": "only the master goes to the background: forkserve -D",
    "--daemon": "only the master goes to the background: forkserve -D",
    "--pid": "only the master writes one: forkserve --pidfile FILE",
    "--pidfile": "only the master writes one: forkserve --pidfile FILE",
    "-u": "the master changes the user: forkserve -u USER",
    "--user": "the master changes the user: forkserve -u USER",
    "-g": "the master changes the group: forkserve -g GROUP",
    "--group": "the master changes the group: forkserve -g GROUP",
    "-e": "variables are given by the master: forkserve --env NAME=VALUE",
    "--env": "variables are given by the master: forkserve --env NAME=VALUE",
    "--umask": "the master sets it: forkserve --umask OCTAL",
    "--reuse-port": "the master sets it: forkserve --fd-socket web=ADDRESS,so_reuseport",
    "--capture-output": "the master captures output: stdout_stream in its configuration file",
    "--fd-socket": "the master binds sockets; here it is --fd '$(circus.sockets.NAME)', or -b ADDRESS",
}


def advice(flag: str, *, worker: bool = False) -> str | None:
    """Return what to do instead of passing this flag to forkserve, or to forkserve-worker; None for an unknown one."""
    name = flag.partition("=")[0]
    return _EVERYWHERE.get(name) or (_OF_WORKER if worker else _OF_MASTER).get(name)
