/* The environ of a WSGI request. */
#ifndef FORKSERVE_ENVIRON_H
#define FORKSERVE_ENVIRON_H

#include "slots.h"

extern PyObject *REMOTE_ADDR;

/* The cached environ of line and fields, or a new one for new fields or those of a proxy, which `forwarding` evaluates
 * unless it is None. NULL with an error, or without one where Python has to make it. */
PyObject *environ_for(PyObject *conn, PyObject *line, PyObject *fields, PyObject *forwarding);

/* Learn forkserve.serving.gateway.forwarding.VARIABLES, a tuple; -1 on error. */
int learn_environs(PyObject *where_proxies_speak);

#endif
