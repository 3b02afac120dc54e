/* The parsed form of a head, from the cache or read. */
#ifndef FORKSERVE_KNOWN_H
#define FORKSERVE_KNOWN_H

#include "head.h"

#define HEADS 256

/* A head as received by one listener. Without `line` it was seen but is not cached, or not yet; `asked` counts how often
 * Python was asked for it. One that is `used` keeps its place. */
struct head {
    uint64_t hash;
    Py_ssize_t size;
    int asked, used;
    char *bytes;
    PyObject *listening, *line, *fields;
};

/* The heads of one ready queue. */
struct heads {
    struct head known[HEADS];
    struct reading *readings;
};

/* The head that the data of a listener begin with: as read_head. The data and the heads have to stay as they are until it
 * returns, though Python may run meanwhile. */
int understand(struct heads *heads, PyObject *listening, const char *data, Py_ssize_t size, struct request *request);

void forget_heads(struct heads *heads);
int visit_heads(struct heads *heads, visitproc visit, void *arg);

#endif
