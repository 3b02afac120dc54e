/* An ASGI exchange without surprises: an exact shortcut of forkserve.serving.asgi.exchange.Exchange and of http_scope.
 *
 * `begin` is __init__ for a request without a body, `scope` makes its scope (scope.c), `send` takes a response of one
 * piece. Everything else is left to the methods of the same exchange in Python.
 */
#include "answer.h"
#include "scope.h"

static struct {
    Py_ssize_t address, news, prepared, stage, trailers; /* `address` of LoggedExchange alone */
} exchange_at;

/* Interned, made once. */
static struct {
    PyObject *type, *status, *headers, *body, *more_body, *trailers;
    PyObject *start, *response_body, *sender;
} words;

static const struct word spelling[] = {
    {&words.type, "type"}, {&words.status, "status"}, {&words.headers, "headers"}, {&words.body, "body"},
    {&words.more_body, "more_body"}, {&words.trailers, "trailers"}, {&words.start, "http.response.start"},
    {&words.response_body, "http.response.body"}, {&words.sender, "sender"}, {NULL, NULL}};

/* How the exchanges of one serving are begun, and what their `send` needs. */
typedef struct {
    PyObject_HEAD
    PyObject *type, *pattern, *site, *responder, *known, *send, *scope, *log;
    PyObject *stage_start, *stage_body, *stage_over;
    int begins, starts, noted; /* whether the class has Exchange's own __init__ and _prepared; whether it notes */
} Sender;

/* What awaiting gives when there is nothing to wait for. */
static PyObject *done;

static PyObject *
itself(PyObject *self)
{
    return Py_NewRef(self);
}

static PyObject *
done_next(PyObject *Py_UNUSED(self))
{
    return NULL; /* StopIteration with None */
}

static PyObject *
done_send(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(value))
{
    PyErr_SetNone(PyExc_StopIteration);
    return NULL;
}

static PyObject *
done_throw(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *type, *value = NULL, *trace = NULL;
    if (!PyArg_ParseTuple(args, "O|OO:throw", &type, &value, &trace))
        return NULL;
    if (PyExceptionInstance_Check(type))
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    else
        PyErr_SetObject(type, value == NULL ? Py_None : value);
    return NULL;
}

static PyObject *
done_close(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused))
{
    Py_RETURN_NONE;
}

