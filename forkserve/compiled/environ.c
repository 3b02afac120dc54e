/* The environ of a request: an exact shortcut of Exchange.__init__ and _environ of forkserve.wsgi. */
#include "environ.h"
#include "answer.h"

/* Interned, made once. */
PyObject *REMOTE_ADDR;
static PyObject *REMOTE_PORT, *ENVIRON;

/* Where proxies speak: forkserve.gateway.forwarding.VARIABLES. */
static PyObject *variables;

/* A copy with the address of this client; NULL on error. */
static PyObject *
copy_for(PyObject *conn, PyObject *base)
{
    PyObject *environ = PyDict_Copy(base), *remote = SLOT(conn, connection.remote);
    if (environ != NULL
        && (PyDict_SetItem(environ, REMOTE_ADDR, PyTuple_GET_ITEM(remote, 0)) < 0
            || PyDict_SetItem(environ, REMOTE_PORT, PyTuple_GET_ITEM(remote, 1)) < 0))
        Py_CLEAR(environ);
    return environ;
}

/* 1 if a proxy speaks in these headers, 0 if not, -1 on error. */
static int
is_forwarded(PyObject *headers)
{
    int found = 0;
    for (Py_ssize_t i = 0; found == 0 && i < PyTuple_GET_SIZE(variables); i++)
        found = PyDict_Contains(headers, PyTuple_GET_ITEM(variables, i));
    return found;
}

/* Exchange._environ for fields that are new; NULL with or without an error. */
static PyObject *
new_environ(PyObject *conn, PyObject *line, PyObject *fields, int trusts)
{
    PyObject *headers = SLOT(fields, answers.headers);
    if (!PyDict_CheckExact(headers) || (trusts && is_forwarded(headers) != 0))
        return NULL;
    PyObject *memo = PyDict_New();
    PyObject *template = memo == NULL ? NULL : PyObject_GetAttr(SLOT(conn, connection.listening), ENVIRON);
    PyObject *environ = template == NULL ? NULL : copy_for(conn, template);
    if (environ != NULL
        && (PyDict_Update(environ, SLOT(line, answers.environ)) < 0 || PyDict_Update(environ, headers) < 0))
        Py_CLEAR(environ);
    if (environ != NULL)
        set_slot(fields, answers.memo, memo);
    Py_XDECREF(template);
    Py_XDECREF(memo);
    return environ;
}

PyObject *
environ_for(PyObject *conn, PyObject *line, PyObject *fields, int trusts)
{
    PyObject *memo = SLOT(fields, answers.memo), *remote = SLOT(conn, connection.remote);
    if (memo == NULL || !PyTuple_CheckExact(remote) || PyTuple_GET_SIZE(remote) != 2)
        return NULL;
    if (memo == Py_None)
        return new_environ(conn, line, fields, trusts);
    PyObject *base = PyDict_CheckExact(memo) ? PyDict_GetItemWithError(memo, line) : NULL;
    return base == NULL ? NULL : copy_for(conn, base);
}

int
environ_ready(void)
{
    REMOTE_ADDR = PyUnicode_InternFromString("REMOTE_ADDR");
    REMOTE_PORT = PyUnicode_InternFromString("REMOTE_PORT");
    ENVIRON = PyUnicode_InternFromString("environ");
    variables = Py_BuildValue("(sssss)", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST",
                              "HTTP_X_FORWARDED_PORT", "HTTP_FORWARDED");
    return REMOTE_ADDR == NULL || REMOTE_PORT == NULL || ENVIRON == NULL || variables == NULL ? -1 : 0;
}
