/* The environ of a request: an exact shortcut of Exchange.__init__ and _environ of forkserve.wsgi. */
#include "environ.h"
#include "answer.h"

/* Interned, made once. */
PyObject *REMOTE_ADDR;
static PyObject *REMOTE_PORT, *ENVIRON, *APPLY;

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
    PyObject *headers = SLOT(fields, answers.headers);
    int forwarded = !PyDict_CheckExact(headers) ? -1 : forwarding == Py_None ? 0 : is_forwarded(headers);
    PyObject *template = forwarded < 0 ? NULL : PyObject_GetAttr(SLOT(conn, connection.listening), ENVIRON);
    PyObject *environ = template == NULL ? NULL : copy_for(conn, template), *memo = NULL;
    Py_XDECREF(template);
    if (environ == NULL)
        return NULL;
    int failed = PyDict_Update(environ, SLOT(line, answers.environ)) < 0 || PyDict_Update(environ, headers) < 0;
    /* What a proxy says may depend on the connection: nothing is kept with the fields then. */
    if (!failed && forwarded)
        failed = correct(environ, conn, forwarding) < 0;
    else if (!failed && (memo = PyDict_New()) != NULL)
        Py_XSETREF(SLOT(fields, answers.memo), memo);
    if (failed || PyErr_Occurred())
        Py_CLEAR(environ);
    return environ;
}

PyObject *
environ_for(PyObject *conn, PyObject *line, PyObject *fields, PyObject *forwarding)
{
    PyObject *memo = SLOT(fields, answers.memo), *remote = SLOT(conn, connection.remote);
    if (memo == NULL || !PyTuple_CheckExact(remote) || PyTuple_GET_SIZE(remote) != 2)
        return NULL;
    if (memo == Py_None)
        return new_environ(conn, line, fields, forwarding);
    PyObject *base = PyDict_CheckExact(memo) ? PyDict_GetItemWithError(memo, line) : NULL;
    return base == NULL ? NULL : copy_for(conn, base);
}

int
environ_ready(void)
{
    REMOTE_ADDR = PyUnicode_InternFromString("REMOTE_ADDR");
    REMOTE_PORT = PyUnicode_InternFromString("REMOTE_PORT");
    ENVIRON = PyUnicode_InternFromString("environ");
    APPLY = PyUnicode_InternFromString("apply");
    variables = Py_BuildValue("(sssss)", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST",
                              "HTTP_X_FORWARDED_PORT", "HTTP_FORWARDED");
    return REMOTE_ADDR == NULL || REMOTE_PORT == NULL || ENVIRON == NULL || APPLY == NULL || variables == NULL ? -1 : 0;
}
