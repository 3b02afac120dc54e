/* The end of most requests: a response that is sent by one call, on a connection that is kept. */
#include "connection.h"
#include "taken.h"

#include <errno.h>
#include <sys/socket.h>

struct connection connection;
static PyObject *IDLE_DEADLINE, *NOW;
static const struct word spelling[] = {{&IDLE_DEADLINE, "idle_deadline"}, {&NOW, "now"}, {NULL, NULL}};

/* Whether the socket carries the plain bytes of the client (no TLS), so that the descriptor can be used. */
static int
is_direct(PyObject *conn)
{
    return SLOT(conn, connection.raw) == Py_True && SLOT(conn, connection.phase) != connection.closed;
}

/* Send by the descriptor: the bytes taken, 0 if it would block, -1 with an exception. Runs no Python and never
 * blocks, so the GIL is kept: releasing it would cost more than the call. */
static Py_ssize_t
send_direct(PyObject *conn, const char *data, Py_ssize_t size)
{
    long fd = PyLong_AsLong(SLOT(conn, connection.fd));
    if (fd == -1 && PyErr_Occurred())
        return -1;
    Py_ssize_t sent = send((int)fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Send by the method of the socket, as TLS needs: as above, but anything may run meanwhile. */
static Py_ssize_t
send_by_method(PyObject *conn, PyObject *payload)
{
    PyObject *sent = PyObject_CallMethod(conn, "send", "(O)", payload);
    if (sent == NULL)
        return -1;
    Py_ssize_t count = PyLong_AsSsize_t(sent);
    Py_DECREF(sent);
    return count;
}

/* Have Connection.not_sent judge the error that is set: 0 if it would block, -1 with what it raises. */
static Py_ssize_t
not_sent(PyObject *conn)
{
    if (!PyErr_ExceptionMatches(PyExc_OSError))
        return -1;
    PyObject *error = PyErr_GetRaisedException();
    PyObject *none = PyObject_CallMethod(conn, "not_sent", "(O)", error);
    Py_DECREF(error);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

/* End an exchange whose response was sent, on a connection that is kept. */
static int
end_exchange(PyObject *conn)
{
    struct connection *at = &connection;
    PyObject *owner = Py_NewRef(SLOT(conn, at->owner)), *done = NULL;
    PyObject *deadline = PyObject_GetAttr(owner, IDLE_DEADLINE);
    times_taken[REPLY]++;
    if (deadline != NULL) {
        set_slot(conn, at->phase, at->idle);
        Py_XSETREF(SLOT(conn, at->deadline), deadline);
        set_slot(conn, at->exchange, Py_None);
        /* After `exchange`, as the module's docstring in Python says. */
        if (is_empty(SLOT(conn, at->inbox)) && SLOT(conn, at->half_closed) == Py_False)
            done = Py_NewRef(Py_None);
        else
            done = PyObject_CallMethod(owner, "later", "(O)", conn);
    }
    Py_DECREF(owner);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Have Connection.replied continue with what was not sent, or with a connection that is not kept. */
static int
go_on(PyObject *conn, PyObject *payload, const char *data, Py_ssize_t size, Py_ssize_t sent, int keep)
{
    PyObject *done;
    if (payload == NULL)
        done = PyObject_CallMethod(conn, "replied", "y#ni", data, size, sent, keep);
    else
        done = PyObject_CallMethod(conn, "replied", "Oni", payload, sent, keep);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Connection.give_up: nothing may follow what was sent, and no other code handles this. Keeps the exception. */
static void
give_up(PyObject *conn)
{
    PyObject *error = PyErr_GetRaisedException();
    set_slot(conn, connection.phase, connection.closed);
    PyObject *now = PyObject_GetAttr(SLOT(conn, connection.owner), NOW);
    if (now != NULL)
        Py_XSETREF(SLOT(conn, connection.deadline), now);
    else
        PyErr_Clear();
    PyErr_SetRaisedException(error);
}

/* `payload` has the same bytes as `data`, or is NULL where Python need not see them. */
static int
reply_payload(PyObject *conn, PyObject *payload, const char *data, Py_ssize_t size, int keep)
{
    Py_ssize_t sent = payload == NULL ? send_direct(conn, data, size) : send_by_method(conn, payload);
    if (sent < 0)
        sent = not_sent(conn);
    if (sent < 0)
        return -1;
    int failed = sent == size && keep && SLOT(conn, connection.body) == Py_None
        ? end_exchange(conn)
        : go_on(conn, payload, data, size, sent, keep);
    if (failed < 0 && sent > 0)
        give_up(conn);
    return failed;
}

int
reply(PyObject *conn, const char *data, Py_ssize_t size, int keep)
{
    int direct = is_direct(conn);
    PyObject *payload = direct ? NULL : PyBytes_FromStringAndSize(data, size);
    if (payload == NULL && !direct)
        return -1;
    Py_INCREF(conn); /* the loop may close it, and its exchange may let go of it */
    int failed = reply_payload(conn, payload, data, size, keep);
    Py_DECREF(conn);
    Py_XDECREF(payload);
    return failed;
}

static PyObject *
reply_method(PyObject *conn, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "reply() takes 2 arguments, got %zd", count);
    if (!PyBytes_Check(args[0]))
        return PyErr_Format(PyExc_TypeError, "reply() takes bytes, got %s", Py_TYPE(args[0])->tp_name);
    int keep = PyObject_IsTrue(args[1]);
    if (keep < 0)
        return NULL;
    PyObject *payload = is_direct(conn) ? NULL : args[0];
    if (reply_payload(conn, payload, PyBytes_AS_STRING(args[0]), PyBytes_GET_SIZE(args[0]), keep) < 0)
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
    if (!PyArg_ParseTuple(args, "O!O:adopt", &PyType_Type, &type, &phases))
        return NULL;
    const struct wanted wanted[] = {
        {"body", &at->body},   {"deadline", &at->deadline}, {"ends", &at->ends}, {"exchange", &at->exchange},
        {"fd", &at->fd},       {"half_closed", &at->half_closed},
        {"inbox", &at->inbox}, {"listening", &at->listening}, {"phase", &at->phase}, {"owner", &at->owner}, {"raw", &at->raw},
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
    Py_XSETREF(at->type, (PyTypeObject *)Py_NewRef(type));
    if (add_method(type, &reply_definition) < 0)
        return NULL;
    Py_RETURN_NONE;
}
