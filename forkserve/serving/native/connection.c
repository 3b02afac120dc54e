/* The end of most requests: a response that goes out in one call, on a connection that stays. */
#include "connection.h"

#include <errno.h>
#include <sys/socket.h>

struct connection connection;
static PyObject *IDLE_DEADLINE;
static const struct word spelling[] = {{&IDLE_DEADLINE, "idle_deadline"}, {NULL, NULL}};

/* Send what the socket takes: its bytes, 0 if it would block, -1 with an exception. */
static Py_ssize_t
send_now(PyObject *conn, const char *data, Py_ssize_t size)
{
    struct connection *at = &connection;
    if (SLOT(conn, at->raw) == Py_True && SLOT(conn, at->phase) != at->closed) {
        long fd = PyLong_AsLong(SLOT(conn, at->fd));
        /* Never blocks, so the interpreter's lock stays: handing it over would cost more than the call. */
        Py_ssize_t sent = send((int)fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0)
            return sent;
        if (errno == EAGAIN || errno == EINTR)
            return 0;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    else {
        PyObject *sent = PyObject_CallMethod(conn, "send", "y#", data, size);
        if (sent != NULL) {
            Py_ssize_t count = PyLong_AsSsize_t(sent);
            Py_DECREF(sent);
            return count;
        }
        if (!PyErr_ExceptionMatches(PyExc_OSError))
            return -1;
    }
    PyObject *error = PyErr_GetRaisedException();
    PyObject *none = PyObject_CallMethod(conn, "not_sent", "(O)", error);
    Py_DECREF(error);
    if (none == NULL)
        return -1;
    Py_DECREF(none);
    return 0;
}

int
reply(PyObject *conn, const char *data, Py_ssize_t size, int keep)
{
    struct connection *at = &connection;
    Py_ssize_t sent = send_now(conn, data, size);
    if (sent < 0)
        return -1;
    PyObject *done;
    if (sent != size || !keep || SLOT(conn, at->body) != Py_None) {
        done = PyObject_CallMethod(conn, "replied", "y#ni", data, size, sent, keep);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    PyObject *driver = SLOT(conn, at->driver);
    PyObject *deadline = PyObject_GetAttr(driver, IDLE_DEADLINE);
    if (deadline == NULL)
        return -1;
    set_slot(conn, at->phase, at->idle);
    Py_XSETREF(SLOT(conn, at->deadline), deadline);
    set_slot(conn, at->exchange, Py_None);
    /* After `exchange`, as the module's docstring in Python says. */
    if (is_empty(SLOT(conn, at->inbox)) && SLOT(conn, at->half_closed) == Py_False)
        return 0;
    done = PyObject_CallMethod(driver, "later", "(O)", conn);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static PyObject *
reply_method(PyObject *conn, PyObject *const *args, Py_ssize_t count)
{
    char *data;
    Py_ssize_t size;
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "reply() takes 2 arguments, got %zd", count);
    if (PyBytes_AsStringAndSize(args[0], &data, &size) < 0)
        return NULL;
    int keep = PyObject_IsTrue(args[1]);
    if (keep < 0 || reply(conn, data, size, keep) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef reply_definition = {
    "reply", (PyCFunction)(void (*)(void))reply_method, METH_FASTCALL,
    "Send a whole response and end the exchange: the hot path of every backend. Raises ConnectionLost."};

PyObject *
adopt(PyObject *Py_UNUSED(module), PyObject *args)
{
    struct connection *at = &connection;
    PyObject *type, *phases;
    if (!PyArg_ParseTuple(args, "OO:adopt", &type, &phases))
        return NULL;
    const struct wanted wanted[] = {
        {"body", &at->body},   {"deadline", &at->deadline}, {"driver", &at->driver}, {"ends", &at->ends}, {"exchange", &at->exchange},
        {"fd", &at->fd},       {"half_closed", &at->half_closed},
        {"inbox", &at->inbox}, {"listening", &at->listening}, {"phase", &at->phase}, {"raw", &at->raw},
        {"reader", &at->reader}, {"remote", &at->remote}, {NULL, NULL}};
    if (intern_words(spelling) < 0 || find_slots(type, wanted) < 0)
        return NULL;
    const struct { const char *name; PyObject **phase; } named[] = {
        {"FIRST_BYTE", &at->first_byte}, {"IDLE", &at->idle}, {"HEAD", &at->head},
        {"RUNNING", &at->running}, {"CLOSED", &at->closed}};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        PyObject *phase = PyObject_GetAttrString(phases, named[i].name);
        if (phase == NULL)
            return NULL;
        Py_XSETREF(*named[i].phase, phase);
    }
    at->type = (PyTypeObject *)Py_NewRef(type);
    if (add_method(type, &reply_definition) < 0)
        return NULL;
    Py_RETURN_NONE;
}
