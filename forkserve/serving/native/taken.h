/* How often each shortcut was taken, so that tests can tell one that is exact from one that is never taken. */
#ifndef FORKSERVE_TAKEN_H
#define FORKSERVE_TAKEN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

enum shortcut {
    KNOWN_HEAD,    /* a head that came before, byte for byte */
    NEW_HEAD,      /* one that was read in C */
    KNOWN_ENVIRON, /* an environ or a scope that line and fields gave before */
    NEW_ENVIRON,   /* one of fields that are new */
    START,         /* status and headers that are remembered */
    ANSWER,        /* an answer of one piece */
    REPLY,         /* bytes that went out in one call, on a connection that stays */
    LOG_LINE,      /* a line of the access log like the one before */
    SHORTCUTS
};

/* Written under the interpreter's lock. */
extern unsigned long long times_taken[SHORTCUTS];

/* taken(): how often each was taken since the module was loaded, by name. */
PyObject *how_often(PyObject *module, PyObject *unused);

#endif
