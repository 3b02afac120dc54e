/* The scope of an ASGI request. */
#ifndef FORKSERVE_SCOPE_H
#define FORKSERVE_SCOPE_H

#include "slots.h"

/* Learn what `scopes` has of forkserve.serving.asgi.scope (ScopeTemplate, MODERN, FORWARDED and correct); -1 on error. */
int learn_scopes(PyObject *const scopes[4]);

/* The application's copy of the cached scope of line and fields, or one for new fields or those of a proxy. NULL with an
 * error, or without one where Python has to make it. */
PyObject *scope_for(PyObject *conn, PyObject *line, PyObject *fields, PyObject *state);

int scope_ready(void);

#endif
