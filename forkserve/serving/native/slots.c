#include "slots.h"

int
find_slots(PyObject *type, const struct wanted *wanted)
{
    for (; wanted->name != NULL; wanted++) {
        PyObject *found = PyObject_GetAttrString(type, wanted->name);
        if (found == NULL)
            return -1;
        PyMemberDef *member = NULL;
        if (Py_IS_TYPE(found, &PyMemberDescr_Type))
            member = ((PyMemberDescrObject *)found)->d_member;
        Py_DECREF(found);
        if (member == NULL || member->type != T_OBJECT_EX) {
            PyErr_Format(PyExc_TypeError, "%R has no slot %s", type, wanted->name);
            return -1;
        }
        *wanted->offset = member->offset;
    }
    return 0;
}

int
add_method(PyObject *type, PyMethodDef *method)
{
    PyObject *descriptor = PyDescr_NewMethod((PyTypeObject *)type, method);
    if (descriptor == NULL)
        return -1;
    int failed = PyObject_SetAttrString(type, method->ml_name, descriptor);
    Py_DECREF(descriptor);
    return failed;
}

int
take_attribute(PyObject **place, PyObject *object, const char *name)
{
    PyObject *value = PyObject_GetAttrString(object, name);
    if (value == NULL)
        return -1;
    Py_XSETREF(*place, value);
    return 0;
}

int
is_true(PyObject *object, const char *name)
{
    PyObject *value = PyObject_GetAttrString(object, name);
    Py_XDECREF(value);
    return value == NULL ? -1 : value == Py_True;
}

int
inherits(PyObject *type, PyObject *base, const char *name)
{
    PyObject *own = PyObject_GetAttrString(type, name);
    PyObject *inherited = own == NULL ? NULL : PyObject_GetAttrString(base, name);
    int same = inherited == NULL ? -1 : own == inherited;
    Py_XDECREF(own);
    Py_XDECREF(inherited);
    return same;
}

int
intern_words(const struct word *words)
{
    for (; words->text != NULL; words++)
        if (*words->word == NULL && (*words->word = PyUnicode_InternFromString(words->text)) == NULL)
            return -1;
    return 0;
}
