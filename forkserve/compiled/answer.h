/* What C knows of the classes of forkserve.http, and the response that most requests get. */
#ifndef FORKSERVE_ANSWER_H
#define FORKSERVE_ANSWER_H

#include "connection.h"

struct answers {
    Py_ssize_t code, head, length, plain_head; /* of Prepared */
    Py_ssize_t end;                            /* of Responder */
    Py_ssize_t plain_line;                     /* of RequestLine */
    Py_ssize_t memo, plain_fields;             /* of Fields */
    Py_ssize_t keep;                           /* of the Site of either interface */
};
extern struct answers answers;

/* Learn the layout of (RequestLine, Fields, Prepared), of the site and of its responder; -1 on error. */
int learn_answers(PyObject *line, PyObject *fields, PyObject *prepared, PyObject *site, PyObject *responder);

/* Whether nothing is special about a request to which the connection of `conn` may stay: no body, HTTP/1.1, not HEAD. */
int is_plain(PyObject *conn, PyObject *line, PyObject *fields, PyObject *site);

/* Whether `data` is the whole body that a head promises, if it promises one, and small enough to go out with it in one piece. */
int is_whole(PyObject *prepared, PyObject *data);

/* Send head, Server, Date and body in one call, and end the exchange; -1 on error. */
int reply_whole(PyObject *conn, PyObject *prepared, PyObject *responder, PyObject *data);

/* What the responder remembers of a status and its headers, a list: borrowed; NULL if nothing, or with an error. */
PyObject *remembered(PyObject *known, PyObject *status, PyObject *headers);

#endif
