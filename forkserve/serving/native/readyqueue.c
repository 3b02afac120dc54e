/* The path of a ready connection: from epoll through recv to the start of its exchange.
 *
 * An exact shortcut of forkserve.serving.engine.dispatch.ReadyQueue and of what Http1 does for most requests. It takes the
 * bytes of a connection that waits for a request. Their head is looked up in the cache (known.c) or read (head.c), and the
 * exchange is started if the request is whole. Everything else is left to Http1, in Python.
 */
#include "connection.h"
#include "known.h"
#include "request.h"

#include <errno.h>
#include <math.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 256
#define RECEIVE 65536

/* `received` and the caches are in use while `busy`: an event that is handled within, while Python runs, is left to
 * Http1. */
typedef struct {
    PyObject_HEAD
    PyObject *http1, *connections, *handlers, *on_fault;
    int epoll, count, busy;
    struct epoll_event events[BATCH];
    struct heads heads;
    char received[RECEIVE];
} ReadyQueue;

/* What all requests of one turn have in common; owned. */
struct turn {
    PyObject *exchange, *start, *deadline;
};

/* Interned, made once. */
static PyObject *EXCHANGE, *RUN_DEADLINE, *START;
static const struct word spelling[] = {
    {&EXCHANGE, "exchange"}, {&RUN_DEADLINE, "run_deadline"}, {&START, "start"}, {NULL, NULL}};

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

