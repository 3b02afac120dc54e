/* The scope of an ASGI request. */
#ifndef FORKSERVE_SCOPE_H
#define FORKSERVE_SCOPE_H

#include "slots.h"

/* Learn the layout of ScopeTemplate and RequestLine, and what HTTP/1.1 requests have as extensions; -1 on error. */
int learn_scopes(PyObject *template, PyObject *line, PyObject *extensions);

/* The application's own copy of the scope that line and fields gave before, or one of fields that are new and in which no
 * proxy speaks. NULL with an error, or without one where it is for Python. */
PyObject *scope_for(PyObject *conn, PyObject *line, PyObject *fields, PyObject *state);

int scope_ready(void);

#endif
