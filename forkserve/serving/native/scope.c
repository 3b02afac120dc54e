/* The scope of a request: an exact shortcut of http_scope of forkserve.serving.asgi.scope. */
#include "scope.h"
#include "connection.h"
#include "request.h"
#include "taken.h"

static struct {
    PyTypeObject *type;
    Py_ssize_t base, forwarding, root;
} template_at;

/* Interned, made once. */
static struct {
    PyObject *client, *environ, *extensions, *headers, *http_version, *method, *path, *query_string, *raw_path, *server,
        *state;
} words;

static const struct word spelling[] = {
    {&words.client, "client"}, {&words.environ, "environ"}, {&words.extensions, "extensions"}, {&words.headers, "headers"},
    {&words.http_version, "http_version"}, {&words.method, "method"}, {&words.path, "path"},
    {&words.query_string, "query_string"}, {&words.raw_path, "raw_path"}, {&words.server, "server"},
    {&words.state, "state"}, {NULL, NULL}};

/* Of forkserve.serving.asgi.scope. */
static PyObject *modern, *forwarded_memo, *correct;

/* Replace a value by its own copy: a dict or a list. */
static int
copy_value(PyObject *scope, PyObject *word, PyObject *value)
{
    PyObject *copy = NULL;
    if (PyDict_CheckExact(value))
        copy = PyDict_Copy(value);
    else if (PyList_CheckExact(value))
        copy = PyList_GetSlice(value, 0, PyList_GET_SIZE(value));
    else
        PyErr_BadInternalCall();
    int failed = copy == NULL || PyDict_SetItem(scope, word, copy) < 0;
    Py_XDECREF(copy);
    return failed ? -1 : 0;
}

/* Fill in the values of the connection and of the application; -1 on error. */
static int
own_scope(PyObject *scope, PyObject *headers, PyObject *extensions, PyObject *ends, PyObject *state)
{
    PyObject *server = PyDict_GetItemWithError(scope, words.server);
    if (server == NULL && PyErr_Occurred())
        return -1;
    if (server == Py_None && PyDict_SetItem(scope, words.server, PyTuple_GET_ITEM(ends, 1)) < 0)
        return -1;
    return PyDict_SetItem(scope, words.client, PyTuple_GET_ITEM(ends, 0)) < 0
            || copy_value(scope, words.headers, headers) < 0 || copy_value(scope, words.extensions, extensions) < 0
            || copy_value(scope, words.state, state) < 0
        ? -1
        : 0;
}

/* A copy of the cached scope of line and fields; NULL on error. */
static PyObject *
known_scope(PyObject *base, PyObject *ends, PyObject *state)
{
    PyObject *scope = PyDict_Copy(base), *headers = NULL, *extensions = NULL;
    if (scope == NULL)
        return NULL;
    if ((headers = Py_XNewRef(PyDict_GetItemWithError(scope, words.headers))) == NULL
        || (extensions = Py_XNewRef(PyDict_GetItemWithError(scope, words.extensions))) == NULL
        || own_scope(scope, headers, extensions, ends, state) < 0)
        Py_CLEAR(scope);
    Py_XDECREF(headers);
    Py_XDECREF(extensions);
    return scope;
}

/* Whether these headers may have fields of a proxy: forkserve.serving.asgi.forwarding.NAMES, and others that begin alike. */
static int
is_forwarded(PyObject *headers)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++) {
        PyObject *pair = PyList_GET_ITEM(headers, i);
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2 || !PyBytes_CheckExact(PyTuple_GET_ITEM(pair, 0)))
            return 1;
        PyObject *name = PyTuple_GET_ITEM(pair, 0);
        const char *text = PyBytes_AS_STRING(name);
        Py_ssize_t size = PyBytes_GET_SIZE(name);
        if ((size == 9 && memcmp(text, "forwarded", 9) == 0) || (size > 12 && memcmp(text, "x-forwarded-", 12) == 0))
            return 1;
    }
    return 0;
}

