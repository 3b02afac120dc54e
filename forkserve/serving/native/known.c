/* The cache of heads, byte for byte, and its misses. */
#include "known.h"
#include "line.h"
#include "request.h"
#include "taken.h"

#define PATIENCE 4   /* times that Python is asked for a head: it remembers at the second, others may come between */
#define LONGEST 2304 /* bytes of a head that is remembered: what the profile remembers of line and block together */

static void
forget(struct head *head)
{
    struct head old = *head;
    *head = (struct head){0};
    PyMem_Free(old.bytes);
    Py_XDECREF(old.listening);
    Py_XDECREF(old.line);
    Py_XDECREF(old.fields);
}

/* Take line and fields from the cache of a profile if they are ordinary: as read_head. */
static int
take_known(PyObject *known, struct request *request)
{
    if (known == Py_None)
        return 0;
    PyObject *line, *fields;
    if (!PyArg_ParseTuple(known, "O!O!", line_at.type, &line, fields_at.type, &fields))
        return -1;
    if (SLOT(fields, fields_at.is_fast_path) != Py_True)
        return 0;
    request->line = Py_NewRef(line);
    request->fields = Py_NewRef(fields);
    return 1;
}

/* Ask the listener's profile for what it remembers of the head that was received: as read_head. */
static int
recall(PyObject *listening, const char *data, Py_ssize_t size, struct request *request)
{
    PyObject *profile = PyObject_GetAttrString(listening, "profile");
    PyObject *known = profile == NULL ? NULL : PyObject_CallMethod(profile, "recall", "y#", data, size);
    Py_XDECREF(profile);
    if (known == NULL)
        return -1;
    *request = (struct request){.size = size};
    int found = take_known(known, request);
    Py_DECREF(known);
    return found;
}

/* The place of the head that was received. Another's may be used. */
static struct head *
place_of(struct heads *heads, PyObject *listening, const char *data, Py_ssize_t size)
{
    uint64_t hash = hash_of(data, size, listening);
    struct head *head = &heads->known[hash % HEADS];
    if (head->hash != hash || head->size != size || head->listening != listening
        || (head->line != NULL && memcmp(head->bytes, data, (size_t)size) != 0)) {
        if (head->used) {
            head->used = 0;
            return NULL;
        }
        forget(head);
        *head = (struct head){.hash = hash, .size = size, .listening = Py_NewRef(listening)};
        return NULL;
    }
    return head;
}

/* Cache a head that came a second time, without anything behind it. */
static void
remember(struct head *head, const char *data, const struct request *request)
{
    if (request->body || request->size != head->size || (head->bytes = PyMem_Malloc((size_t)head->size)) == NULL)
        return;
    memcpy(head->bytes, data, (size_t)head->size);
    note_again(request->line);
    head->line = Py_NewRef(request->line);
    head->fields = Py_NewRef(request->fields);
}

int
understand(struct heads *heads, PyObject *listening, const char *data, Py_ssize_t size, struct request *request)
{
    struct head *head = size <= LONGEST ? place_of(heads, listening, data, size) : NULL;
    if (head != NULL && head->line != NULL) {
        head->used = 1;
        times_taken[KNOWN_HEAD]++;
        *request = (struct request){Py_NewRef(head->line), Py_NewRef(head->fields), size, 0};
        return 1;
    }
    struct reading *reading = reading_of(&heads->readings, listening);
    int found = reading == NULL ? -1 : read_head(reading, data, size, request);
    if (found == 0 && head != NULL && head->asked < PATIENCE) {
        head->asked++;
        found = recall(listening, data, size, request);
    }
    if (found > 0 && head != NULL)
        remember(head, data, request);
    return found;
}

void
forget_heads(struct heads *heads)
{
    for (int i = 0; i < HEADS; i++)
        forget(&heads->known[i]);
    forget_readings(&heads->readings);
}

int
visit_heads(struct heads *heads, visitproc visit, void *arg)
{
    for (int i = 0; i < HEADS; i++) {
        Py_VISIT(heads->known[i].listening);
        Py_VISIT(heads->known[i].line);
        Py_VISIT(heads->known[i].fields);
    }
    return visit_readings(heads->readings, visit, arg);
}
