/* The common WSGI exchange: an exact shortcut of forkserve.wsgi.WsgiExchange.
 *
 * `begin` is __init__ with its environ (environ.c), `start_response` takes a status and headers that are remembered, `run`
 * sends an answer of one piece of bytes on a connection that is kept. Everything else is left to the Python methods of the
 * same exchange.
 */
#include "answer.h"
#include "counter.h"
#include "environ.h"
#include "taken.h"

static struct {
    Py_ssize_t buffer, context, environ, prepared, stream;
} exchange_at;
static struct {
    Py_ssize_t armed, current;
} alarm_at;

/* Interned, made once. */
static PyObject *CALLER, *START_RESPONSE, *WRITE;
static const struct word spelling[] = {
    {&CALLER, "caller"}, {&START_RESPONSE, "start_response"}, {&WRITE, "write"}, {NULL, NULL}};

/* How the exchanges of one serving are begun and run. */
typedef struct {
    PyObject_HEAD
    PyObject *type, *app, *serving, *responder, *known, *forwarding, *alarm, *log, *counter;
    Py_ssize_t keep;           /* of its context */
    int begins, starts, noted; /* whether the class has WsgiExchange's own __init__ and start_response; whether it is logged */
} Caller;

/* What the application gets as start_response. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *exchange, *known;
} StartResponse;

static PyTypeObject *start_response_type;

/* Take a status and headers that are cached: 1, 0 if Python has to handle them, -1 on error. */
static int
take_start(PyObject *exchange, PyObject *known, PyObject *status, PyObject *headers)
{
    if (!PyList_CheckExact(headers) || SLOT(exchange, exchange_at.prepared) != Py_None)
        return 0;
    PyObject *prepared = remembered(known, status, headers);
    if (prepared == NULL)
        return PyErr_Occurred() ? -1 : 0;
    set_slot(exchange, exchange_at.prepared, prepared);
    Py_DECREF(prepared);
    times_taken[START]++;
    return 1;
}

static PyObject *
start_response(StartResponse *self, PyObject *const *args, size_t flags, PyObject *names)
{
    if (is_cleared(self->exchange) || is_cleared(self->known))
        return NULL;
    /* Owned until the end: reading the headers may run Python, and the collector may clear this object meanwhile. */
    PyObject *exchange = Py_NewRef(self->exchange), *known = Py_NewRef(self->known), *result = NULL;
    int verdict = names != NULL || PyVectorcall_NARGS(flags) != 2 ? 0 : take_start(exchange, known, args[0], args[1]);
    if (verdict > 0)
        result = PyObject_GetAttr(exchange, WRITE);
    else if (verdict == 0) {
        PyObject *method = PyObject_GetAttr(exchange, START_RESPONSE);
        if (method != NULL)
            result = PyObject_Vectorcall(method, args, PyVectorcall_NARGS(flags), names);
        Py_XDECREF(method);
    }
    Py_DECREF(exchange);
    Py_DECREF(known);
    return result;
}

static int
start_response_traverse(StartResponse *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->exchange);
    Py_VISIT(self->known);
    return 0;
}

static int
start_response_clear(StartResponse *self)
{
    Py_CLEAR(self->exchange);
    Py_CLEAR(self->known);
    return 0;
}

static void
start_response_dealloc(StartResponse *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    start_response_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMemberDef start_response_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(StartResponse, call), READONLY, NULL}, {NULL, 0, 0, 0, NULL}};

static PyType_Slot start_response_slots[] = {
    {Py_tp_doc, "start_response of PEP 3333, for one exchange."},
    {Py_tp_call, PyVectorcall_Call}, {Py_tp_members, start_response_members},
    {Py_tp_traverse, start_response_traverse}, {Py_tp_clear, start_response_clear},
    {Py_tp_dealloc, start_response_dealloc}, {0, NULL}};

PyType_Spec start_response_spec = {
    "forkserve.serving.native._hot.start_response", sizeof(StartResponse), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    start_response_slots};

