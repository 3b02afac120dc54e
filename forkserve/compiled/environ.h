/* The environ of a WSGI request. */
#ifndef FORKSERVE_ENVIRON_H
#define FORKSERVE_ENVIRON_H

#include "slots.h"

extern PyObject *REMOTE_ADDR;

/* The environ that line and fields gave before, or one of fields that are new; `trusts` says whether a proxy may be
 * believed, and then none must speak in them. NULL with an error, or without one where it is for Python. */
PyObject *environ_for(PyObject *conn, PyObject *line, PyObject *fields, int trusts);

int environ_ready(void);

#endif
