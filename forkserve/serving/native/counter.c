/* Exact shortcuts of forkserve.serving.engine.counting.PageCounter: what a request leaves in the memory that the master
 * reads. Runs no Python, and never fails: what cannot be counted is left out. */
#include "counter.h"
#include "answer.h"

#include <stdint.h>
#include <time.h>

/* forkserve.unix.counters */
enum { BEGUN = 0, ENDED = 1, SERIES_USED = 2, BEAT = 3 };
#define BUCKETS 15
#define METHODS 10
#define PAGE 8192
#define SERIES_AT 16
#define SERIES (BUCKETS + 2)
#define SERIES_MOST ((PAGE / 8 - SERIES_AT) / SERIES)
#define STATUSES 1000

static const double bounds[BUCKETS - 1] = {0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25,
                                           0.5,   0.75, 1.0,   2.5,  5.0,   7.5, 10.0};

union cell {
    int64_t count;
    double seconds;
};

/* `page` is NULL once it was closed. `series` is the number of a method's and status's series and 1; 0 if it has none. */
typedef struct {
    PyObject_HEAD
    Py_buffer buffer;
    union cell *page;
    PyObject *turn;
    int used;
    uint8_t series[METHODS][STATUSES];
} Counter;

PyTypeObject *counter_type;

/* Other processes may have written any number here: it is unsigned, so that it wraps instead of being undefined. */
static inline void
add(union cell *word, int64_t count)
{
    __atomic_store_n(&word->count, (int64_t)((uint64_t)word->count + (uint64_t)count), __ATOMIC_RELAXED);
}

static inline void
set(union cell *word, double seconds)
{
    __atomic_store(&word->seconds, &seconds, __ATOMIC_RELAXED);
}

static int
number_of(PyObject *method)
{
    static const char *const names[METHODS] = {"", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE",
                                               "PATCH"};
    if (!PyUnicode_CheckExact(method) || PyUnicode_KIND(method) != PyUnicode_1BYTE_KIND)
        return 0;
    size_t size = (size_t)PyUnicode_GET_LENGTH(method);
    const char *text = (const char *)PyUnicode_1BYTE_DATA(method);
    for (int i = 1; i < METHODS; i++)
        if (strlen(names[i]) == size && memcmp(names[i], text, size) == 0)
            return i;
    return 0;
}

/* The words of the series of a method and status, the last one for all that find no room. */
static union cell *
series_of(Counter *counter, int method, int status)
{
    int number = counter->series[method][status];
    if (number == 0) {
        number = counter->used < SERIES_MOST ? counter->used + 1 : SERIES_MOST;
        counter->series[method][status] = (uint8_t)number;
        if (number > counter->used) {
            counter->used = number;
            union cell *key = counter->page + SERIES_AT + (number - 1) * SERIES;
            __atomic_store_n(&key->count, number == SERIES_MOST ? 0 : method * STATUSES + status, __ATOMIC_RELEASE);
            __atomic_store_n(&counter->page[SERIES_USED].count, number, __ATOMIC_RELEASE);
        }
    }
    return counter->page + SERIES_AT + (number - 1) * SERIES;
}

static double
now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static inline Counter *
open_counter(PyObject *counter)
{
    return Py_IS_TYPE(counter, counter_type) && ((Counter *)counter)->page != NULL ? (Counter *)counter : NULL;
}


static void
end(Counter *counter, PyObject *method, long status, double begun)
{
    if (status < 100 || status >= STATUSES)
        return;
    double at = now(), seconds = at > begun && begun > 0.0 ? at - begun : 0.0;
    union cell *series = series_of(counter, number_of(method), (int)status);
    int bucket = 0;
    while (bucket < BUCKETS - 1 && seconds > bounds[bucket])
        bucket++;
    add(&series[1 + bucket], 1);
    set(&series[1 + BUCKETS], series[1 + BUCKETS].seconds + seconds);
    add(&counter->page[ENDED], 1);
    set(&counter->page[BEAT], at);
}

void
count_begin(PyObject *counter, PyObject *exchange)
{
    Counter *open = open_counter(counter);
    if (open == NULL)
        return;
    add(&open->page[BEGUN], 1);
    set_slot(exchange, answers.since, open->turn);
}

void
count_end(PyObject *counter, PyObject *exchange, PyObject *code)
{
    Counter *open = open_counter(counter);
    if (open == NULL || !PyLong_CheckExact(code))
        return;
    int overflow;
    PyObject *since = SLOT(exchange, answers.since);
    end(open, SLOT(SLOT(exchange, answers.line), line_at.method), PyLong_AsLongAndOverflow(code, &overflow),
        since != NULL && PyFloat_CheckExact(since) ? PyFloat_AS_DOUBLE(since) : 0.0);
}

