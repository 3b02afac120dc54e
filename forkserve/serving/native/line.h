/* Request lines that are not cached, in their usual form. */
#ifndef FORKSERVE_LINE_H
#define FORKSERVE_LINE_H

#include "slots.h"

/* Read a request line without its line end: 1 with a new reference, 0 if it is for parse_line in Python, -1 on error. */
int read_line(const char *text, Py_ssize_t size, PyObject **line);

/* Mark a request line as one that came a second time. */
void note_again(PyObject *line);

int line_ready(void);

#endif
