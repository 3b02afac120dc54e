/* The environ of a request: an exact shortcut of Exchange.__init__ and _environ of forkserve.wsgi. */
#include "environ.h"
#include "connection.h"
#include "request.h"

/* Interned, made once. */
PyObject *REMOTE_ADDR;
static PyObject *REMOTE_PORT, *ENVIRON, *APPLY;
static const struct word spelling[] = {
    {&REMOTE_ADDR, "REMOTE_ADDR"}, {&REMOTE_PORT, "REMOTE_PORT"}, {&ENVIRON, "environ"}, {&APPLY, "apply"}, {NULL, NULL}};

/* Where proxies speak: forkserve.serving.gateway.forwarding.VARIABLES. */
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

/* Have Forwarding.apply correct an environ; -1 on error. */
static int
correct(PyObject *environ, PyObject *conn, PyObject *forwarding)
{
    PyObject *done = PyObject_CallMethodObjArgs(forwarding, APPLY, environ, SLOT(conn, connection.remote), NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Exchange._environ for fields without a memo; NULL with or without an error. */
static PyObject *
new_environ(PyObject *conn, PyObject *line, PyObject *fields, PyObject *forwarding)
{
    PyObject *headers = SLOT(fields, fields_at.headers);
    int forwarded = !PyDict_CheckExact(headers) ? -1 : forwarding == Py_None ? 0 : is_forwarded(headers);
    PyObject *template = forwarded < 0 ? NULL : PyObject_GetAttr(SLOT(conn, connection.listening), ENVIRON);
    PyObject *environ = template == NULL ? NULL : copy_for(conn, template), *memo = NULL;
    Py_XDECREF(template);
    if (environ == NULL)
        return NULL;
    int failed = PyDict_Update(environ, SLOT(line, line_at.environ)) < 0 || PyDict_Update(environ, headers) < 0;
    /* What a proxy says may depend on the connection: nothing is kept with the fields then. */
    if (!failed && forwarded)
        failed = correct(environ, conn, forwarding) < 0;
    else if (!failed && (memo = PyDict_New()) != NULL)
        Py_XSETREF(SLOT(fields, fields_at.memo), memo);
    if (failed || PyErr_Occurred())
        Py_CLEAR(environ);
    return environ;
}

PyObject *
environ_for(PyObject *conn, PyObject *line, PyObject *fields, PyObject *forwarding)
{
    PyObject *memo = SLOT(fields, fields_at.memo), *remote = SLOT(conn, connection.remote);
    if (memo == NULL || !PyTuple_CheckExact(remote) || PyTuple_GET_SIZE(remote) != 2)
        return NULL;
    if (memo == Py_None)
        return new_environ(conn, line, fields, forwarding);
    PyObject *base = PyDict_CheckExact(memo) ? PyDict_GetItemWithError(memo, line) : NULL;
    return base == NULL ? NULL : copy_for(conn, base);
}

int
learn_environs(PyObject *where_proxies_speak)
{
    Py_XSETREF(variables, Py_NewRef(where_proxies_speak));
    return intern_words(spelling);
}
