"""The changes that forkserve makes to the source of meinheld 1.0.2, and the pure function that applies them.

Rules: the source itself is never kept here; it comes from the package index at build time. An edit names its place by
the shortest expression that finds it, the number of matches, and its reason. If the count differs, the source is not
the one these edits were written for, and nothing is built. The inserted text is forkserve's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forkserve.errors import BackendError

__all__ = ["BUILDING", "EDITS", "LOCAL_VERSION", "UPSTREAM_VERSION", "Edit", "apply_edits"]

UPSTREAM_VERSION = "1.0.2"
LOCAL_VERSION = f"{UPSTREAM_VERSION}+forkserve.1"


@dataclass(frozen=True, slots=True)
class Edit:
    """In `file`, each match of the expression `find` is replaced by `put`, a template as in `re.sub`."""

    file: str
    find: str
    put: str
    why: str
    times: int = 1


def apply_edits(sources: Mapping[str, str], edits: Sequence[Edit]) -> dict[str, str]:
    """Return `sources` (relative path -> text) with every edit applied in order; `sources` is left alone.

    Raises `BackendError` if a file is missing, or an expression is not found exactly `times` times.
    """
    result = dict(sources)
    for edit in edits:
        text = result.get(edit.file)
        if text is None:
            raise BackendError(f"this meinheld source has no {edit.file}: not the release that forkserve can mend")
        result[edit.file], found = re.subn(edit.find, edit.put, text)
        if found != edit.times:
            raise BackendError(
                f"this meinheld source differs in {edit.file}: {edit.find!r} found {found} times, expected {edit.times}"
            )
    return result


_PARENT = r"""\g<0>

static PyGreenlet *forkserve_parent(PyGreenlet *g) {
  PyGreenlet *parent = PyGreenlet_GetParent(g);
  Py_XDECREF(parent);
  return parent;
}
"""

_CALL = r"""\g<0>

static PyObject *forkserve_call(PyObject *callable, PyObject *args,
                                PyObject *kwargs) {
  PyObject *none = NULL, *result;
  if (args == NULL) {
    args = none = PyTuple_New(0);
    if (args == NULL) {
      return NULL;
    }
  }
  result = PyObject_Call(callable, args, kwargs);
  Py_XDECREF(none);
  return result;
}
"""

BUILDING = (
    Edit("setup.py", r'(?<=version=")1\.0\.2(?=")', LOCAL_VERSION, "tell the patched build from the original"),
    Edit(
        "setup.py", r"greenlet>=0\.4\.5,<0\.5", "greenlet>=2", "greenlet below 0.5 does not compile on 3.10 and later"
    ),
    Edit(
        "meinheld/server/greensupport.c",
        r'#include "greenlet\.h"',
        _PARENT,
        "since greenlet 2 the parent comes from a function, as a new reference; the callers expect a borrowed one",
    ),
    Edit(
        "meinheld/server/greensupport.c",
        r"PyGreenlet_GET_PARENT",
        "forkserve_parent",
        "the macro read a member of the structure, which greenlet 2 no longer has",
    ),
    Edit(
        "meinheld/server/response.c",
        r"PyEval_CallObject\b",
        "PyObject_CallObject",
        "removed in CPython 3.13",
        times=2,
    ),
    Edit(
        "meinheld/server/timer.c",
        r'#include "time_cache\.h"',
        _CALL,
        "PyObject_Call wants a tuple where the older function took NULL",
    ),
    Edit("meinheld/server/timer.c", r"PyEval_CallObjectWithKeywords", "forkserve_call", "removed in CPython 3.13"),
    Edit(
        "meinheld/server/timer.c",
        r"\n *Py_TRASHCAN_SAFE_(?:BEGIN|END)\(self\);",
        "",
        "removed in CPython 3.13; a timer is never nested deeply",
        times=2,
    ),
    Edit(
        "meinheld/server/meinheld.h",
        r"#include <sys/types\.h>",
        r"\g<0>\n#include <sys/uio.h>",
        "writev was used undeclared, an error since gcc 14",
    ),
)

_SKIP_TRAILER = r"""if (p->flags & F_TRAILING) {
    return 0;
  }"""

_ADMIT = r"""/* 0 if this request may go to the application, -1 if it is to be refused. */
static int forkserve_admit(http_parser *p, PyObject *env) {
  PyObject *item = PyDict_GetItemString(env, "HTTP_UPGRADE");
  const char *text = item ? PyUnicode_AsUTF8(item) : NULL;
  if (p->method != HTTP_CONNECT && (text == NULL || strcasecmp(text, "websocket"))) {
    p->upgrade = 0;
  }
  item = PyDict_GetItemString(env, "HTTP_TRANSFER_ENCODING");
  if (item != NULL) {
    text = PyUnicode_AsUTF8(item);
    if (text == NULL || strcasecmp(text, "chunked") || !(p->flags & F_CHUNKED)) {
      return -1;
    }
  }
  return 0;
}