/* Fill in the request line; -1 on error. */
static int
add_line(PyObject *scope, PyObject *line)
{
    return PyDict_SetItem(scope, words.http_version, SLOT(line, line_at.version)) < 0
            || PyDict_SetItem(scope, words.method, SLOT(line, line_at.method)) < 0
            || PyDict_SetItem(scope, words.path, SLOT(line, line_at.path)) < 0
            || PyDict_SetItem(scope, words.raw_path, SLOT(line, line_at.raw_path)) < 0
            || PyDict_SetItem(scope, words.query_string, SLOT(line, line_at.query)) < 0
        ? -1
        : 0;
}

/* Cache with the fields that they have none of a proxy, or have `correct` apply these to the scope; -1 on error. */
static int
settle(PyObject *scope, PyObject *conn, PyObject *fields, int forwarded)
{
    PyObject *done = forwarded ? PyObject_CallFunctionObjArgs(correct, scope, conn, NULL) : PyDict_New();
    if (done != NULL && !forwarded)
        set_slot(fields, fields_at.memo, done);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* http_scope for fields without a memo; NULL with or without an error. */
static PyObject *
new_scope(PyObject *conn, PyObject *template, PyObject *line, PyObject *fields, PyObject *ends, PyObject *state)
{
    PyObject *headers = SLOT(fields, fields_at.headers), *path = SLOT(line, line_at.path);
    if (!Py_IS_TYPE(template, template_at.type) || PyUnicode_GET_LENGTH(SLOT(template, template_at.root)) != 0
        || SLOT(line, line_at.modern) != Py_True || !PyUnicode_IS_ASCII(path) || !PyList_CheckExact(headers))
        return NULL;
    Py_INCREF(headers);
    int forwarded = SLOT(template, template_at.forwarding) != Py_None && is_forwarded(headers);
    PyObject *scope = PyDict_Copy(SLOT(template, template_at.base));
    if (scope != NULL
        && (add_line(scope, line) < 0 || own_scope(scope, headers, modern, ends, state) < 0
            || settle(scope, conn, fields, forwarded) < 0))
        Py_CLEAR(scope);
    Py_DECREF(headers);
    return scope;
}

/* As scope_for, of what is owned meanwhile: the collector may run where a dict is made, and with it finalisers. */
static PyObject *
scope_of(PyObject *conn, PyObject *line, PyObject *fields, PyObject *memo, PyObject *ends, PyObject *state)
{
    PyObject *scope = NULL;
    if (memo == Py_None || memo == forwarded_memo) {
        PyObject *template = PyObject_GetAttr(SLOT(conn, connection.listening), words.environ);
        if (template != NULL)
            scope = new_scope(conn, template, line, fields, ends, state);
        Py_XDECREF(template);
        times_taken[NEW_ENVIRON] += scope != NULL;
    }
    else if (PyDict_CheckExact(memo)) {
        PyObject *base = Py_XNewRef(PyDict_GetItemWithError(memo, line));
        if (base != NULL)
            scope = known_scope(base, ends, state);
        Py_XDECREF(base);
        times_taken[KNOWN_ENVIRON] += scope != NULL;
    }
    return scope;
}

PyObject *
scope_for(PyObject *conn, PyObject *line, PyObject *fields, PyObject *state)
{
    PyObject *memo = SLOT(fields, fields_at.memo), *ends = SLOT(conn, connection.ends);
    if (memo == NULL || ends == NULL || !PyTuple_CheckExact(ends) || PyTuple_GET_SIZE(ends) != 2 || !PyDict_CheckExact(state))
        return NULL;
    Py_INCREF(memo);
    Py_INCREF(ends);
    PyObject *scope = scope_of(conn, line, fields, memo, ends, state);
    Py_DECREF(memo);
    Py_DECREF(ends);
    return scope;
}

int
learn_scopes(PyObject *const scopes[4])
{
    const struct wanted of_template[] = {
        {"base", &template_at.base}, {"forwarding", &template_at.forwarding}, {"root", &template_at.root}, {NULL, NULL}};
    if (find_slots(scopes[0], of_template) < 0)
        return -1;
    Py_XSETREF(template_at.type, (PyTypeObject *)Py_NewRef(scopes[0]));
    Py_XSETREF(modern, Py_NewRef(scopes[1]));
    Py_XSETREF(forwarded_memo, Py_NewRef(scopes[2]));
    Py_XSETREF(correct, Py_NewRef(scopes[3]));
    return 0;
}

int
scope_ready(void)
{
    return intern_words(spelling);
}
