/* What C knows of forkserve.serving.engine.connection.Connection. */
#ifndef FORKSERVE_CONNECTION_H
#define FORKSERVE_CONNECTION_H

#include "slots.h"

/* Offsets of its slots, and the phases it can be in; filled by `adopt`. */
struct connection {
    PyTypeObject *type;
    Py_ssize_t body, deadline, ends, exchange, fd, half_closed, inbox, listening, owner, phase, raw, reader, remote;
    PyObject *first_byte, *idle, *head, *running, *closed;
};
extern struct connection connection;

/* Connection.reply for bytes in memory: send, and end the exchange if all went out and the connection stays.
 * -1 with ConnectionLost, or whatever the Python part raised. Other threads and other Python may run meanwhile, so the
 * bytes have to be the caller's alone. */
int reply(PyObject *conn, const char *data, Py_ssize_t size, int keep);

/* adopt(Connection, Phase): learn the layout, and put `reply` into the class. */
PyObject *adopt(PyObject *module, PyObject *args);

#endif
