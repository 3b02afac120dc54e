/* The way of a ready connection: from epoll through recv to the start of its exchange.
 *
 * An exact shortcut of forkserve.engine.lane.Lane. Here go the bytes of a connection that waits for a request; if they are
 * a head that came before, byte for byte, whole and without a body, then what it says is known and its exchange is
 * started. Everything else is the driver's, in Python.
 */
#include "connection.h"

#include <errno.h>
#include <math.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 256
#define RECEIVE 65536
#define HEADS 256
#define PATIENCE 4   /* times that a head is asked for: the profile remembers at the second, others may come between */
#define LONGEST 2304 /* bytes of a head that is remembered: what the profile remembers of line and block together */

/* A head as received by one listener. Without `line` it is not known, or not yet: that was asked so many times. */
struct head {
    uint64_t hash;
    Py_ssize_t size;
    int asked;
    char *bytes;
    PyObject *listening, *line, *fields;
};

typedef struct {
    PyObject_HEAD
    PyObject *driver, *connections, *handlers;
    int epoll, count;
    struct epoll_event events[BATCH];
    struct head heads[HEADS];
} Lane;

/* What all requests of one turn have in common; owned. */
struct turn {
    PyObject *exchange, *start, *deadline;
};

/* Only one call at a time is between recv and the end of what it received. */
static char received[RECEIVE];

