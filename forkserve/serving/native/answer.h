/* What C knows of the classes of forkserve.serving.http, and the response that most requests get. */
#ifndef FORKSERVE_ANSWER_H
#define FORKSERVE_ANSWER_H

#include "connection.h"
#include "request.h"

struct answers {
    Py_ssize_t conn, fields, line, since;      /* of BaseExchange; `since` is set where requests are counted */
    Py_ssize_t code, head, length, fast_head; /* of PreparedHead */
    Py_ssize_t end;                            /* of Responder */
};
extern struct answers answers;

/* Learn the layout of an exchange, of (RequestLine, Fields, PreparedHead) and of the responder; -1 on error. */
int learn_answers(PyObject *exchange, PyObject *const kinds[3], PyObject *responder);

/* Whether nothing is special about a request: no body, HTTP/1.1, not HEAD, and its client keeps the connection. */
int is_fast_path(PyObject *exchange);

/* Whether `data` is the whole body that a head promises, if it promises one, and small enough to go out with it in one piece. */
int is_whole(PyObject *prepared, PyObject *data);

/* Send head, Server, Date and body in one call, and end the exchange; -1 on error. Other threads and other Python may run
 * meanwhile: the caller owns all four. */
int reply_whole(PyObject *exchange, PyObject *prepared, PyObject *responder, PyObject *data);

/* Note an answer of so many bytes: by `counter` and `log`, AccessLog.write, if there is one and an address; else by the
 * method `note` of the exchange, which counts as well. -1 on error. */
int note_answer(PyObject *exchange, PyObject *counter, PyObject *log, PyObject *address, PyObject *prepared, Py_ssize_t size);

/* What the responder remembers of a status and its headers, a list: a new reference; NULL if nothing, or with an error. It
 * asks only where no comparison runs Python; else that is for the way in Python too. */
PyObject *remembered(PyObject *known, PyObject *status, PyObject *headers);

#endif