\g<0>"""

_ADDRESS = r"""\g<0>

static char *forkserve_address(const struct sockaddr_storage *from) {
  static char text[INET6_ADDRSTRLEN];
  text[0] = 0;
  if (from->ss_family == AF_INET) {
    inet_ntop(AF_INET, &((const struct sockaddr_in *)from)->sin_addr, text,
              sizeof(text));
  } else if (from->ss_family == AF_INET6) {
    inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)from)->sin6_addr, text,
              sizeof(text));
  }
  return text;
}

static uint32_t forkserve_port(const struct sockaddr_storage *from) {
  if (from->ss_family == AF_INET) {
    return ntohs(((const struct sockaddr_in *)from)->sin_port);
  }
  if (from->ss_family == AF_INET6) {
    return ntohs(((const struct sockaddr_in6 *)from)->sin6_port);
  }
  return 0;
}
"""

_FIRST_BODY = r"""if (!is_no_body(client)) {
    set_first_body_data(client, data, datalen);
  }
  bucket->total_size = data ? datalen : 0;"""

_KEEP_ITEM = r"""if (ret == STATUS_SUSPEND && client->bucket) {
      PyList_Append(((write_bucket *)client->bucket)->temp1, item);
    }"""

_STALLED = r"""if (res == NULL) {
        call_error_logger();
        client->keep_alive = 0;
        close_response(client);
        close_client(client);
        Py_RETURN_NONE;
      }"""

_MEND_REQUESTS = (
    Edit(
        "meinheld/server/http_request_parser.c",
        r'/\* DEBUG\("field (?:key|value):.*\*/',
        _SKIP_TRAILER,
        "a trailer after a chunked body was taken for a header of a request already complete: segmentation fault",
        times=2,
    ),
    Edit(
        "meinheld/server/http_request_parser.c",
        r'DEBUG\("message_begin_cb"\);',
        "p->set_content_length = 0;\n  if (client->request_queue->size >= 64) {\n    return -1;\n  }",
        "a second request with Content-Length on one connection was answered 400; and pipelined requests are served "
        "one inside the other, which 1000 of them in one packet turned into a stack overflow",
    ),
    Edit(
        "meinheld/server/http_request_parser.c",
        r"int headers_complete_cb\(",
        _ADMIT,
        "any Upgrade but websocket is ignored, as RFC 9110 section 7.8 allows; an unknown Transfer-Encoding is refused "
        "(RFC 9112 section 6.1), where its body was served as a second request",
    ),
    Edit(
        "meinheld/server/http_request_parser.c",
        r"client->current_req->method = p->method;",
        r"\g<0>\n  if (forkserve_admit(p, env) < 0) {\n    req->bad_request_code = 400;\n    return -1;\n  }",
        "ask the function above",
    ),
    Edit(
        "meinheld/server/http_request_parser.c",
        r"obj = concat_(?:bytes|string)\((req->\w+), \w+, len\);",
        r"\g<0>\n    \1 = obj;",
        "a long header that came in two pieces was released twice when it was refused",
        times=2,
    ),
    Edit(
        "meinheld/server/server.c",
        r'PyErr_SetString\(PyExc_IOError, "unknow protocol"\);',
        "",
        "a Python exception was left pending, and the next request crashed",
    ),
    Edit(
        "meinheld/server/request.c",
        r"Py_XDECREF\(req->path\);",
        "if (req->path) free_buffer(req->path);",
        "the path is a buffer, not a Python object",
    ),
)

_MEND_RESPONSES = (
    Edit(
        "meinheld/server/response.c",
        r"set_first_body_data\(client, data, datalen\);",
        _FIRST_BODY,
        "HEAD, 204 and 304 got a body; and after a write in two parts the head was counted as body, which cut the end",
    ),
    Edit(
        "meinheld/server/response.c",
        r"iterator = client->response_iter;",
        "iterator = is_no_body(client) ? NULL : client->response_iter;",
        "HEAD, 204 and 304 got a body",
    ),
    Edit(
        "meinheld/server/response.c",
        r"while \((?=client->content_length > client->write_bytes\))",
        "while (!is_no_body(client) && ",
        "HEAD, 204 and 304 got a body from a file",
    ),
    Edit(
        "meinheld/server/response.c",
        r"// TODO when ret == STATUS_SUSPEND keep item",
        _KEEP_ITEM,
        "the first piece of a body was released before a write that had to wait had sent it",
    ),
    Edit(
        "meinheld/server/response.c",
        r"// already sended response data",
        r"client->keep_alive = 0;",
        "a response broken off by an exception left its connection open for a next one",
    ),
    Edit(
        "meinheld/server/server.c",
        r"error:\n  client->status_code = 500;",
        r"\g<0>\n  call_error_logger();",
        "the application's close() was called with its exception still pending",
    ),
    Edit(
        "meinheld/server/server.c",
        r"// try again after event switch",
        _STALLED,
        "a client that stopped reading for 300 s left a Python exception pending",
    ),
    Edit(
        "meinheld/server/picoev_epoll.c",
        r"assert\(errno == ENOENT\);",
        "if (errno != ENOENT) {\n        SET(EPOLL_CTL_DEL, 0);\n      }",
        "EPOLL_CTL_MOD is refused after EPOLLEXCLUSIVE (epoll_ctl(2)): a big response on a kept-alive connection hung",
    ),
)

_MEND_ADDRESSES = (
    Edit(
        "meinheld/server/client.h",
        r"char \*remote_addr;",
        "char remote_addr[INET6_ADDRSTRLEN];",
        "the address was one static buffer: REMOTE_ADDR was that of the client accepted last",
    ),
    Edit(
        "meinheld/server/server.c",
        r"client->remote_addr = remote_addr;",
        'snprintf(client->remote_addr, sizeof(client->remote_addr), "%s",\n           remote_addr);',
        "copy the address",
    ),
    Edit("meinheld/server/server.c", r"#define READ_BUF_SIZE .*", _ADDRESS, "IPv6 and unix clients were 0.0.0.0"),
    Edit(
        "meinheld/server/server.c",
        r"struct sockaddr_in client_addr",
        "struct sockaddr_storage client_addr",
        "room for an IPv6 address",
    ),
    Edit(
        "meinheld/server/server.c",
        r"inet_ntoa\(client_addr\.sin_addr\)",
        "forkserve_address(&client_addr)",
        "by family",
    ),
    Edit("meinheld/server/server.c", r"ntohs\(client_addr\.sin_port\)", "forkserve_port(&client_addr)", "by family"),
    Edit(
        "meinheld/server/server.c",
        r"errno != EAGAIN && errno != EWOULDBLOCK(?=\) \{)",
        r"\g<0> && errno != EINTR &&\n            errno != ECONNABORTED && errno != EPROTO && errno != EMFILE &&\n"
        r"            errno != ENFILE && errno != ENOBUFS && errno != ENOMEM",
        "one aborted connection or a moment without descriptors stopped the server",
    ),
)


EDITS: tuple[Edit, ...] = (*BUILDING, *_MEND_REQUESTS, *_MEND_RESPONSES, *_MEND_ADDRESSES)
