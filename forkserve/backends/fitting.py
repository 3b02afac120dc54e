"""Whether a backend suits a worker: this environment, the application, the options."""

from __future__ import annotations

from forkserve.backends import registry
from forkserve.backends.registry import Entry
from forkserve.config.launch import Interface, WorkerOptions
from forkserve.config.options import names_of
from forkserve.config.serving import ServingOptions, TlsOptions
from forkserve.errors import BackendError, UsageError
from forkserve.serving.application.importing import Loaded
from forkserve.serving.parser import chosen

__all__ = ["require", "require_certificate", "require_fit", "unhonoured"]


def require(entry: Entry) -> None:
    """Raise BackendError with the remedy if the backend cannot serve in this environment."""
    state = registry.state_of(entry.traits)
    if not state.usable:
        cure = f"; try: {state.cure}" if state.cure else ""
        raise BackendError(f"backend {entry.name} cannot serve here: {state.reason}{cure}")


def require_fit(entry: Entry, loaded: Loaded, options: WorkerOptions) -> None:
    """Raise BackendError if the backend cannot serve this application, or UsageError if not with these options."""
    if loaded.interface not in entry.traits.interfaces:
        raise BackendError(_mismatch(entry, loaded))
    if "parser" in entry.traits.honours:
        chosen(options.serving.parser.parser)
    require_certificate(options.serving.tls)
    if "access_log_format" in options.given and "access_log_format" in entry.traits.honours:
        # imported late: few give one
        from forkserve.serving.engine.access import require_format

        require_format(options.serving.access_log.access_log_format)


def require_certificate(options: TlsOptions) -> None:
    """Raise UsageError for TLS options that are not supported, since private data would be sent in clear."""
    said = {"--keyfile": options.keyfile, "--ca-certs": options.ca_certs, "--ciphers": options.ciphers}
    for flag, value in said.items():
        if value is not None and options.certfile is None:
            raise UsageError(f"{flag}: there is no TLS without a certificate; give --certfile FILE")


def unhonoured(entry: Entry, options: WorkerOptions) -> list[str]:
    """Return a warning for each option that was given but that the backend does not obey."""
    known = names_of(ServingOptions)
    return [
        f"backend {entry.name} does not know {options.given[name]}; it is ignored"
        for name in sorted((options.given.keys() & known) - entry.traits.honours)
    ]


def _mismatch(entry: Entry, loaded: Loaded) -> str:
    kind = loaded.interface.value.upper()
    fitting = [
        each.name
        for each in registry.entries()
        if loaded.interface in each.traits.interfaces and registry.state_of(each.traits).usable
    ]
    other = "wsgi" if loaded.interface is Interface.ASGI else "asgi"
    return (
        f"application {loaded.name!r} is {kind}, which backend {entry.name} does not serve; "
        f"{', '.join(fitting) or 'none here'} would (--interface {other} if it was misjudged)"
    )
