/* The way of a ready connection: from epoll through recv to the start of its exchange.
 *
 * An exact shortcut of forkserve.serving.engine.lane.Lane. Here go the bytes of a connection that waits for a request. What their
 * head says is looked up, where it came before byte for byte, or read (head.c), and the exchange is started if the request
 * is whole. Everything else is the driver's, in Python.
 */
#include "connection.h"
#include "head.h"
#include "line.h"
#include "request.h"

#include <errno.h>
#include <math.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 256
#define RECEIVE 65536
#define HEADS 256
#define PATIENCE 4   /* times that Python is asked for a head: it remembers at the second, others may come between */
#define LONGEST 2304 /* bytes of a head that is remembered: what the profile remembers of line and block together */

/* A head as received by one listener. Without `line` it was seen but is not known, or not yet: Python was asked so many
 * times. One that is `used` keeps its place. */
struct head {
    uint64_t hash;
    Py_ssize_t size;
    int asked, used;
    char *bytes;
    PyObject *listening, *line, *fields;
};

typedef struct {
    PyObject_HEAD
    PyObject *driver, *connections, *handlers;
    int epoll, count;
    struct epoll_event events[BATCH];
    struct head heads[HEADS];
    struct reading *readings;
} Lane;

/* What all requests of one turn have in common; owned. */
struct turn {
    PyObject *exchange, *start, *deadline;
};

/* Only one call at a time is between recv and the end of what it received. */
static char received[RECEIVE];

static void
forget(struct head *head)
{
    Py_CLEAR(head->listening);
    Py_CLEAR(head->line);
    Py_CLEAR(head->fields);
    PyMem_Free(head->bytes);
    head->bytes = NULL;
    head->size = head->asked = head->used = 0;
}

/* Ask the listener's profile for what it remembers of the head that was received: as read_head. */
static int
recall(PyObject *listening, Py_ssize_t size, struct request *request)
{
    PyObject *profile = PyObject_GetAttrString(listening, "profile"), *plain = NULL;
    PyObject *known = profile == NULL ? NULL : PyObject_CallMethod(profile, "recall", "y#", received, size);
    Py_XDECREF(profile);
    *request = (struct request){.size = size};
    if (known != NULL && known != Py_None && PyArg_ParseTuple(known, "OO", &request->line, &request->fields)) {
        plain = PyObject_GetAttrString(request->fields, "plain");
        if (plain == Py_True) {
            Py_INCREF(request->line);
            Py_INCREF(request->fields);
        }
    }
    int found = plain == Py_True;
    Py_XDECREF(known);
    Py_XDECREF(plain);
    return PyErr_Occurred() ? -1 : found;
}

/* The place of the head that was received. It may be another's who is used. */
static struct head *
place_of(Lane *lane, PyObject *listening, Py_ssize_t size)
{
    uint64_t hash = hash_of(received, size, listening);
    struct head *head = &lane->heads[hash % HEADS];
    if (head->hash != hash || head->size != size || head->listening != listening
        || (head->line != NULL && memcmp(head->bytes, received, (size_t)size) != 0)) {
        if (head->used) {
            head->used = 0;
            return NULL;
        }
        forget(head);
        *head = (struct head){.hash = hash, .size = size, .listening = Py_NewRef(listening)};
        return NULL;
    }
    return head;
}

/* Remember a head that has come a second time, and nothing with it. */
static void
remember(struct head *head, const struct request *request)
{
    if (request->body || request->size != head->size || (head->bytes = PyMem_Malloc((size_t)head->size)) == NULL)
        return;
    memcpy(head->bytes, received, (size_t)head->size);
    note_again(request->line);
    head->line = Py_NewRef(request->line);
    head->fields = Py_NewRef(request->fields);
}

/* The head of what was received: as read_head. */
static int
understand(Lane *lane, PyObject *listening, Py_ssize_t size, struct request *request)
{
    struct head *head = size <= LONGEST ? place_of(lane, listening, size) : NULL;
    if (head != NULL && head->line != NULL) {
        head->used = 1;
        *request = (struct request){Py_NewRef(head->line), Py_NewRef(head->fields), size, 0};
        return 1;
    }
    struct reading *reading = reading_of(&lane->readings, listening);
    int found = reading == NULL ? -1 : read_head(reading, received, size, request);
    if (found == 0 && head != NULL && head->asked < PATIENCE) {
        head->asked++;
        found = recall(listening, size, request);
    }
    if (found > 0 && head != NULL)
        remember(head, request);
    return found;
}

/* Start the exchange of a request that is whole with its head. */
static int
start(PyObject *conn, const struct request *request, struct turn *turn)
{
    struct connection *at = &connection;
    PyObject *args[] = {conn, request->line, request->fields};
    PyObject *exchange = PyObject_Vectorcall(turn->exchange, args, 3, NULL);
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

/* Have the driver begin with a request that goes on behind its head, or is followed by another. */
static int
begin(Lane *lane, PyObject *conn, const struct request *request, Py_ssize_t size)
{
    PyObject *done = PyObject_CallMethod(lane->driver, "begin", "OOOy#", conn, request->line, request->fields,
                                         received + request->size, size - request->size);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
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
        struct request request;
        int found = understand(lane, SLOT(conn, at->listening), size, &request);
        if (found > 0) {
            int whole = !request.body && request.size == size;
            int failed = whole ? start(conn, &request, turn) : begin(lane, conn, &request, size);
            Py_DECREF(request.line);
            Py_DECREF(request.fields);
            return failed;
        }
        if (found < 0)
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
    return visit_readings(lane->readings, visit, arg);
}

static int
lane_clear(Lane *lane)
{
    Py_CLEAR(lane->driver);
    Py_CLEAR(lane->connections);
    Py_CLEAR(lane->handlers);
    for (int i = 0; i < HEADS; i++)
        forget(&lane->heads[i]);
    forget_readings(&lane->readings);
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

/* Lane(driver, (RequestLine, Fields)) */
static int
lane_init(Lane *lane, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *driver, *line, *fields;
    if (!PyArg_ParseTuple(args, "O(OO):Lane", &driver, &line, &fields) || learn_requests(line, fields) < 0)
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

/* read(listening, data) -> (line, fields, size) or None: what the tests hold against the reader in Python. */
static PyObject *
lane_read(Lane *lane, PyObject *args)
{
    PyObject *listening;
    const char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Oy#:read", &listening, &data, &size))
        return NULL;
    struct request request;
    struct reading *reading = reading_of(&lane->readings, listening);
    int found = reading == NULL ? -1 : read_head(reading, data, size, &request);
    if (found > 0)
        return Py_BuildValue("(NNn)", request.line, request.fields, request.size);
    return found < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef lane_methods[] = {
    {"read", (PyCFunction)lane_read, METH_VARARGS, "Line, fields and size of the head that data begins with, None if it is for the reader in Python."},
    {"wait", (PyCFunction)lane_wait, METH_O, "Wait for events, at most so many seconds (None: for ever)."},
    {"serve", (PyCFunction)lane_serve, METH_NOARGS, "Do what the events ask for."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot lane_slots[] = {
    {Py_tp_doc, "The ready connections of a driver; forkserve.serving.engine.lane.Lane says what it does."},
    {Py_tp_init, lane_init}, {Py_tp_traverse, lane_traverse}, {Py_tp_clear, lane_clear},
    {Py_tp_dealloc, lane_dealloc}, {Py_tp_methods, lane_methods}, {0, NULL}};

PyType_Spec lane_spec = {"forkserve.serving.native._hot.Lane", sizeof(Lane), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                         lane_slots};
