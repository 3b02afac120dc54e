/* Objects that are never freed, so that nothing counts the references to them (PEP 683).
 *
 * A reference count is a write: in a forked process it costs a fault and a copy of the page. CPython 3.12 and 3.13 have one
 * field, and a value in it that marks an object as immortal. Later versions lay the field out in another way, and builds
 * without the interpreter's lock count differently: there nothing is done. */
#include "lasting.h"

PyObject *
make_lasting(PyObject *Py_UNUSED(module), PyObject *objects)
{
    if (!PyTuple_CheckExact(objects)) {
        PyErr_SetString(PyExc_TypeError, "expected a tuple");
        return NULL;
    }
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(objects); i++)
        Py_SET_REFCNT(PyTuple_GET_ITEM(objects, i), _Py_IMMORTAL_REFCNT);
    Py_RETURN_TRUE;
#else
    Py_RETURN_FALSE;
#endif
}
