/* The counters of this process, in memory that the master reads: forkserve.unix.counters has the layout. */
#ifndef FORKSERVE_COUNTER_H
#define FORKSERVE_COUNTER_H

#include "slots.h"

extern PyTypeObject *counter_type;

/* Note that the head of this exchange's request was read; the exchange keeps the instant. `counter` is a Counter or None. */
void count_begin(PyObject *counter, PyObject *exchange);

/* Note that an exchange was answered with `code`, an int. `counter` as above. */
void count_end(PyObject *counter, PyObject *exchange, PyObject *code);

int counter_ready(PyObject *module);

#endif
