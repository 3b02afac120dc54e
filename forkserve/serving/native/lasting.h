/* Objects that are never freed; see lasting.c. */
#ifndef FORKSERVE_LASTING_H
#define FORKSERVE_LASTING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Method of the module: make each object of a tuple immortal. True if this Python can. Raises TypeError. */
PyObject *make_lasting(PyObject *module, PyObject *objects);

#endif
