/* The common ASGI exchange: an exact shortcut of forkserve.serving.asgi.exchange.AsgiExchange and of http_scope.
 *
 * `begin` is __init__ for a request without a body, `scope` makes its scope (scope.c), `send` takes a response of one
 * piece. Everything else is left to the Python methods of the same exchange.
 */
#include "answer.h"
#include "counter.h"
#include "done.h"
#include "scope.h"
#include "taken.h"

static struct {
    Py_ssize_t address, news, prepared, stage, task, trailers; /* `address` is set where there is a log */
} exchange_at;

/* Interned, made once. */
static struct {
    PyObject *type, *status, *headers, *body, *more_body;
    PyObject *start, *response_body, *sender, *head_given;
} words;

static const struct word spelling[] = {
    {&words.type, "type"}, {&words.status, "status"}, {&words.headers, "headers"}, {&words.body, "body"},
    {&words.more_body, "more_body"}, {&words.start, "http.response.start"},
    {&words.response_body, "http.response.body"}, {&words.sender, "sender"}, {&words.head_given, "head_given"}, {NULL, NULL}};

/* How the exchanges of one serving are begun, and what their `send` needs. */
typedef struct {
    PyObject_HEAD
    PyObject *type, *pattern, *serving, *responder, *known, *send, *scope, *log, *counter;
    PyObject *stage_start, *stage_body, *stage_over;
    Py_ssize_t keep;           /* of its context */
    int begins, starts, noted; /* whether the class has AsgiExchange's own __init__ and _prepared; whether it is logged */
} Sender;

/* The values of a message that are read; owned, NULL if absent. */
struct message {
    PyObject *type, *status, *headers, *body, *more_body;
};

/* Read a message: 1, or 0 if it has other keys, or keys that are not interned, as literals of a program are. Comparing by
 * address runs no Python. */
static int
take_apart(PyObject *dict, struct message *message)
{
    Py_ssize_t at = 0;
    PyObject *key, *value;
    *message = (struct message){NULL};
    while (PyDict_Next(dict, &at, &key, &value)) {
        PyObject **part = key == words.type ? &message->type
            : key == words.status ? &message->status
            : key == words.headers ? &message->headers
            : key == words.body ? &message->body
            : key == words.more_body ? &message->more_body
            : NULL;
        if (part == NULL)
            return 0;
        *part = value;
    }
    Py_XINCREF(message->type);
    Py_XINCREF(message->status);
    Py_XINCREF(message->headers);
    Py_XINCREF(message->body);
    Py_XINCREF(message->more_body);
    return 1;
}

static void
let_go(struct message *message)
{
    Py_XDECREF(message->type);
    Py_XDECREF(message->status);
    Py_XDECREF(message->headers);
    Py_XDECREF(message->body);
    Py_XDECREF(message->more_body);
}

/* Whether an object is a string with the text of a word, which is ASCII. */
static int
is_word(PyObject *text, PyObject *word)
{
    return text == word
        || (text != NULL && PyUnicode_CheckExact(text) && PyUnicode_IS_COMPACT_ASCII(text)
            && PyUnicode_GET_LENGTH(text) == PyUnicode_GET_LENGTH(word)
            && memcmp(PyUnicode_DATA(text), PyUnicode_DATA(word), (size_t)PyUnicode_GET_LENGTH(word)) == 0);
}

/* `http.response.start`: 1 if handled, 0 if Python has to handle it, -1 on error. */
static int
take_start(Sender *sender, PyObject *exchange, const struct message *message)
{
    if (!sender->starts || SLOT(exchange, exchange_at.stage) != sender->stage_start || message->status == NULL
        || message->headers == NULL || !PyList_CheckExact(message->headers))
        return 0;
    PyObject *prepared = remembered(sender->known, message->status, message->headers);
    if (prepared == NULL)
        return PyErr_Occurred() ? -1 : 0;
    /* The collector may have run meanwhile. */
    int expected = SLOT(exchange, exchange_at.stage) == sender->stage_start;
    if (expected) {
        set_slot(exchange, exchange_at.prepared, prepared);
        set_slot(exchange, exchange_at.stage, sender->stage_body);
        times_taken[START]++;
        if (SLOT(exchange, exchange_at.task) != Py_None) {
            /* The task has waited before, so it may wait again before the body. */
            PyObject *told = PyObject_CallMethodNoArgs(exchange, words.head_given);
            expected = told == NULL ? -1 : 1;
            Py_XDECREF(told);
        }
    }
    Py_DECREF(prepared);
    return expected;
}

