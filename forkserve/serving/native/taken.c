#include "taken.h"

unsigned long long times_taken[SHORTCUTS];

static const char *const names[SHORTCUTS] = {"known_head", "new_head", "known_environ", "new_environ",
                                             "start",      "answer",   "reply",         "log_line"};

PyObject *
how_often(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    PyObject *all = PyDict_New();
    for (int i = 0; all != NULL && i < SHORTCUTS; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(times_taken[i]);
        if (count == NULL || PyDict_SetItemString(all, names[i], count) < 0)
            Py_CLEAR(all);
        Py_XDECREF(count);
    }
    return all;
}