static uint64_t
hash_of(const char *data, Py_ssize_t size, const void *listening)
{
    uint64_t hash = (uint64_t)size ^ ((uint64_t)(uintptr_t)listening >> 4), word;
    for (; size >= 8; data += 8, size -= 8) {
        memcpy(&word, data, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    word = 0;
    memcpy(&word, data, (size_t)size);
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ (hash >> 29);
}

static void
forget(struct head *head)
{
    Py_CLEAR(head->listening);
    Py_CLEAR(head->line);
    Py_CLEAR(head->fields);
    PyMem_Free(head->bytes);
    head->bytes = NULL;
    head->size = head->asked = 0;
}

/* Take line and fields if they are of a request without a body that asks for nothing unusual; -1 on error. */
static int
take_plain(struct head *head, PyObject *known)
{
    PyObject *line, *fields;
    if (!PyArg_ParseTuple(known, "OO", &line, &fields))
        return -1;
    PyObject *plain = PyObject_GetAttrString(fields, "plain");
    if (plain == Py_True) {
        Py_XSETREF(head->line, Py_NewRef(line));
        Py_XSETREF(head->fields, Py_NewRef(fields));
    }
    Py_XDECREF(plain);
    return plain == NULL ? -1 : 0;
}

/* Ask the listener's profile for what it remembers of a head; -1 on error. */
static int
recall(struct head *head, PyObject *data)
{
    PyObject *profile = PyObject_GetAttrString(head->listening, "profile");
    PyObject *known = profile == NULL ? NULL : PyObject_CallMethod(profile, "recall", "(O)", data);
    Py_XDECREF(profile);
    if (known == NULL)
        return -1;
    int failed = known == Py_None ? 0 : take_plain(head, known);
    Py_DECREF(known);
    return failed;
}

/* The head that was received, if it is known (borrowed, until the next look-up); NULL if not, or with an exception. */
static struct head *
known_head(Lane *lane, PyObject *listening, Py_ssize_t size)
{
    if (size > LONGEST)
        return NULL;
    uint64_t hash = hash_of(received, size, listening);
    struct head *head = &lane->heads[hash % HEADS];
    if (head->size != size || head->hash != hash || head->listening != listening
        || memcmp(head->bytes, received, (size_t)size) != 0) {
        char *bytes = PyMem_Malloc((size_t)size);
        forget(head);
        if (bytes != NULL) {
            memcpy(bytes, received, (size_t)size);
            *head = (struct head){hash, size, 0, bytes, Py_NewRef(listening), NULL, NULL};
        }
        return NULL;
    }
    if (head->line == NULL) {
        if (head->asked >= PATIENCE)
            return NULL;
        head->asked++;
        PyObject *data = PyBytes_FromStringAndSize(received, size);
        int failed = data == NULL || recall(head, data) < 0;
        Py_XDECREF(data);
        if (failed || head->line == NULL)
            return NULL;
    }
    return head;
}

/* Start the exchange of a request of which everything is known. */
static int
start(PyObject *conn, struct head *head, struct turn *turn)
{
    struct connection *at = &connection;
    PyObject *args[] = {conn, Py_NewRef(head->line), Py_NewRef(head->fields)};
    PyObject *exchange = PyObject_Vectorcall(turn->exchange, args, 3, NULL);
    Py_DECREF(args[1]);
    Py_DECREF(args[2]);
    if (exchange == NULL)
        return -1;
    set_slot(conn, at->exchange, exchange);
    set_slot(conn, at->phase, at->running);
    set_slot(conn, at->deadline, turn->deadline);
    PyObject *started = PyObject_CallOneArg(turn->start, exchange);
    Py_DECREF(exchange);
    Py_XDECREF(started);
    return started == NULL ? -1 : 0;
}

static int
tell(PyObject *driver, const char *method, PyObject *conn)
{
    PyObject *done = PyObject_CallMethod(driver, method, "(O)", conn);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Read from a connection that waits for a request. */
static int
receive(Lane *lane, PyObject *conn, int fd, struct turn *turn)
{
    struct connection *at = &connection;
    if (SLOT(conn, at->raw) != Py_True)
        return tell(lane->driver, "receive", conn);
    Py_ssize_t size = recv(fd, received, RECEIVE, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (size <= 0)
        return tell(lane->driver, "close_connection", conn);
    if (SLOT(conn, at->reader) == Py_None) {
        struct head *head = known_head(lane, SLOT(conn, at->listening), size);
        if (head != NULL)
            return start(conn, head, turn);
        if (PyErr_Occurred())
            return -1;
    }
    PyObject *taken = PyObject_CallMethod(lane->driver, "take", "Oy#", conn, received, size);
    Py_XDECREF(taken);
    return taken == NULL ? -1 : 0;
}

static int
waits_for_request(PyObject *conn)
{
    struct connection *at = &connection;
    PyObject *phase = SLOT(conn, at->phase);
    return Py_IS_TYPE(conn, at->type) && SLOT(conn, at->exchange) == Py_None && is_empty(SLOT(conn, at->inbox))
        && (phase == at->idle || phase == at->first_byte || phase == at->head);
}

static int
attend(Lane *lane, const struct epoll_event *event, struct turn *turn)
{
    int fd = event->data.fd, failed = 0;
    PyObject *key = PyLong_FromLong(fd);
    if (key == NULL)
        return -1;
    PyObject *conn = PyDict_GetItemWithError(lane->connections, key), *done = NULL;
    if (conn != NULL) {
        Py_INCREF(conn);
        if (event->events == EPOLLIN && waits_for_request(conn))
            failed = receive(lane, conn, fd, turn);
        else {
            done = PyObject_CallMethod(lane->driver, "handle", "OI", conn, (unsigned int)event->events);
            failed = done == NULL;
        }
        Py_DECREF(conn);
    }
    else if (!PyErr_Occurred()) {
        PyObject *handler = PyDict_GetItemWithError(lane->handlers, key);
        if (handler != NULL) {
            Py_INCREF(handler);
            done = PyObject_CallNoArgs(handler);
            Py_DECREF(handler);
        }
    }
    Py_XDECREF(done);
    Py_DECREF(key);
    return failed || PyErr_Occurred() ? -1 : 0;
}

static PyObject *
lane_serve(Lane *lane, PyObject *Py_UNUSED(unused))
{
    struct epoll_event events[BATCH];
    int count = lane->count, failed = 1;
    lane->count = 0;
    memcpy(events, lane->events, (size_t)count * sizeof *events);
    struct turn turn = {PyObject_GetAttrString(lane->driver, "exchange"), PyObject_GetAttrString(lane->driver, "start"),
                        PyObject_GetAttrString(lane->driver, "run_deadline")};
    if (turn.exchange != NULL && turn.start != NULL && turn.deadline != NULL) {
        failed = 0;
        for (int i = 0; i < count && !failed; i++)
            failed = attend(lane, &events[i], &turn) < 0;
    }
    Py_XDECREF(turn.exchange);
    Py_XDECREF(turn.start);
    Py_XDECREF(turn.deadline);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static double
now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static PyObject *
lane_wait(Lane *lane, PyObject *timeout)
{
    double seconds = timeout == Py_None ? INFINITY : PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred())
        return NULL;
    double until = seconds > 0.0 ? now() + seconds : 0.0;
    for (;;) {
        /* As select.epoll.poll: rounded up, and gone on with after a signal whose handler raises nothing (PEP 475). */
        int wait = seconds > 2e6 ? -1 : seconds > 0.0 ? (int)ceil(seconds * 1000.0) : 0, count;
        if (wait == 0)
            count = epoll_wait(lane->epoll, lane->events, BATCH, 0);
        else {
            Py_BEGIN_ALLOW_THREADS
            count = epoll_wait(lane->epoll, lane->events, BATCH, wait);
            Py_END_ALLOW_THREADS
        }
        if (count >= 0) {
            lane->count = count;
            Py_RETURN_NONE;
        }
        if (errno != EINTR)
            return PyErr_SetFromErrno(PyExc_OSError);
        if (PyErr_CheckSignals() < 0)
            return NULL;
        if (seconds > 0.0)
            seconds = fmax(0.0, until - now());
    }
}

static int
lane_traverse(Lane *lane, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(lane));
    Py_VISIT(lane->driver);
    Py_VISIT(lane->connections);
    Py_VISIT(lane->handlers);
    for (int i = 0; i < HEADS; i++) {
        Py_VISIT(lane->heads[i].listening);
        Py_VISIT(lane->heads[i].line);
        Py_VISIT(lane->heads[i].fields);
    }
    return 0;
}

static int
lane_clear(Lane *lane)
{
    Py_CLEAR(lane->driver);
    Py_CLEAR(lane->connections);
    Py_CLEAR(lane->handlers);
    for (int i = 0; i < HEADS; i++)
        forget(&lane->heads[i]);
    return 0;
}

static void
lane_dealloc(Lane *lane)
{
    PyTypeObject *type = Py_TYPE(lane);
    PyObject_GC_UnTrack(lane);
    lane_clear(lane);
    type->tp_free(lane);
    Py_DECREF(type);
}

static int
lane_init(Lane *lane, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *driver;
    if (!PyArg_ParseTuple(args, "O:Lane", &driver))
        return -1;
    PyObject *fd = PyObject_CallMethod(driver, "fileno", NULL);
    if (fd == NULL)
        return -1;
    lane->epoll = (int)PyLong_AsLong(fd);
    Py_DECREF(fd);
    Py_XSETREF(lane->driver, Py_NewRef(driver));
    Py_XSETREF(lane->connections, PyObject_GetAttrString(driver, "connections"));
    Py_XSETREF(lane->handlers, PyObject_GetAttrString(driver, "handlers"));
    return lane->connections == NULL || lane->handlers == NULL ? -1 : 0;
}

static PyMethodDef lane_methods[] = {
    {"wait", (PyCFunction)lane_wait, METH_O, "Wait for events, at most so many seconds (None: for ever)."},
    {"serve", (PyCFunction)lane_serve, METH_NOARGS, "Do what the events ask for."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot lane_slots[] = {
    {Py_tp_doc, "The ready connections of a driver; forkserve.engine.lane.Lane says what it does."},
    {Py_tp_init, lane_init}, {Py_tp_traverse, lane_traverse}, {Py_tp_clear, lane_clear},
    {Py_tp_dealloc, lane_dealloc}, {Py_tp_methods, lane_methods}, {0, NULL}};

PyType_Spec lane_spec = {"forkserve.compiled._hot.Lane", sizeof(Lane), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                         lane_slots};
