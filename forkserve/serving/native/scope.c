/* The scope of a request: an exact shortcut of http_scope of forkserve.serving.asgi.scope. */
#include "scope.h"
#include "connection.h"
#include "request.h"

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

/* Fill in what is the connection's and the application's own; -1 on error. */
static int
own_scope(PyObject *scope, PyObject *headers, PyObject *extensions, PyObject *ends, PyObject *state)
{
    PyObject *server = PyDict_GetItemWithError(scope, words.server);
    if (server == NULL)
        return -1;
    if (server == Py_None && PyDict_SetItem(scope, words.server, PyTuple_GET_ITEM(ends, 1)) < 0)
        return -1;
    return PyDict_SetItem(scope, words.client, PyTuple_GET_ITEM(ends, 0)) < 0
            || copy_value(scope, words.headers, headers) < 0 || copy_value(scope, words.extensions, extensions) < 0
            || copy_value(scope, words.state, state) < 0
        ? -1
        : 0;
}

/* A copy of what line and fields gave before; NULL on error. */
static PyObject *
known_scope(PyObject *base, PyObject *ends, PyObject *state)
{
    PyObject *headers = PyDict_GetItemWithError(base, words.headers);
    PyObject *extensions = headers == NULL ? NULL : PyDict_GetItemWithError(base, words.extensions);
    PyObject *scope = extensions == NULL ? NULL : PyDict_Copy(base);
    if (scope != NULL && own_scope(scope, headers, extensions, ends, state) < 0)
        Py_CLEAR(scope);
    return scope;
}

/* Whether a proxy speaks in these headers: forkserve.serving.asgi.forwarding.NAMES, and others that begin like them. */
static int
is_forwarded(PyObject *headers)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++) {
        PyObject *name = PyTuple_GET_ITEM(PyList_GET_ITEM(headers, i), 0);
        const char *text = PyBytes_AS_STRING(name);
        Py_ssize_t size = PyBytes_GET_SIZE(name);
        if ((size == 9 && memcmp(text, "forwarded", 9) == 0) || (size > 12 && memcmp(text, "x-forwarded-", 12) == 0))
            return 1;
    }
    return 0;
}

/* Fill in what the line says; -1 on error. */
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

/* Keep with fields that no proxy speaks in them, or have `correct` put what it says into the scope; -1 on error. */
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
new_scope(PyObject *conn, PyObject *template, PyObject *line, PyObject *fields, PyObject *state)
{
    PyObject *headers = SLOT(fields, fields_at.headers), *path = SLOT(line, line_at.path);
    if (!Py_IS_TYPE(template, template_at.type) || PyUnicode_GET_LENGTH(SLOT(template, template_at.root)) != 0
        || SLOT(line, line_at.modern) != Py_True || !PyUnicode_IS_ASCII(path))
        return NULL;
    int forwarded = SLOT(template, template_at.forwarding) != Py_None && is_forwarded(headers);
    PyObject *scope = PyDict_Copy(SLOT(template, template_at.base));
    if (scope != NULL
        && (add_line(scope, line) < 0 || own_scope(scope, headers, modern, SLOT(conn, connection.ends), state) < 0
            || settle(scope, conn, fields, forwarded) < 0))
        Py_CLEAR(scope);
    return scope;
}

PyObject *
scope_for(PyObject *conn, PyObject *line, PyObject *fields, PyObject *state)
{
    PyObject *memo = SLOT(fields, fields_at.memo), *ends = SLOT(conn, connection.ends);
    if (ends == Py_None)
        return NULL;
    if (memo == Py_None || memo == forwarded_memo) {
        PyObject *template = PyObject_GetAttr(SLOT(conn, connection.listening), words.environ);
        PyObject *scope = template == NULL ? NULL : new_scope(conn, template, line, fields, state);
        Py_XDECREF(template);
        return scope;
    }
    PyObject *base = PyDict_CheckExact(memo) ? PyDict_GetItemWithError(memo, line) : NULL;
    return base == NULL ? NULL : known_scope(base, ends, state);
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
