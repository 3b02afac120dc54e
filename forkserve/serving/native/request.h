/* What C knows of a request: the layouts of forkserve.serving.http.line.RequestLine and forkserve.serving.http.fields.Fields. */
#ifndef FORKSERVE_REQUEST_H
#define FORKSERVE_REQUEST_H

#include "slots.h"

struct line_layout {
    PyTypeObject *type;
    Py_ssize_t again, authority, environ, method, modern, path, is_fast_path, query, raw_path, scheme, target, version;
};
struct fields_layout {
    PyTypeObject *type;
    Py_ssize_t headers, host, keep_alive, memo, is_fast_path;
};
extern struct line_layout line_at;
extern struct fields_layout fields_at;

/* Learn the layouts of both classes; -1 on error. */
int learn_requests(PyObject *line_type, PyObject *fields_type);

#endif
