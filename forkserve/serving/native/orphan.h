/* A fork whose child belongs to the nearest subreaper; see orphan.c. */
#ifndef FORKSERVE_ORPHAN_H
#define FORKSERVE_ORPHAN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Method of the module. Returns 0 in the new process; in the caller the pid of the process between, which is to be waited
 * for and ends with 0, or the errno of fork(2). Raises OSError. */
PyObject *fork_orphan(PyObject *module, PyObject *none);

#endif
