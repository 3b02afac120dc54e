/* What awaiting gives when there is nothing to wait for. */
#ifndef FORKSERVE_DONE_H
#define FORKSERVE_DONE_H

#include "slots.h"

extern PyObject *ended;

int done_ready(PyObject *module);

#endif