static PyMethodDef done_methods[] = {
    {"send", done_send, METH_O, "Raise StopIteration: it has ended."},
    {"throw", done_throw, METH_VARARGS, "Raise what is thrown."},
    {"close", done_close, METH_NOARGS, "Do nothing."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot done_slots[] = {
    {Py_tp_doc, "A coroutine that has done what it was to do; there is one, for it has no state."},
    {Py_am_await, itself}, {Py_tp_iter, itself}, {Py_tp_iternext, done_next}, {Py_tp_methods, done_methods}, {0, NULL}};

static PyType_Spec done_spec = {"forkserve.serving.native._hot.Done", sizeof(PyObject), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, done_slots};

/* `http.response.start`: 1 if taken, 0 if it is for the way in Python, -1 on error. */
static int
take_start(Sender *sender, PyObject *exchange, PyObject *message)
{
    PyObject *status = PyDict_GetItemWithError(message, words.status);
    PyObject *headers = status == NULL ? NULL : PyDict_GetItemWithError(message, words.headers);
    if (headers == NULL || !sender->starts || !PyList_CheckExact(headers) || SLOT(exchange, exchange_at.stage) != sender->stage_start
        || PyDict_Contains(message, words.trailers))
        return PyErr_Occurred() ? -1 : 0;
    PyObject *prepared = remembered(sender->known, status, headers);
    if (prepared == NULL)
        return PyErr_Occurred() ? -1 : 0;
    set_slot(exchange, exchange_at.prepared, prepared);
    set_slot(exchange, exchange_at.stage, sender->stage_body);
    return 1;
}

/* `http.response.body` that is the whole body: as above. */
static int
take_body(Sender *sender, PyObject *exchange, PyObject *message)
{
    PyObject *data = PyDict_GetItemWithError(message, words.body);
    PyObject *more = data == NULL ? NULL : PyDict_GetItemWithError(message, words.more_body);
    PyObject *prepared = SLOT(exchange, exchange_at.prepared);
    if (data == NULL || (more != NULL && more != Py_False) || SLOT(exchange, exchange_at.stage) != sender->stage_body
        || SLOT(exchange, exchange_at.trailers) != Py_False || SLOT(exchange, exchange_at.news) != Py_None
        || !is_plain(exchange, sender->site) || !is_whole(prepared, data))
        return PyErr_Occurred() ? -1 : 0;
    set_slot(exchange, exchange_at.stage, sender->stage_over);
    if (reply_whole(exchange, prepared, sender->responder, data) == 0) {
        if (!sender->noted)
            return 1;
        PyObject *address = sender->log == Py_None ? NULL : SLOT(exchange, exchange_at.address);
        return note_answer(exchange, sender->log, address, prepared, PyBytes_GET_SIZE(data)) < 0 ? -1 : 1;
    }
    if (PyErr_ExceptionMatches(PyExc_OSError)) {
        PyObject *error = PyErr_GetRaisedException();
        PyObject *told = PyObject_CallMethod(exchange, "lose", NULL);
        if (told == NULL)
            Py_DECREF(error);
        else
            PyErr_SetRaisedException(error);
        Py_XDECREF(told);
    }
    return -1;
}

static PyObject *
send_method(PyObject *exchange, PyObject *message)
{
    Sender *sender = (Sender *)PyObject_GetAttr((PyObject *)Py_TYPE(exchange), words.sender);
    if (sender == NULL)
        return NULL;
    int taken = 0;
    if (PyDict_CheckExact(message)) {
        PyObject *type = PyDict_GetItemWithError(message, words.type);
        if (type != NULL && PyUnicode_CheckExact(type)) {
            if (PyUnicode_Compare(type, words.start) == 0)
                taken = take_start(sender, exchange, message);
            else if (PyUnicode_Compare(type, words.response_body) == 0)
                taken = take_body(sender, exchange, message);
        }
    }
    PyObject *result = NULL;
    if (taken > 0)
        result = Py_NewRef(done);
    else if (taken == 0 && !PyErr_Occurred())
        result = PyObject_CallFunctionObjArgs(sender->send, exchange, message, NULL);
    Py_DECREF(sender);
    return result;
}

static PyMethodDef send_definition = {
    "send", send_method, METH_O,
    "Send a part of the response; raises OSError when the client has gone, RuntimeError or BadResponse for what is wrong."};

/* scope(conn, line, fields, state) -> dict */
static PyObject *
sender_scope(Sender *sender, PyObject *const *args, Py_ssize_t count)
{
    PyObject *scope = NULL;
    if (count == 4 && Py_IS_TYPE(args[0], connection.type)) {
        scope = scope_for(args[0], args[1], args[2], args[3]);
        if (scope == NULL && PyErr_Occurred())
            return NULL;
    }
    return scope == NULL ? PyObject_Vectorcall(sender->scope, args, (size_t)count, NULL) : scope;
}

/* begin(conn, line, fields) -> exchange */
static PyObject *
sender_begin(Sender *sender, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !sender->begins || SLOT(args[2], fields_at.plain) != Py_True)
        return PyObject_Vectorcall(sender->type, args, (size_t)count, NULL);
    PyTypeObject *type = (PyTypeObject *)sender->type;
    PyObject *exchange = type->tp_alloc(type, 0);
    if (exchange == NULL)
        return NULL;
    /* Behind its head an object of a class with slots alone is an array of references. */
    for (Py_ssize_t at = sizeof(PyObject); at < type->tp_basicsize; at += sizeof(PyObject *))
        SLOT(exchange, at) = Py_XNewRef(SLOT(sender->pattern, at));
    set_slot(exchange, answers.conn, args[0]);
    set_slot(exchange, answers.line, args[1]);
    set_slot(exchange, answers.fields, args[2]);
    return exchange;
}

static int
sender_traverse(Sender *sender, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(sender));
    Py_VISIT(sender->type);
    Py_VISIT(sender->pattern);
    Py_VISIT(sender->site);
    Py_VISIT(sender->responder);
    Py_VISIT(sender->known);
    Py_VISIT(sender->send);
    Py_VISIT(sender->scope);
    Py_VISIT(sender->log);
    Py_VISIT(sender->stage_start);
    Py_VISIT(sender->stage_body);
    Py_VISIT(sender->stage_over);
    return 0;
}