/* Whether the data are the whole body of a common response. */
static int
is_usual(Sender *sender, PyObject *exchange, PyObject *data)
{
    return SLOT(exchange, exchange_at.stage) == sender->stage_body && SLOT(exchange, exchange_at.trailers) == Py_False
        && SLOT(exchange, exchange_at.news) == Py_None && is_fast_path(exchange)
        && SLOT(sender->serving, sender->keep) == Py_True && is_whole(SLOT(exchange, exchange_at.prepared), data);
}

/* Mark the client of the exchange as gone if the error is ConnectionLost; the error stays set. */
static void
lose(PyObject *exchange)
{
    if (!PyErr_ExceptionMatches(PyExc_OSError))
        return;
    PyObject *error = PyErr_GetRaisedException();
    PyObject *told = PyObject_CallMethod(exchange, "lose", NULL);
    if (told == NULL)
        Py_DECREF(error);
    else
        PyErr_SetRaisedException(error);
    Py_XDECREF(told);
}

/* Send the whole body, log and count it: -1 on error. */
static int
send_whole(Sender *sender, PyObject *exchange, PyObject *data)
{
    PyObject *prepared = Py_NewRef(SLOT(exchange, exchange_at.prepared));
    set_slot(exchange, exchange_at.stage, sender->stage_over);
    int failed = reply_whole(exchange, prepared, sender->responder, data);
    if (failed < 0)
        lose(exchange);
    else if (sender->noted) {
        PyObject *address = sender->log == Py_None ? NULL : Py_XNewRef(SLOT(exchange, exchange_at.address));
        failed = note_answer(exchange, sender->counter, sender->log, address, prepared, PyBytes_GET_SIZE(data));
        Py_XDECREF(address);
    }
    else
        count_end(sender->counter, exchange, SLOT(prepared, answers.code));
    Py_DECREF(prepared);
    return failed;
}

/* `http.response.body` that is the whole body: as above. */
static int
take_body(Sender *sender, PyObject *exchange, const struct message *message)
{
    PyObject *data = message->body, *more = message->more_body;
    if (data == NULL || (more != NULL && more != Py_False) || !is_usual(sender, exchange, data))
        return 0;
    return send_whole(sender, exchange, data) < 0 ? -1 : 1;
}

/* A message: as above. */
static int
take_message(Sender *sender, PyObject *exchange, PyObject *dict)
{
    struct message message;
    if (!PyDict_CheckExact(dict) || !take_apart(dict, &message))
        return 0;
    int verdict = 0;
    if (is_word(message.type, words.start))
        verdict = take_start(sender, exchange, &message);
    else if (is_word(message.type, words.response_body))
        verdict = take_body(sender, exchange, &message);
    let_go(&message);
    return verdict;
}

static PyObject *
send_method(PyObject *exchange, PyObject *message)
{
    Sender *sender = (Sender *)PyObject_GetAttr((PyObject *)Py_TYPE(exchange), words.sender);
    if (sender == NULL)
        return NULL;
    PyObject *result = NULL;
    if (!is_cleared(sender->send)) {
        int verdict = take_message(sender, exchange, message);
        if (verdict > 0)
            result = Py_NewRef(ended);
        else if (verdict == 0)
            result = PyObject_CallFunctionObjArgs(sender->send, exchange, message, NULL);
    }
    Py_DECREF(sender);
    return result;
}

static PyMethodDef send_definition = {
    "send", send_method, METH_O,
    "Send a part of the response; raises OSError when the client has gone, RuntimeError or BadResponse for what is wrong."};

/* Whether arguments begin with a connection, a request line and its fields. */
static int
is_request(PyObject *const *args)
{
    return Py_IS_TYPE(args[0], connection.type) && Py_IS_TYPE(args[1], line_at.type) && Py_IS_TYPE(args[2], fields_at.type);
}

/* scope(conn, line, fields, state) -> dict */
static PyObject *
sender_scope(Sender *sender, PyObject *const *args, Py_ssize_t count)
{
    if (is_cleared(sender->scope))
        return NULL;
    PyObject *scope = NULL;
    if (count == 4 && is_request(args)) {
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
    if (is_cleared(sender->type))
        return NULL;
    if (count != 3 || !sender->begins || !is_request(args) || SLOT(args[2], fields_at.is_fast_path) != Py_True) {
        PyObject *made = PyObject_Vectorcall(sender->type, args, (size_t)count, NULL);
        if (made != NULL)
            count_begin(sender->counter, made);
        return made;
    }
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
    count_begin(sender->counter, exchange);
    return exchange;
}

static int
sender_traverse(Sender *sender, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(sender));
    Py_VISIT(sender->type);
    Py_VISIT(sender->pattern);
    Py_VISIT(sender->serving);
    Py_VISIT(sender->responder);
    Py_VISIT(sender->known);
    Py_VISIT(sender->send);
    Py_VISIT(sender->scope);
    Py_VISIT(sender->log);
    Py_VISIT(sender->counter);
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
    Py_CLEAR(sender->serving);
    Py_CLEAR(sender->responder);
    Py_CLEAR(sender->known);
    Py_CLEAR(sender->send);
    Py_CLEAR(sender->scope);
    Py_CLEAR(sender->log);
    Py_CLEAR(sender->counter);
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
    return take_attribute(&sender->stage_start, stages, "START") < 0
            || take_attribute(&sender->stage_body, stages, "BODY") < 0
            || take_attribute(&sender->stage_over, stages, "OVER") < 0
        ? -1
        : 0;
}