/* Have Http1 begin with a request that goes on behind its head, or is followed by another. */
static int
begin(ReadyQueue *queue, PyObject *conn, const struct request *request, PyObject *rest)
{
    PyObject *done = PyObject_CallMethod(queue->http1, "begin", "OOOO", conn, request->line, request->fields, rest);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
tell(PyObject *http1, const char *method, PyObject *conn)
{
    PyObject *done = PyObject_CallMethod(http1, method, "(O)", conn);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Give Http1 what was received of a connection. */
static int
take(ReadyQueue *queue, PyObject *conn, Py_ssize_t size)
{
    PyObject *data = PyBytes_FromStringAndSize(queue->received, size), *taken = NULL;
    if (data != NULL)
        taken = PyObject_CallMethod(queue->http1, "take", "OO", conn, data);
    Py_XDECREF(data);
    Py_XDECREF(taken);
    return taken == NULL ? -1 : 0;
}

/* Read the head of what a connection received at the start of a request: as read_head. `rest` is what follows it, NULL if
 * nothing does. */
static int
understand_all(ReadyQueue *queue, PyObject *conn, Py_ssize_t size, struct request *request, PyObject **rest)
{
    PyObject *listening = Py_NewRef(SLOT(conn, connection.listening));
    queue->busy = 1;
    int found = understand(&queue->heads, listening, queue->received, size, request);
    *rest = NULL;
    if (found > 0 && (request->body || request->size < size)) {
        *rest = PyBytes_FromStringAndSize(queue->received + request->size, size - request->size);
        if (*rest == NULL) {
            Py_DECREF(request->line);
            Py_DECREF(request->fields);
            found = -1;
        }
    }
    queue->busy = 0;
    Py_DECREF(listening);
    return found;
}

/* Read from a connection that waits for a request. */
static int
receive(ReadyQueue *queue, PyObject *conn, int fd, struct turn *turn)
{
    struct connection *at = &connection;
    if (SLOT(conn, at->raw) != Py_True || queue->busy)
        return tell(queue->http1, "receive", conn);
    Py_ssize_t size = recv(fd, queue->received, RECEIVE, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (size <= 0)
        return tell(queue->http1, "ended", conn);
    if (SLOT(conn, at->reader) != Py_None)
        return take(queue, conn, size);
    struct request request;
    PyObject *rest;
    int found = understand_all(queue, conn, size, &request, &rest);
    if (found <= 0)
        return found < 0 ? -1 : take(queue, conn, size);
    int failed = rest == NULL ? start(conn, &request, turn) : begin(queue, conn, &request, rest);
    Py_XDECREF(rest);
    Py_DECREF(request.line);
    Py_DECREF(request.fields);
    return failed;
}

static int
waits_for_request(PyObject *conn)
{
    struct connection *at = &connection;
    if (!Py_IS_TYPE(conn, at->type))
        return 0;
    PyObject *phase = SLOT(conn, at->phase);
    return SLOT(conn, at->exchange) == Py_None && is_empty(SLOT(conn, at->inbox))
        && (phase == at->idle || phase == at->first_byte || phase == at->head);
}

/* Call the handler of a descriptor that belongs to no connection. */
static int
call_handler(ReadyQueue *queue, PyObject *key)
{
    PyObject *handler = Py_XNewRef(PyDict_GetItemWithError(queue->handlers, key));
    if (handler == NULL)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *done = PyObject_CallNoArgs(handler);
    Py_DECREF(handler);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
attend(ReadyQueue *queue, const struct epoll_event *event, struct turn *turn)
{
    int fd = event->data.fd, failed;
    PyObject *key = PyLong_FromLong(fd);
    if (key == NULL)
        return -1;
    PyObject *conn = Py_XNewRef(PyDict_GetItemWithError(queue->connections, key));
    if (conn == NULL)
        failed = PyErr_Occurred() ? -1 : call_handler(queue, key);
    else if (event->events == EPOLLIN && waits_for_request(conn))
        failed = receive(queue, conn, fd, turn);
    else {
        PyObject *done = PyObject_CallMethod(queue->http1, "handle", "OI", conn, (unsigned int)event->events);
        Py_XDECREF(done);
        failed = done == NULL ? -1 : 0;
    }
    Py_XDECREF(conn);
    Py_DECREF(key);
    return failed;
}

/* What all requests of this turn have in common; -1 on error. */
static int
begin_turn(ReadyQueue *queue, struct turn *turn)
{
    return (turn->exchange = PyObject_GetAttr(queue->http1, EXCHANGE)) == NULL
            || (turn->start = PyObject_GetAttr(queue->http1, START)) == NULL
            || (turn->deadline = PyObject_GetAttr(queue->http1, RUN_DEADLINE)) == NULL
        ? -1
        : 0;
}

/* An exception costs one connection: `on_fault` gets it with the descriptor. -1 if the exception has to propagate. */
static int
fault(ReadyQueue *queue, int fd)
{
    PyObject *error = PyErr_GetRaisedException();
    if (error == NULL)
        return 0;
    PyObject *done = PyObject_CallFunction(queue->on_fault, "iO", fd, error);
    Py_DECREF(error);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static PyObject *
queue_serve(ReadyQueue *queue, PyObject *Py_UNUSED(unused))
{
    if (is_cleared(queue->http1))
        return NULL;
    struct epoll_event events[BATCH];
    int count = queue->count;
    queue->count = 0;
    memcpy(events, queue->events, (size_t)count * sizeof *events);
    struct turn turn = {NULL, NULL, NULL};
    int failed = begin_turn(queue, &turn);
    for (int i = 0; i < count && !failed; i++)
        failed = attend(queue, &events[i], &turn) < 0 && fault(queue, events[i].data.fd) < 0;
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
queue_wait(ReadyQueue *queue, PyObject *timeout)
{
    double seconds = timeout == Py_None ? INFINITY : PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred())
        return NULL;
    double until = seconds > 0.0 ? now() + seconds : 0.0;
    struct epoll_event events[BATCH]; /* on the stack, since Python may run, and call this again, while they are read */
    for (;;) {
        /* As select.epoll.poll: rounded up, and retried after a signal whose handler raises nothing (PEP 475). */
        int wait = seconds > 2e6 ? -1 : seconds > 0.0 ? (int)ceil(seconds * 1000.0) : 0, count;
        if (wait == 0)
            count = epoll_wait(queue->epoll, events, BATCH, 0);
        else {
            Py_BEGIN_ALLOW_THREADS
            count = epoll_wait(queue->epoll, events, BATCH, wait);
            Py_END_ALLOW_THREADS
        }
        if (count >= 0) {
            memcpy(queue->events, events, (size_t)count * sizeof *events);
            queue->count = count;
            return PyFloat_FromDouble(now());
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
queue_traverse(ReadyQueue *queue, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(queue));
    Py_VISIT(queue->http1);
    Py_VISIT(queue->connections);
    Py_VISIT(queue->handlers);
    Py_VISIT(queue->on_fault);
    return visit_heads(&queue->heads, visit, arg);
}

static int
queue_clear(ReadyQueue *queue)
{
    Py_CLEAR(queue->http1);
    Py_CLEAR(queue->connections);
    Py_CLEAR(queue->handlers);
    Py_CLEAR(queue->on_fault);
    forget_heads(&queue->heads);
    return 0;
}

static void
queue_dealloc(ReadyQueue *queue)
{
    PyTypeObject *type = Py_TYPE(queue);
    PyObject_GC_UnTrack(queue);
    queue_clear(queue);
    type->tp_free(queue);
    Py_DECREF(type);
}

/* ReadyQueue(http1, epoll, connections, handlers, on_fault, (RequestLine, Fields)); `epoll` is a descriptor. */
static int
queue_fill(PyObject *self, PyObject *args)
{
    ReadyQueue *queue = (ReadyQueue *)self;
    PyObject *http1, *connections, *handlers, *on_fault, *line, *fields;
    if (!PyArg_ParseTuple(args, "OiO!O!O(O!O!):ReadyQueue", &http1, &queue->epoll, &PyDict_Type, &connections, &PyDict_Type,
                          &handlers, &on_fault, &PyType_Type, &line, &PyType_Type, &fields)
        || intern_words(spelling) < 0 || learn_requests(line, fields) < 0)
        return -1;
    queue->http1 = Py_NewRef(http1);
    queue->connections = Py_NewRef(connections);
    queue->handlers = Py_NewRef(handlers);
    queue->on_fault = Py_NewRef(on_fault);
    return 0;
}

static PyObject *
queue_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    return make_whole(type, args, queue_fill);
}

/* read(listening, data) -> (line, fields, size) or None: what the tests hold against the reader in Python. */
static PyObject *
queue_read(ReadyQueue *queue, PyObject *args)
{
    PyObject *listening;
    const char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Oy#:read", &listening, &data, &size))
        return NULL;
    struct request request;
    struct reading *reading = is_cleared(queue->http1) ? NULL : reading_of(&queue->heads.readings, listening);
    int found = reading == NULL ? -1 : read_head(reading, data, size, &request);
    if (found > 0)
        return Py_BuildValue("(NNn)", request.line, request.fields, request.size);
    return found < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef queue_methods[] = {
    {"read", (PyCFunction)queue_read, METH_VARARGS, "Line, fields and size of the head that data begins with, None if it is for the reader in Python."},
    {"wait", (PyCFunction)queue_wait, METH_O, "Wait for events, at most so many seconds (None: for ever); the instant after it."},
    {"serve", (PyCFunction)queue_serve, METH_NOARGS, "Do what the events ask for."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, "The ready connections of a loop; forkserve.serving.engine.dispatch.ReadyQueue says what it does."},
    {Py_tp_new, queue_new}, {Py_tp_traverse, queue_traverse}, {Py_tp_clear, queue_clear},
    {Py_tp_dealloc, queue_dealloc}, {Py_tp_methods, queue_methods}, {0, NULL}};

PyType_Spec queue_spec = {"forkserve.serving.native._hot.ReadyQueue", sizeof(ReadyQueue), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                         queue_slots};
