/* The module: what of it Python sees. */
#include "connection.h"
#include "counter.h"
#include "head.h"
#include "lasting.h"
#include "line.h"
#include "orphan.h"
#include "taken.h"

extern PyType_Spec queue_spec, caller_spec, sender_spec, writer_spec;
int wsgi_ready(PyObject *module), asgi_ready(PyObject *module);

static int
add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int failed = type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyMethodDef functions[] = {
    {"adopt", adopt, METH_VARARGS, "Learn the layout of the class of connections, and give it the method `reply`."},
    {"fork_orphan", fork_orphan, METH_NOARGS, "Fork a process that the nearest child subreaper inherits."},
    {"make_lasting", make_lasting, METH_O, "Let objects live as long as the process, uncounted; True if possible."},
    {"taken", how_often, METH_NOARGS, "How often each shortcut was taken since the module was loaded, by name."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "forkserve.serving.native._hot",
                                        .m_doc = "The hot path in C; see forkserve.serving.native.", .m_size = -1,
                                        .m_methods = functions};

/* What C and Python expect of each other; forkserve.serving.native has the same number. */
#define INTERFACE 2

PyMODINIT_FUNC
PyInit__hot(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL
        && (add_type(module, &queue_spec) < 0 || add_type(module, &caller_spec) < 0 || add_type(module, &sender_spec) < 0
            || add_type(module, &writer_spec) < 0 || counter_ready(module) < 0 || head_ready() < 0 || line_ready() < 0 || wsgi_ready(module) < 0
            || asgi_ready(module) < 0 || PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0))
        Py_CLEAR(module);
    return module;
}