/* The layout of all classes that are read here; an exchange's address is set only where there is a log. */
static int
learn(Sender *sender, PyObject *const kinds[3])
{
    const struct wanted of_exchange[] = {
        {"news", &exchange_at.news}, {"prepared", &exchange_at.prepared}, {"stage", &exchange_at.stage},
        {"task", &exchange_at.task}, {"trailers", &exchange_at.trailers},
        {sender->log == Py_None ? NULL : "address", &exchange_at.address}, {NULL, NULL}};
    const struct wanted of_serving[] = {{"keep", &sender->keep}, {NULL, NULL}};
    return find_slots(sender->type, of_exchange) < 0 || find_slots((PyObject *)Py_TYPE(sender->serving), of_serving) < 0
            || learn_answers(sender->type, kinds, sender->responder) < 0
        ? -1
        : 0;
}

/* Sender(exchange, AsgiExchange, serving, log, counter, ResponseStage, (http_scope, ScopeTemplate, MODERN, FORWARDED, correct),
 * (RequestLine, Fields, PreparedHead)): the first is a new one, the pattern; `log` is AccessLog.write if it may be called in
 * place of the method `note`, else None; so is `counter` where requests are not counted. */
static int
sender_fill(PyObject *self, PyObject *args)
{
    Sender *sender = (Sender *)self;
    PyObject *pattern, *base, *serving, *log, *counter, *stages, *scope, *scopes[4], *kinds[3];
    if (!PyArg_ParseTuple(args, "OOOOOO(OOOOO)(OOO):Sender", &pattern, &base, &serving, &log, &counter, &stages, &scope, &scopes[0],
                          &scopes[1], &scopes[2], &scopes[3], &kinds[0], &kinds[1], &kinds[2])
        || learn_scopes(scopes) < 0)
        return -1;
    sender->pattern = Py_NewRef(pattern);
    sender->type = Py_NewRef(Py_TYPE(pattern));
    sender->serving = Py_NewRef(serving);
    sender->scope = Py_NewRef(scope);
    sender->log = Py_NewRef(log);
    sender->counter = Py_NewRef(counter);
    if (take_attribute(&sender->send, sender->type, "send") < 0
        || take_attribute(&sender->responder, serving, "responder") < 0
        || take_attribute(&sender->known, sender->responder, "known") < 0 || learn_stages(sender, stages) < 0
        || (sender->begins = inherits(sender->type, base, "__init__")) < 0
        || (sender->starts = inherits(sender->type, base, "_prepared")) < 0
        || (sender->noted = is_true(serving, "logged")) < 0)
        return -1;
    if (Py_TYPE(pattern)->tp_weaklistoffset != 0) {
        PyErr_SetString(PyExc_TypeError, "the class of exchanges has more than slots");
        return -1;
    }
    if (!PyDict_CheckExact(sender->known)) {
        PyErr_SetString(PyExc_TypeError, "what the responder knows is no dict");
        return -1;
    }
    if (learn(sender, kinds) < 0 || PyObject_SetAttrString(sender->type, "sender", self) < 0)
        return -1;
    return add_method(sender->type, &send_definition);
}

static PyObject *
sender_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    return make_whole(type, args, sender_fill);
}

static PyMethodDef sender_methods[] = {
    {"begin", (PyCFunction)(void (*)(void))sender_begin, METH_FASTCALL, "Make an exchange."},
    {"scope", (PyCFunction)(void (*)(void))sender_scope, METH_FASTCALL, "Make a scope."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot sender_slots[] = {
    {Py_tp_doc, "How the exchanges of one serving are made and answered; forkserve.serving.asgi.exchange says what that is."},
    {Py_tp_new, sender_new}, {Py_tp_traverse, sender_traverse}, {Py_tp_clear, sender_clear},
    {Py_tp_dealloc, sender_dealloc}, {Py_tp_methods, sender_methods}, {0, NULL}};

PyType_Spec sender_spec = {"forkserve.serving.native._hot.Sender", sizeof(Sender), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, sender_slots};

int
asgi_ready(PyObject *module)
{
    if (intern_words(spelling) < 0)
        return -1;
    return done_ready(module) < 0 ? -1 : scope_ready();
}
