/* Reading and writing the slots of Python classes from C.
 *
 * A class with __slots__ keeps each value at a fixed offset, which its member descriptor tells (descriptor protocol,
 * descrobject.h). So the classes stay Python's, and C needs no types for them. Owned references throughout.
 */
#ifndef FORKSERVE_SLOTS_H
#define FORKSERVE_SLOTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#ifdef Py_GIL_DISABLED
#error "slots are read without locks: only for builds with a global interpreter lock"
#endif

#define SLOT(object, offset) (*(PyObject **)((char *)(object) + (offset)))

/* One slot to be found: its name and where the offset goes. */
struct wanted {
    const char *name;
    Py_ssize_t *offset;
};

/* Find all slots up to the one without a name; -1 with TypeError if the class lacks one. */
int find_slots(PyObject *type, const struct wanted *wanted);

static inline void
set_slot(PyObject *object, Py_ssize_t offset, PyObject *value)
{
    Py_XSETREF(SLOT(object, offset), Py_NewRef(value));
}

/* 1 with RuntimeError where the collector has cleared an object that somebody still calls. */
static inline int
is_cleared(PyObject *part)
{
    if (part == NULL)
        PyErr_SetString(PyExc_RuntimeError, "this object was cleared by the garbage collector");
    return part == NULL;
}

/* Make an object of a type by its own function, so that none exists that is not whole; NULL on error. */
static inline PyObject *
make_whole(PyTypeObject *type, PyObject *args, int (*fill)(PyObject *object, PyObject *args))
{
    PyObject *object = type->tp_alloc(type, 0);
    if (object != NULL && fill(object, args) < 0)
        Py_CLEAR(object);
    return object;
}

/* Put an attribute of an object in place of another; -1 on error. */
int take_attribute(PyObject **place, PyObject *object, const char *name);

/* Whether an attribute of an object is True; -1 on error. */
int is_true(PyObject *object, const char *name);

/* Add a C function to a class as a method of it; -1 on error. */
int add_method(PyObject *type, PyMethodDef *method);

/* Whether a class has this method from another, unchanged; -1 if one of them lacks it. */
int inherits(PyObject *type, PyObject *base, const char *name);

/* A name that is asked for again and again: where it goes, interned, made once. */
struct word {
    PyObject **word;
    const char *text;
};

/* Make all words up to the one without a text; -1 on error. */
int intern_words(const struct word *words);

/* 1 for a bytes object that is empty, 0 for everything else. */
static inline int
is_empty(PyObject *data)
{
    return data != NULL && PyBytes_CheckExact(data) && PyBytes_GET_SIZE(data) == 0;
}

#if PY_VERSION_HEX < 0x030C0000
static inline PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace != NULL)
        PyException_SetTraceback(value, trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return value;
}

static inline void
PyErr_SetRaisedException(PyObject *error)
{
    PyErr_Restore(Py_NewRef(Py_TYPE(error)), error, PyException_GetTraceback(error));
}
#endif

#endif
