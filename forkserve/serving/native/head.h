/* Heads that are not cached, in their usual form. */
#ifndef FORKSERVE_HEAD_H
#define FORKSERVE_HEAD_H

#include "slots.h"

/* What is known of one listener's requests; a ready queue keeps a list of them. */
struct reading;

/* The reading of a listener, made at its first request: borrowed from the list; NULL on error. */
struct reading *reading_of(struct reading **list, PyObject *listening);

void forget_readings(struct reading **list);
int visit_readings(struct reading *list, visitproc visit, void *arg);

/* What a head says, and how many bytes it has; the references are new. `body` is set where one follows. */
struct request {
    PyObject *line, *fields;
    Py_ssize_t size;
    int body;
};

/* Read the head at the start of the data if it is of the usual form: 1, 0 if the reader in Python has to read it, -1 on
 * error. */
int read_head(struct reading *reading, const char *data, Py_ssize_t size, struct request *request);

int head_ready(void);

/* A number that differs where bytes do, most likely. */
uint64_t hash_of(const char *data, Py_ssize_t size, const void *salt);

#endif
