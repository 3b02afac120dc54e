/* Exact shortcuts of `whole` and `prepare` of forkserve.serving.http.response.Responder, for what it remembers. */
#include "answer.h"

#define JOINED 65536  /* bytes of body from which on head and body go out apart: forkserve.serving.http.response.JOINED */
#define LONGEST 65536 /* bytes of a head that is joined with its body here */

struct answers answers;

int
learn_answers(PyObject *exchange, PyObject *const kinds[3], PyObject *site, PyObject *responder)
{
    struct answers *at = &answers;
    const struct wanted of_exchange[] = {{"conn", &at->conn}, {"fields", &at->fields}, {"line", &at->line}, {NULL, NULL}};
    const struct wanted of_prepared[] = {
        {"code", &at->code}, {"head", &at->head}, {"length", &at->length}, {"plain", &at->plain_head}, {NULL, NULL}};
    const struct wanted of_responder[] = {{"end", &at->end}, {NULL, NULL}};
    const struct wanted of_site[] = {{"keep", &at->keep}, {NULL, NULL}};
    if (learn_requests(kinds[0], kinds[1]) < 0 || find_slots(kinds[2], of_prepared) < 0)
        return -1;
    if (find_slots(exchange, of_exchange) < 0 || find_slots((PyObject *)Py_TYPE(site), of_site) < 0)
        return -1;
    return find_slots((PyObject *)Py_TYPE(responder), of_responder);
}

int
is_plain(PyObject *exchange, PyObject *site)
{
    return Py_IS_TYPE(SLOT(exchange, answers.conn), connection.type)
        && SLOT(SLOT(exchange, answers.line), line_at.plain) == Py_True
        && SLOT(SLOT(exchange, answers.fields), fields_at.plain) == Py_True && SLOT(site, answers.keep) == Py_True;
}

int
is_whole(PyObject *prepared, PyObject *data)
{
    if (prepared == NULL || prepared == Py_None || !PyBytes_CheckExact(data)
        || SLOT(prepared, answers.plain_head) != Py_True)
        return 0;
    PyObject *length = SLOT(prepared, answers.length);
    Py_ssize_t size = PyBytes_GET_SIZE(data), head = PyBytes_GET_SIZE(SLOT(prepared, answers.head));
    if (size >= JOINED || head >= LONGEST)
        return 0;
    if (length == Py_None)
        return 1;
    if (!PyLong_CheckExact(length))
        return 0;
    Py_ssize_t promised = PyLong_AsSsize_t(length);
    if (promised == -1)
        PyErr_Clear(); /* too large for a size */
    return promised == size;
}

static char *
append(char *at, PyObject *bytes)
{
    memcpy(at, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    return at + PyBytes_GET_SIZE(bytes);
}

int
reply_whole(PyObject *exchange, PyObject *prepared, PyObject *responder, PyObject *data)
{
    /* Sent at once, with the interpreter's lock held: one is enough. `end` is some hundred bytes of Server and Date. */
    static char whole[JOINED + LONGEST + 4096];
    PyObject *head = SLOT(prepared, answers.head), *end = SLOT(responder, answers.end);
    if (PyBytes_GET_SIZE(end) > 4000) {
        PyErr_SetString(PyExc_ValueError, "the Server header is too large");
        return -1;
    }
    char *at = append(whole, head);
    if (SLOT(prepared, answers.length) == Py_None)
        at += sprintf(at, "Content-Length: %zd\r\n", PyBytes_GET_SIZE(data));
    Py_ssize_t size = append(append(at, end), data) - whole;
    return reply(SLOT(exchange, answers.conn), whole, size, 1);
}

int
note_answer(PyObject *exchange, PyObject *log, PyObject *address, PyObject *prepared, Py_ssize_t size)
{
    PyObject *count = PyLong_FromSsize_t(size), *done = NULL;
    if (count == NULL)
        return -1;
    PyObject *code = SLOT(prepared, answers.code);
    if (log != Py_None && address != NULL && PyUnicode_CheckExact(address)) {
        PyObject *line = SLOT(exchange, answers.line), *fields = SLOT(exchange, answers.fields);
        PyObject *args[] = {address, line, fields, code, count};
        done = PyObject_Vectorcall(log, args, 5, NULL);
    }
    else
        done = PyObject_CallMethod(exchange, "note", "OO", code, count);
    Py_DECREF(count);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

PyObject *
remembered(PyObject *known, PyObject *status, PyObject *headers)
{
    PyObject *pairs = PyList_AsTuple(headers);
    PyObject *key = pairs == NULL ? NULL : PyTuple_Pack(2, status, pairs);
    Py_XDECREF(pairs);
    if (key == NULL)
        return NULL;
    PyObject *prepared = PyDict_GetItemWithError(known, key);
    Py_DECREF(key);
    if (prepared == NULL && PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Clear(); /* not hashable: the way in Python says what is wrong */
    return prepared;
}
