/* The environ of a WSGI request. */
#ifndef FORKSERVE_ENVIRON_H
#define FORKSERVE_ENVIRON_H

#include "slots.h"

extern PyObject *REMOTE_ADDR;

/* The environ that line and fields gave before, or one of fields that are new or in which a proxy speaks; `forwarding` says
 * what to make of that, or is None. NULL with an error, or without one where it is for Python. */
PyObject *environ_for(PyObject *conn, PyObject *line, PyObject *fields, PyObject *forwarding);

/* Learn forkserve.serving.gateway.forwarding.VARIABLES, a tuple; -1 on error. */
int learn_environs(PyObject *where_proxies_speak);

#endif
