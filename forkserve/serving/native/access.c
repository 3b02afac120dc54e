/* Access log lines that repeat within one second: an exact shortcut of forkserve.serving.engine.access.AccessLog. */
#include "slots.h"
#include "taken.h"

#include <time.h>

static PyObject *ROUSED;
static const struct word spelling[] = {{&ROUSED, "roused"}, {NULL, NULL}};

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *log, *find, *make, *lines; /* the AccessLog; find(key) and make(fields, address, second) give a stem */
    PyObject *fields, *address, *stem;   /* of the last request */
    time_t second;
} Writer;

/* Remember a stem as that of the last request; in one step, since releasing the former objects may run Python. */
static void
remember(Writer *writer, PyObject *address, PyObject *fields, PyObject *stem, time_t second)
{
    PyObject *old[] = {writer->address, writer->fields, writer->stem};
    writer->address = Py_NewRef(address);
    writer->fields = Py_NewRef(fields);
    writer->stem = Py_NewRef(stem);
    writer->second = second;
    for (int i = 0; i < 3; i++)
        Py_XDECREF(old[i]);
}

/* The lines of requests with these fields, from this address, in this second: a new reference. */
static PyObject *
stem_for(Writer *writer, PyObject *address, PyObject *fields, time_t second)
{
    if (writer->stem != NULL && writer->second == second && writer->fields == fields && writer->address == address) {
        times_taken[LOG_LINE]++;
        return Py_NewRef(writer->stem);
    }
    PyObject *number = PyLong_FromLongLong((long long)second), *stem = NULL;
    PyObject *key = number == NULL ? NULL : PyTuple_Pack(3, fields, address, number);
    if (key != NULL && (stem = PyObject_CallOneArg(writer->find, key)) == Py_None) {
        Py_DECREF(stem);
        stem = PyObject_CallFunctionObjArgs(writer->make, fields, address, number, NULL);
    }
    Py_XDECREF(key);
    Py_XDECREF(number);
    if (stem != NULL)
        remember(writer, address, fields, stem, second);
    return stem;
}

/* Append the line of a request to the pending lines; -1 on error. */
static int
add_line(Writer *writer, PyObject *stem, PyObject *key)
{
    PyObject *line = PyObject_GetItem(stem, key);
    int failed = line == NULL || PyList_Append(writer->lines, line) < 0;
    Py_XDECREF(line);
    return failed ? -1 : 0;
}

/* writer(address, line, fields, status, size) */
static PyObject *
write_line(Writer *writer, PyObject *const *args, size_t flags, PyObject *names)
{
    if (names != NULL || PyVectorcall_NARGS(flags) != 5)
        return PyErr_Format(PyExc_TypeError, "write() takes address, line, fields, status and size");
    if (is_cleared(writer->lines))
        return NULL;
    PyObject *stem = stem_for(writer, args[0], args[2], time(NULL));
    PyObject *key = stem == NULL ? NULL : PyTuple_Pack(3, args[1], args[3], args[4]);
    int failed = key == NULL || add_line(writer, stem, key) < 0;
    Py_XDECREF(stem);
    Py_XDECREF(key);
    PyObject *roused = failed ? NULL : PyObject_GetAttr(writer->log, ROUSED);
    if (roused == NULL)
        return NULL;
    Py_DECREF(roused);
    if (roused != Py_False)
        Py_RETURN_NONE;
    return PyObject_CallMethod(writer->log, "rouse", NULL);
}

static int
writer_traverse(Writer *writer, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(writer));
    Py_VISIT(writer->log);
    Py_VISIT(writer->find);
    Py_VISIT(writer->make);
    Py_VISIT(writer->lines);
    Py_VISIT(writer->fields);
    Py_VISIT(writer->address);
    Py_VISIT(writer->stem);
    return 0;
}

static int
writer_clear(Writer *writer)
{
    Py_CLEAR(writer->log);
    Py_CLEAR(writer->find);
    Py_CLEAR(writer->make);
    Py_CLEAR(writer->lines);
    Py_CLEAR(writer->fields);
    Py_CLEAR(writer->address);
    Py_CLEAR(writer->stem);
    return 0;
}

static void
writer_dealloc(Writer *writer)
{
    PyTypeObject *type = Py_TYPE(writer);
    PyObject_GC_UnTrack(writer);
    writer_clear(writer);
    type->tp_free(writer);
    Py_DECREF(type);
}

/* Writer(log, find, make, lines) */
static int
writer_fill(PyObject *self, PyObject *args)
{
    Writer *writer = (Writer *)self;
    PyObject *log, *find, *make, *lines;
    if (!PyArg_ParseTuple(args, "OOOO!:Writer", &log, &find, &make, &PyList_Type, &lines) || intern_words(spelling) < 0)
        return -1;
    writer->call = (vectorcallfunc)write_line;
    writer->log = Py_NewRef(log);
    writer->find = Py_NewRef(find);
    writer->make = Py_NewRef(make);
    writer->lines = Py_NewRef(lines);
    return 0;
}

static PyObject *
writer_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    return make_whole(type, args, writer_fill);
}

static PyMemberDef writer_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Writer, call), READONLY, NULL}, {NULL, 0, 0, 0, NULL}};

static PyType_Slot writer_slots[] = {
    {Py_tp_doc, "AccessLog.write for formats that tell of nothing that differs with each request."},
    {Py_tp_new, writer_new}, {Py_tp_call, PyVectorcall_Call}, {Py_tp_members, writer_members},
    {Py_tp_traverse, writer_traverse}, {Py_tp_clear, writer_clear}, {Py_tp_dealloc, writer_dealloc}, {0, NULL}};

PyType_Spec writer_spec = {"forkserve.serving.native._hot.Writer", sizeof(Writer), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL, writer_slots};
