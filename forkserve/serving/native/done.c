/* An awaitable that is complete: awaiting it returns None at once. */
#include "done.h"

PyObject *ended;

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

int
done_ready(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &done_spec, NULL);
    if (type == NULL)
        return -1;
    if (PyModule_AddType(module, (PyTypeObject *)type) == 0)
        Py_XSETREF(ended, ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0));
    Py_DECREF(type);
    return ended == NULL || PyErr_Occurred() ? -1 : 0;
}
