/* The scope of an ASGI request. */
#ifndef FORKSERVE_SCOPE_H
#define FORKSERVE_SCOPE_H

#include "slots.h"

/* Learn what `scopes` has of forkserve.serving.asgi.scope (ScopeTemplate, MODERN, FORWARDED and correct); -1 on error. */
int learn_scopes(PyObject *const scopes[4]);

/* The application's own copy of the scope that line and fields gave before, or one of fields that are new or in which a
 * proxy speaks. NULL with an error, or without one where it is for Python. */
PyObject *scope_for(PyObject *conn, PyObject *line, PyObject *fields, PyObject *state);

int scope_ready(void);

#endif