static PyObject *
begin_method(Counter *counter, PyObject *exchange)
{
    if (counter->page != NULL)
        add(&counter->page[BEGUN], 1);
    if (PyObject_SetAttrString(exchange, "since", counter->turn) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
end_method(Counter *counter, PyObject *args)
{
    PyObject *method;
    long status;
    double begun;
    if (!PyArg_ParseTuple(args, "Old:end", &method, &status, &begun))
        return NULL;
    if (counter->page != NULL)
        end(counter, method, status, begun);
    Py_RETURN_NONE;
}

static PyObject *
add_one_method(Counter *counter, PyObject *place)
{
    long at = PyLong_AsLong(place);
    if (at == -1 && PyErr_Occurred())
        return NULL;
    if (at < 0 || at >= SERIES_AT)
        return PyErr_Format(PyExc_ValueError, "there is no counter %ld", at);
    if (counter->page != NULL)
        add(&counter->page[at], 1);
    Py_RETURN_NONE;
}

static PyObject *
beat_method(Counter *counter, PyObject *instant)
{
    double seconds = PyFloat_AsDouble(instant);
    if (seconds == -1.0 && PyErr_Occurred())
        return NULL;
    if (counter->page != NULL)
        set(&counter->page[BEAT], seconds);
    Py_RETURN_NONE;
}

static PyObject *
reconcile_method(Counter *counter, PyObject *running)
{
    long count = PyLong_AsLong(running);
    if (count == -1 && PyErr_Occurred())
        return NULL;
    if (counter->page != NULL) {
        int64_t begun = counter->page[BEGUN].count;
        __atomic_store_n(&counter->page[ENDED].count, begun >= 0 ? begun - count : 0, __ATOMIC_RELAXED);
    }
    Py_RETURN_NONE;
}

static PyObject *
close_method(Counter *counter, PyObject *Py_UNUSED(unused))
{
    if (counter->page != NULL) {
        counter->page = NULL;
        PyBuffer_Release(&counter->buffer);
    }
    Py_RETURN_NONE;
}

/* Counter(page, turn): `page` is writable memory, whose series are nobody's yet or this process's from before an exec. */
static int
counter_fill(PyObject *self, PyObject *args)
{
    Counter *counter = (Counter *)self;
    PyObject *page, *turn;
    if (!PyArg_ParseTuple(args, "OO!:Counter", &page, &PyFloat_Type, &turn)
        || PyObject_GetBuffer(page, &counter->buffer, PyBUF_WRITABLE) < 0)
        return -1;
    if (counter->buffer.len < PAGE || (uintptr_t)counter->buffer.buf % 8 != 0) {
        PyBuffer_Release(&counter->buffer);
        PyErr_SetString(PyExc_ValueError, "this is no page of counters");
        return -1;
    }
    counter->page = counter->buffer.buf;
    counter->turn = Py_NewRef(turn);
    int64_t used = counter->page[SERIES_USED].count;
    counter->used = used < 0 ? 0 : used > SERIES_MOST ? SERIES_MOST : (int)used;
    for (int i = 0; i < counter->used; i++) {
        int64_t key = counter->page[SERIES_AT + i * SERIES].count;
        if (key > 0 && key < METHODS * STATUSES)
            counter->series[key / STATUSES][key % STATUSES] = (uint8_t)(i + 1);
    }
    return 0;
}

static PyObject *
counter_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    return make_whole(type, args, counter_fill);
}

static void
counter_dealloc(Counter *counter)
{
    PyTypeObject *type = Py_TYPE(counter);
    if (counter->page != NULL)
        PyBuffer_Release(&counter->buffer);
    Py_XDECREF(counter->turn);
    type->tp_free(counter);
    Py_DECREF(type);
}

static PyMethodDef counter_methods[] = {
    {"begin", (PyCFunction)begin_method, METH_O, "Note that the head of a request was read."},
    {"end", (PyCFunction)end_method, METH_VARARGS, "Note an answer: method, status, and the instant at which it began."},
    {"add", (PyCFunction)add_one_method, METH_O, "Count one more of a CounterField."},
    {"beat", (PyCFunction)beat_method, METH_O, "Note that the process goes on, between two turns of its loop."},
    {"reconcile", (PyCFunction)reconcile_method, METH_O, "Note how many requests run."},
    {"close", (PyCFunction)close_method, METH_NOARGS, "Count no more: the page is another process's."},
    {NULL, NULL, 0, NULL}};

static PyMemberDef counter_members[] = {
    {"turn", T_OBJECT_EX, offsetof(Counter, turn), 0, "When the present turn of the loop began, a float."},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot counter_slots[] = {
    {Py_tp_doc, "The counters of this process; forkserve.serving.engine.counting.PageCounter says what they are."},
    {Py_tp_new, counter_new}, {Py_tp_dealloc, counter_dealloc}, {Py_tp_methods, counter_methods},
    {Py_tp_members, counter_members}, {0, NULL}};

static PyType_Spec counter_spec = {"forkserve.serving.native._hot.Counter", sizeof(Counter), 0, Py_TPFLAGS_DEFAULT,
                                   counter_slots};

int
counter_ready(PyObject *module)
{
    counter_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &counter_spec, NULL);
    return counter_type == NULL ? -1 : PyModule_AddType(module, counter_type);
}
