/* The environ of a request: an exact shortcut of WsgiExchange.__init__ and _environ of forkserve.wsgi. */
#include "environ.h"
#include "connection.h"
#include "request.h"
#include "taken.h"

/* Interned, made once. */
PyObject *REMOTE_ADDR;
static PyObject *REMOTE_PORT, *ENVIRON, *APPLY;
static const struct word spelling[] = {
    {&REMOTE_ADDR, "REMOTE_ADDR"}, {&REMOTE_PORT, "REMOTE_PORT"}, {&ENVIRON, "environ"}, {&APPLY, "apply"}, {NULL, NULL}};

/* The variables of the fields that proxies set: forkserve.serving.gateway.forwarding.VARIABLES. */
static PyObject *variables;

/* A copy with the address of this client; NULL on error. */
static PyObject *
copy_for(PyObject *remote, PyObject *base)
{
    PyObject *environ = PyDict_Copy(base);
    if (environ != NULL
        && (PyDict_SetItem(environ, REMOTE_ADDR, PyTuple_GET_ITEM(remote, 0)) < 0
            || PyDict_SetItem(environ, REMOTE_PORT, PyTuple_GET_ITEM(remote, 1)) < 0))
        Py_CLEAR(environ);
    return environ;
}

/* 1 if these headers have one of them, 0 if not, -1 on error. */
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
correct(PyObject *environ, PyObject *remote, PyObject *forwarding)
{
    PyObject *done = PyObject_CallMethodObjArgs(forwarding, APPLY, environ, remote, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Fill in line and fields. The effect of a proxy's fields may depend on the connection: then nothing is cached with the
 * fields. -1 on error. */
static int
fill(PyObject *environ, PyObject *remote, PyObject *line_environ, PyObject *fields, PyObject *headers, PyObject *forwarding)
{
    if (PyDict_Update(environ, line_environ) < 0 || PyDict_Update(environ, headers) < 0)
        return -1;
    if (forwarding != NULL)
        return correct(environ, remote, forwarding);
    PyObject *memo = PyDict_New();
    if (memo == NULL)
        return -1;
    Py_XSETREF(SLOT(fields, fields_at.memo), memo);
    return 0;
}

/* WsgiExchange._environ for fields without a memo, whose headers are a dict; NULL on error. */
static PyObject *
new_environ(PyObject *conn, PyObject *remote, PyObject *line, PyObject *fields, PyObject *forwarding)
{
    PyObject *headers = Py_NewRef(SLOT(fields, fields_at.headers)), *line_environ = Py_NewRef(SLOT(line, line_at.environ));
    int forwarded = forwarding == Py_None ? 0 : is_forwarded(headers);
    PyObject *template = forwarded < 0 ? NULL : PyObject_GetAttr(SLOT(conn, connection.listening), ENVIRON);
    PyObject *environ = template == NULL ? NULL : copy_for(remote, template);
    if (environ != NULL && fill(environ, remote, line_environ, fields, headers, forwarded ? forwarding : NULL) < 0)
        Py_CLEAR(environ);
    Py_XDECREF(template);
    Py_DECREF(line_environ);
    Py_DECREF(headers);
    return environ;
}

PyObject *
environ_for(PyObject *conn, PyObject *line, PyObject *fields, PyObject *forwarding)
{
    PyObject *memo = SLOT(fields, fields_at.memo), *remote = SLOT(conn, connection.remote), *environ = NULL;
    if (memo == NULL || !PyTuple_CheckExact(remote) || PyTuple_GET_SIZE(remote) != 2)
        return NULL;
    if (memo == Py_None && !PyDict_CheckExact(SLOT(fields, fields_at.headers)))
        return NULL;
    /* Owned: the collector may run where a dict is made, and with it finalisers and other threads. */
    Py_INCREF(remote);
    if (memo == Py_None) {
        environ = new_environ(conn, remote, line, fields, forwarding);
        times_taken[NEW_ENVIRON] += environ != NULL;
    }
    else {
        PyObject *base = PyDict_CheckExact(memo) ? Py_XNewRef(PyDict_GetItemWithError(memo, line)) : NULL;
        if (base != NULL)
            environ = copy_for(remote, base);
        Py_XDECREF(base);
        times_taken[KNOWN_ENVIRON] += environ != NULL;
    }
    Py_DECREF(remote);
    return environ;
}

int
learn_environs(PyObject *where_proxies_speak)
{
    Py_XSETREF(variables, Py_NewRef(where_proxies_speak));
    return intern_words(spelling);
}