static PyObject *
start_response_for(Caller *caller, PyObject *exchange)
{
    if (!caller->starts)
        return PyObject_GetAttr(exchange, START_RESPONSE);
    StartResponse *self = PyObject_GC_New(StartResponse, start_response_type);
    if (self == NULL)
        return NULL;
    self->call = (vectorcallfunc)start_response;
    self->exchange = Py_NewRef(exchange);
    self->known = Py_NewRef(caller->known);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* begin(conn, line, fields) -> exchange */
static PyObject *
caller_begin(Caller *caller, PyObject *const *args, Py_ssize_t count)
{
    PyObject *environ = NULL;
    if (is_cleared(caller->type))
        return NULL;
    if (caller->begins && count == 3 && Py_IS_TYPE(args[0], connection.type) && Py_IS_TYPE(args[1], line_at.type)
        && Py_IS_TYPE(args[2], fields_at.type)) {
        environ = environ_for(args[0], args[1], args[2], caller->forwarding);
        if (environ == NULL && PyErr_Occurred())
            return NULL;
    }
    if (environ == NULL) {
        PyObject *made = PyObject_Vectorcall(caller->type, args, (size_t)count, NULL);
        if (made != NULL)
            count_begin(caller->counter, made);
        return made;
    }
    PyTypeObject *type = (PyTypeObject *)caller->type;
    PyObject *exchange = type->tp_alloc(type, 0);
    if (exchange != NULL) {
        SLOT(exchange, answers.conn) = Py_NewRef(args[0]);
        SLOT(exchange, answers.line) = Py_NewRef(args[1]);
        SLOT(exchange, answers.fields) = Py_NewRef(args[2]);
        SLOT(exchange, exchange_at.prepared) = Py_NewRef(Py_None);
        SLOT(exchange, exchange_at.buffer) = Py_NewRef(Py_None);
        SLOT(exchange, exchange_at.stream) = Py_NewRef(Py_None);
        SLOT(exchange, exchange_at.environ) = Py_NewRef(environ);
        count_begin(caller->counter, exchange);
    }
    Py_DECREF(environ);
    return exchange;
}

/* The piece of bytes that a result consists of, if this is a common answer: a new reference. */
static PyObject *
usual(Caller *caller, PyObject *exchange, PyObject *result)
{
    PyObject *data;
    if (PyList_CheckExact(result) && PyList_GET_SIZE(result) == 1)
        data = PyList_GET_ITEM(result, 0);
    else if (PyTuple_CheckExact(result) && PyTuple_GET_SIZE(result) == 1)
        data = PyTuple_GET_ITEM(result, 0);
    else
        return NULL;
    int usual = SLOT(exchange, exchange_at.stream) == Py_None && SLOT(exchange, exchange_at.buffer) == Py_None
        && is_fast_path(exchange) && SLOT(caller->serving, caller->keep) == Py_True
        && is_whole(SLOT(exchange, exchange_at.prepared), data);
    return usual ? Py_NewRef(data) : NULL;
}

/* Log and count an answer, with the address that the application has left in its environ; -1 on error. */
static int
note(Caller *caller, PyObject *exchange, PyObject *prepared, Py_ssize_t size)
{
    PyObject *environ = SLOT(exchange, exchange_at.environ);
    PyObject *address = PyDict_CheckExact(environ) ? PyDict_GetItemWithError(environ, REMOTE_ADDR) : NULL;
    if (address == NULL && PyErr_Occurred())
        return -1;
    Py_XINCREF(address);
    int failed = note_answer(exchange, caller->counter, caller->log, address, prepared, size);
    Py_XDECREF(address);
    return failed;
}

static int
answer(Caller *caller, PyObject *exchange, PyObject *result)
{
    PyObject *data = usual(caller, exchange, result);
    if (data == NULL) {
        PyObject *done = PyObject_CallMethod(exchange, "answer", "(O)", result);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    PyObject *prepared = Py_NewRef(SLOT(exchange, exchange_at.prepared));
    int failed = reply_whole(exchange, prepared, caller->responder, data);
    if (failed == 0 && caller->noted)
        failed = note(caller, exchange, prepared, PyBytes_GET_SIZE(data));
    else if (failed == 0)
        count_end(caller->counter, exchange, SLOT(prepared, answers.code));
    Py_DECREF(prepared);
    Py_DECREF(data);
    return failed;
}

/* Call the application and send its answer; -1 for an exception that is no failure of the request. */
static int
run(Caller *caller, PyObject *exchange)
{
    PyObject *starter = start_response_for(caller, exchange), *result = NULL;
    if (starter != NULL) {
        PyObject *environ = Py_NewRef(SLOT(exchange, exchange_at.environ)), *args[] = {environ, starter};
        result = PyObject_Vectorcall(caller->app, args, 2, NULL);
        Py_DECREF(environ);
        Py_DECREF(starter);
    }
    int failed = result == NULL || answer(caller, exchange, result) < 0;
    if (failed) {
        PyObject *error = PyErr_GetRaisedException();
        PyObject *told = PyObject_CallMethod(exchange, "fail", "(O)", error);
        Py_DECREF(error);
        Py_XDECREF(told);
        failed = told == NULL;
    }
    Py_XDECREF(result);
    return failed ? -1 : 0;
}

/* The method that `bind` puts into the class of the exchanges. */
static PyObject *
run_method(PyObject *exchange, PyObject *Py_UNUSED(unused))
{
    PyObject *caller = PyObject_GetAttr((PyObject *)Py_TYPE(exchange), CALLER);
    if (caller == NULL)
        return NULL;
    int failed = run((Caller *)caller, exchange);
    Py_DECREF(caller);
    if (failed < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef run_definition = {"run", run_method, METH_NOARGS, "Call the application and send what it answers."};

/* start(exchange): run it in place, in a new context, watched by the alarm. */
static PyObject *
caller_start(Caller *caller, PyObject *exchange)
{
    PyObject *alarm = caller->alarm, *context, *armed, *error = NULL;
    if (is_cleared(alarm))
        return NULL;
    if (alarm == Py_None || !Py_IS_TYPE(exchange, (PyTypeObject *)caller->type))
        return PyErr_Format(PyExc_TypeError, "start() takes an exchange, where there is an alarm");
    if (SLOT(alarm, alarm_at.armed) != Py_True) {
        if ((armed = PyObject_CallMethod(alarm, "arm", NULL)) == NULL)
            return NULL;
        Py_DECREF(armed);
    }
    if ((context = PyContext_CopyCurrent()) == NULL)
        return NULL;
    set_slot(exchange, exchange_at.context, context);
    set_slot(alarm, alarm_at.current, exchange);
    if (PyContext_Enter(context) == 0) {
        if (run(caller, exchange) < 0)
            error = PyErr_GetRaisedException();
        if (PyContext_Exit(context) == 0 && error != NULL)
            PyErr_SetRaisedException(Py_NewRef(error));
    }
    set_slot(alarm, alarm_at.current, Py_None);
    Py_XDECREF(error);
    Py_DECREF(context);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static int
caller_traverse(Caller *caller, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(caller));
    Py_VISIT(caller->type);
    Py_VISIT(caller->app);
    Py_VISIT(caller->serving);
    Py_VISIT(caller->responder);
    Py_VISIT(caller->known);
    Py_VISIT(caller->forwarding);
    Py_VISIT(caller->alarm);
    Py_VISIT(caller->log);
    Py_VISIT(caller->counter);
    return 0;
}

static int
caller_clear(Caller *caller)
{
    Py_CLEAR(caller->type);
    Py_CLEAR(caller->app);
    Py_CLEAR(caller->serving);
    Py_CLEAR(caller->responder);
    Py_CLEAR(caller->known);
    Py_CLEAR(caller->forwarding);
    Py_CLEAR(caller->alarm);
    Py_CLEAR(caller->log);
    Py_CLEAR(caller->counter);
    return 0;
}

static void
caller_dealloc(Caller *caller)
{
    PyTypeObject *type = Py_TYPE(caller);
    PyObject_GC_UnTrack(caller);
    caller_clear(caller);
    type->tp_free(caller);
    Py_DECREF(type);
}

/* The layout of all classes that are read here. */
static int
learn(Caller *caller, PyObject *const kinds[3])
{
    const struct wanted of_exchange[] = {
        {"context", &exchange_at.context}, {"environ", &exchange_at.environ}, {"stream", &exchange_at.stream},
        {"prepared", &exchange_at.prepared}, {"buffer", &exchange_at.buffer}, {NULL, NULL}};
    const struct wanted of_alarm[] = {{"armed", &alarm_at.armed}, {"current", &alarm_at.current}, {NULL, NULL}};
    const struct wanted of_serving[] = {{"keep", &caller->keep}, {NULL, NULL}};
    if (find_slots(caller->type, of_exchange) < 0 || find_slots((PyObject *)Py_TYPE(caller->serving), of_serving) < 0
        || learn_answers(caller->type, kinds, caller->responder) < 0)
        return -1;
    return caller->alarm == Py_None ? 0 : find_slots((PyObject *)Py_TYPE(caller->alarm), of_alarm);
}

/* Caller(type, WsgiExchange, serving, alarm, log, counter, VARIABLES, (RequestLine, Fields, PreparedHead)): `log` is AccessLog.write if
 * it may be called in place of the method `note`, else None, like `alarm` where requests are not run on the spot, and
 * `counter` where they are not counted. */
static int
caller_fill(PyObject *self, PyObject *args)
{
    Caller *caller = (Caller *)self;
    PyObject *type, *base, *serving, *alarm, *log, *counter, *variables, *kinds[3];
    if (!PyArg_ParseTuple(args, "O!OOOOOO!(OOO):Caller", &PyType_Type, &type, &base, &serving, &alarm, &log, &counter,
                          &PyTuple_Type, &variables, &kinds[0], &kinds[1], &kinds[2])
        || learn_environs(variables) < 0)
        return -1;
    caller->type = Py_NewRef(type);
    caller->serving = Py_NewRef(serving);
    caller->alarm = Py_NewRef(alarm);
    caller->log = Py_NewRef(log);
    caller->counter = Py_NewRef(counter);
    if (take_attribute(&caller->app, serving, "app") < 0 || take_attribute(&caller->responder, serving, "responder") < 0
        || take_attribute(&caller->known, caller->responder, "known") < 0
        || take_attribute(&caller->forwarding, serving, "forwarding") < 0 || (caller->noted = is_true(serving, "logged")) < 0
        || (caller->begins = inherits(type, base, "__init__")) < 0
        || (caller->starts = inherits(type, base, "start_response")) < 0)
        return -1;
    if (!PyDict_CheckExact(caller->known)) {
        PyErr_SetString(PyExc_TypeError, "what the responder knows is no dict");
        return -1;
    }
    if (learn(caller, kinds) < 0 || PyObject_SetAttrString(type, "caller", self) < 0)
        return -1;
    return add_method(type, &run_definition);
}

static PyObject *
caller_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    return make_whole(type, args, caller_fill);
}

static PyMethodDef caller_methods[] = {
    {"begin", (PyCFunction)(void (*)(void))caller_begin, METH_FASTCALL, "Make an exchange."},
    {"start", (PyCFunction)caller_start, METH_O, "Run an exchange on the spot."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot caller_slots[] = {
    {Py_tp_doc, "How the exchanges of one serving are made and run; forkserve.wsgi.WsgiExchange says what that is."},
    {Py_tp_new, caller_new}, {Py_tp_traverse, caller_traverse}, {Py_tp_clear, caller_clear},
    {Py_tp_dealloc, caller_dealloc}, {Py_tp_methods, caller_methods}, {0, NULL}};

PyType_Spec caller_spec = {"forkserve.serving.native._hot.Caller", sizeof(Caller), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, caller_slots};

int
wsgi_ready(PyObject *module)
{
    start_response_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &start_response_spec, NULL);
    return start_response_type == NULL ? -1 : intern_words(spelling);
}
