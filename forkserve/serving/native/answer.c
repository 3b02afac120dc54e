/* Exact shortcuts of `whole` and `prepare` of forkserve.serving.http.response.Responder, for what it remembers. */
#include "answer.h"
#include "counter.h"
#include "taken.h"

#define JOINED 65536  /* bytes of body from which head and body are sent separately: forkserve.serving.http.response.JOINED */
#define LONGEST 65536 /* bytes of a head that is joined with its body here */
#define MOST_END 4000 /* bytes of Server and Date, which are some hundred */
#define ON_STACK 4096 /* bytes of an answer that is joined on the stack */

struct answers answers;

int
learn_answers(PyObject *exchange, PyObject *const kinds[3], PyObject *responder)
{
    struct answers *at = &answers;
    const struct wanted of_exchange[] = {{"conn", &at->conn}, {"fields", &at->fields}, {"line", &at->line}, {"since", &at->since}, {NULL, NULL}};
    const struct wanted of_prepared[] = {
        {"code", &at->code}, {"head", &at->head}, {"length", &at->length}, {"is_fast_path", &at->fast_head}, {NULL, NULL}};
    const struct wanted of_responder[] = {{"end", &at->end}, {NULL, NULL}};
    if (learn_requests(kinds[0], kinds[1]) < 0 || find_slots(kinds[2], of_prepared) < 0)
        return -1;
    if (find_slots(exchange, of_exchange) < 0)
        return -1;
    return find_slots((PyObject *)Py_TYPE(responder), of_responder);
}

int
is_fast_path(PyObject *exchange)
{
    return Py_IS_TYPE(SLOT(exchange, answers.conn), connection.type)
        && SLOT(SLOT(exchange, answers.line), line_at.is_fast_path) == Py_True
        && SLOT(SLOT(exchange, answers.fields), fields_at.is_fast_path) == Py_True;
}

int
is_whole(PyObject *prepared, PyObject *data)
{
    if (prepared == NULL || prepared == Py_None || !PyBytes_CheckExact(data)
        || SLOT(prepared, answers.fast_head) != Py_True)
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
    PyObject *head = SLOT(prepared, answers.head), *end = SLOT(responder, answers.end);
    char length[48] = "", on_stack[ON_STACK], *whole = on_stack;
    if (PyBytes_GET_SIZE(end) > MOST_END) {
        PyErr_SetString(PyExc_ValueError, "the Server header is too large");
        return -1;
    }
    int more = 0;
    if (SLOT(prepared, answers.length) == Py_None)
        more = snprintf(length, sizeof length, "Content-Length: %zd\r\n", PyBytes_GET_SIZE(data));
    /* No shared buffer: Python and other threads run while TLS sends, or where a send is partial. */
    Py_ssize_t size = PyBytes_GET_SIZE(head) + more + PyBytes_GET_SIZE(end) + PyBytes_GET_SIZE(data);
    if (size > ON_STACK && (whole = PyMem_Malloc((size_t)size)) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    char *at = append(whole, head);
    memcpy(at, length, (size_t)more);
    append(append(at + more, end), data);
    times_taken[ANSWER]++;
    int failed = reply(SLOT(exchange, answers.conn), whole, size, 1);
    if (whole != on_stack)
        PyMem_Free(whole);
    return failed;
}

/* Log the answer by AccessLog.write. */
static PyObject *
note_line(PyObject *exchange, PyObject *log, PyObject *address, PyObject *code, PyObject *count)
{
    PyObject *line = Py_NewRef(SLOT(exchange, answers.line)), *fields = Py_NewRef(SLOT(exchange, answers.fields));
    PyObject *args[] = {address, line, fields, code, count};
    PyObject *done = PyObject_Vectorcall(log, args, 5, NULL);
    Py_DECREF(line);
    Py_DECREF(fields);
    return done;
}

int
note_answer(PyObject *exchange, PyObject *counter, PyObject *log, PyObject *address, PyObject *prepared, Py_ssize_t size)
{
    PyObject *count = PyLong_FromSsize_t(size), *done;
    if (count == NULL)
        return -1;
    PyObject *code = Py_NewRef(SLOT(prepared, answers.code));
    if (log != Py_None && address != NULL && PyUnicode_CheckExact(address)) {
        count_end(counter, exchange, code);
        done = note_line(exchange, log, address, code, count);
    }
    else
        done = PyObject_CallMethod(exchange, "note", "OO", code, count);
    Py_DECREF(code);
    Py_DECREF(count);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* The status and headers found last, and their entry: most applications pass the same objects each time. All owned. */
static struct last {
    PyObject *known, *status, *pairs, *prepared;
} last;

/* Whether these are the last ones, by address. */
static int
is_last(PyObject *known, PyObject *status, PyObject *headers)
{
    if (last.status != status || last.known != known || PyTuple_GET_SIZE(last.pairs) != PyList_GET_SIZE(headers))
        return 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++)
        if (PyTuple_GET_ITEM(last.pairs, i) != PyList_GET_ITEM(headers, i))
            return 0;
    return 1;
}

static int
is_constant(PyObject *object)
{
    return PyUnicode_CheckExact(object) || PyBytes_CheckExact(object) || PyLong_CheckExact(object);
}

/* Whether status and headers are immutable, and can be read without running Python. */
static int
are_constant(PyObject *status, PyObject *headers)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++) {
        PyObject *pair = PyList_GET_ITEM(headers, i);
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2 || !is_constant(PyTuple_GET_ITEM(pair, 0))
            || !is_constant(PyTuple_GET_ITEM(pair, 1)))
            return 0;
    }
    return is_constant(status);
}

static void
note_last(PyObject *known, PyObject *status, PyObject *pairs, PyObject *prepared)
{
    struct last old = last;
    last = (struct last){Py_NewRef(known), Py_NewRef(status), Py_NewRef(pairs), Py_NewRef(prepared)};
    Py_XDECREF(old.known);
    Py_XDECREF(old.status);
    Py_XDECREF(old.pairs);
    Py_XDECREF(old.prepared);
}

PyObject *
remembered(PyObject *known, PyObject *status, PyObject *headers)
{
    if (is_last(known, status, headers))
        return Py_NewRef(last.prepared);
    if (!are_constant(status, headers))
        return NULL;
    PyObject *pairs = PyList_AsTuple(headers);
    PyObject *key = pairs == NULL ? NULL : PyTuple_Pack(2, status, pairs);
    PyObject *prepared = key == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(known, key));
    Py_XDECREF(key);
    if (prepared != NULL)
        note_last(known, status, pairs, prepared);
    Py_XDECREF(pairs);
    return prepared;
}