static int
sender_clear(Sender *sender)
{
    Py_CLEAR(sender->type);
    Py_CLEAR(sender->pattern);
    Py_CLEAR(sender->site);
    Py_CLEAR(sender->responder);
    Py_CLEAR(sender->known);
    Py_CLEAR(sender->send);
    Py_CLEAR(sender->scope);
    Py_CLEAR(sender->log);
    Py_CLEAR(sender->stage_start);
    Py_CLEAR(sender->stage_body);
    Py_CLEAR(sender->stage_over);
    return 0;
}

static void
sender_dealloc(Sender *sender)
{
    PyTypeObject *type = Py_TYPE(sender);
    PyObject_GC_UnTrack(sender);
    sender_clear(sender);
    type->tp_free(sender);
    Py_DECREF(type);
}

static int
learn_stages(Sender *sender, PyObject *stages)
{
    sender->stage_start = PyObject_GetAttrString(stages, "START");
    sender->stage_body = PyObject_GetAttrString(stages, "BODY");
    sender->stage_over = PyObject_GetAttrString(stages, "OVER");
    return sender->stage_start == NULL || sender->stage_body == NULL || sender->stage_over == NULL ? -1 : 0;
}

/* Sender(exchange, Exchange, site, log, Stage, (http_scope, ScopeTemplate, MODERN, FORWARDED, correct),
 * (RequestLine, Fields, Prepared)): the first is a new one, the pattern; `log` is AccessLog.write if it may be called in
 * place of the method `note`, else None. */
static int
sender_init(Sender *sender, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *pattern, *base, *site, *log, *stages, *scope, *scopes[4], *kinds[3];
    if (!PyArg_ParseTuple(args, "OOOOO(OOOOO)(OOO):Sender", &pattern, &base, &site, &log, &stages, &scope, &scopes[0],
                          &scopes[1], &scopes[2], &scopes[3], &kinds[0], &kinds[1], &kinds[2])
        || learn_scopes(scopes) < 0)
        return -1;
    const struct wanted of_exchange[] = {
        {"news", &exchange_at.news}, {"prepared", &exchange_at.prepared}, {"stage", &exchange_at.stage},
        {"trailers", &exchange_at.trailers}, {log == Py_None ? NULL : "address", &exchange_at.address}, {NULL, NULL}};
    sender_clear(sender);
    sender->pattern = Py_NewRef(pattern);
    sender->type = Py_NewRef(Py_TYPE(pattern));
    sender->site = Py_NewRef(site);
    sender->scope = Py_NewRef(scope);
    sender->log = Py_NewRef(log);
    sender->send = PyObject_GetAttrString(sender->type, "send");
    sender->responder = PyObject_GetAttrString(site, "responder");
    if (sender->send == NULL || sender->responder == NULL || learn_stages(sender, stages) < 0)
        return -1;
    sender->begins = inherits(sender->type, base, "__init__");
    sender->starts = inherits(sender->type, base, "_prepared");
    PyObject *noted = PyObject_GetAttrString(site, "noted");
    Py_XDECREF(noted);
    sender->noted = noted == Py_True;
    sender->known = PyObject_GetAttrString(sender->responder, "known");
    if (sender->known == NULL || noted == NULL || find_slots(sender->type, of_exchange) < 0
        || learn_answers(sender->type, kinds, site, sender->responder) < 0
        || PyObject_SetAttrString(sender->type, "sender", (PyObject *)sender) < 0)
        return -1;
    return add_method(sender->type, &send_definition);
}

static PyMethodDef sender_methods[] = {
    {"begin", (PyCFunction)(void (*)(void))sender_begin, METH_FASTCALL, "Make an exchange."},
    {"scope", (PyCFunction)(void (*)(void))sender_scope, METH_FASTCALL, "Make a scope."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot sender_slots[] = {
    {Py_tp_doc, "How the exchanges of one serving are made and answered; forkserve.serving.asgi.exchange says what that is."},
    {Py_tp_init, sender_init}, {Py_tp_traverse, sender_traverse}, {Py_tp_clear, sender_clear},
    {Py_tp_dealloc, sender_dealloc}, {Py_tp_methods, sender_methods}, {0, NULL}};

PyType_Spec sender_spec = {"forkserve.serving.native._hot.Sender", sizeof(Sender), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, sender_slots};

int
asgi_ready(PyObject *module)
{
    if (intern_words(spelling) < 0)
        return -1;
    PyObject *type = PyType_FromModuleAndSpec(module, &done_spec, NULL);
    if (type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0)
        return -1;
    done = ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
    Py_DECREF(type);
    return done == NULL ? -1 : scope_ready();
}
