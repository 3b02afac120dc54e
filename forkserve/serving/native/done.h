/* An awaitable that is complete. */
#ifndef FORKSERVE_DONE_H
#define FORKSERVE_DONE_H

#include "slots.h"

extern PyObject *ended;

int done_ready(PyObject *module);

#endif
