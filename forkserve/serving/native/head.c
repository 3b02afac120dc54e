/* Heads that are not cached: an exact shortcut of RequestReader.feed, for what most clients send.
 *
 * Taken are whole heads of HTTP/1.1 requests: a request line of the usual form, fields whose names are known to be ordinary,
 * Host, `Connection: keep-alive`, Content-Type and Content-Length, one of each. Field lines are cached with their parsed
 * form, since a client repeats most of them and only its cookies, or the id that a proxy gives each request, are new.
 * Whatever might be refused, has another meaning, or is not known yet goes to the reader in Python, which decides.
 */
#include "head.h"
#include "line.h"
#include "request.h"
#include "taken.h"

#include <strings.h>

#define LINES 1024
#define LONGEST 256 /* bytes of a field line that is remembered: forkserve.serving.http.remembered._REMEMBERED_LINE */

enum kind { ORDINARY, CONNECTION, HOST, LENGTH, TYPE, KINDS };

/* A field line and what it becomes: `name` and `value` of an environ, or `value` alone, a pair for a scope. `told` is what it
 * decides: the bytes of a Host, the number of a length. */
struct field {
    uint64_t hash;
    Py_ssize_t size;
    char *bytes;
    enum kind kind;
    int used;
    PyObject *name, *value, *told;
};

/* Of each kind the field that a head has; owned. */
struct decided {
    PyObject *by[KINDS];
};

struct reading {
    struct reading *next;
    PyObject *listening, *names, *hosts, *form_of;
    int able, text;           /* whether heads may be read here at all; whether values are text */
    Py_ssize_t small, most;   /* bytes of a head, and number of fields, that break no limit */
    struct field fields[LINES];
};

static PyObject *CONTENT_LENGTH;
static const struct word spelling[] = {{&CONTENT_LENGTH, "content_length"}, {NULL, NULL}};

uint64_t
hash_of(const char *data, Py_ssize_t size, const void *salt)
{
    uint64_t hash = (uint64_t)size ^ ((uint64_t)(uintptr_t)salt >> 4), word;
    for (; size >= 8; data += 8, size -= 8) {
        memcpy(&word, data, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    word = 0;
    memcpy(&word, data, (size_t)size);
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ (hash >> 29);
}

/* Read a whole number that an object has; -1 on error. */
static int
take_number(Py_ssize_t *place, PyObject *object, const char *name)
{
    PyObject *value = PyObject_GetAttrString(object, name);
    if (value == NULL)
        return -1;
    *place = PyLong_AsSsize_t(value);
    Py_DECREF(value);
    return *place == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Whether a dict and a set are what they are used as here; -1 on error. */
static int
check_kinds(const struct reading *reading)
{
    if (PyDict_CheckExact(reading->names) && PyAnySet_Check(reading->hosts))
        return 0;
    PyErr_SetString(PyExc_TypeError, "a collector's names are a dict, its hosts a set");
    return -1;
}

/* Read what a profile says; -1 on error. */
static int
learn_profile(struct reading *reading, PyObject *profile)
{
    PyObject *collector = NULL, *limits = NULL;
    int failed = take_attribute(&collector, profile, "collector") < 0 || take_attribute(&limits, profile, "limits") < 0
        || (reading->able = is_true(profile, "replaceable")) < 0
        || take_number(&reading->small, profile, "size_below_limits") < 0
        || take_number(&reading->most, limits, "limit_request_fields") < 0
        || (reading->text = is_true(collector, "text_values")) < 0
        || take_attribute(&reading->names, collector, "names") < 0
        || take_attribute(&reading->hosts, collector, "hosts") < 0
        || take_attribute(&reading->form_of, collector, "form_of") < 0 || check_kinds(reading) < 0;
    Py_XDECREF(collector);
    Py_XDECREF(limits);
    return failed ? -1 : 0;
}

static void
forget_field(struct field *field)
{
    struct field old = *field;
    *field = (struct field){0};
    PyMem_Free(old.bytes);
    Py_XDECREF(old.name);
    Py_XDECREF(old.value);
    Py_XDECREF(old.told);
}

static void
free_reading(struct reading *reading)
{
    Py_CLEAR(reading->listening);
    Py_CLEAR(reading->names);
    Py_CLEAR(reading->hosts);
    Py_CLEAR(reading->form_of);
    for (int i = 0; i < LINES; i++)
        forget_field(&reading->fields[i]);
    PyMem_Free(reading);
}

struct reading *
reading_of(struct reading **list, PyObject *listening)
{
    struct reading *reading;
    for (reading = *list; reading != NULL; reading = reading->next)
        if (reading->listening == listening)
            return reading;
    if ((reading = PyMem_Calloc(1, sizeof *reading)) == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *profile = PyObject_GetAttrString(listening, "profile");
    reading->listening = Py_NewRef(listening);
    if (profile == NULL || learn_profile(reading, profile) < 0) {
        Py_XDECREF(profile);
        free_reading(reading);
        return NULL;
    }
    Py_DECREF(profile);
    reading->next = *list;
    return *list = reading;
}

void
forget_readings(struct reading **list)
{
    while (*list != NULL) {
        struct reading *reading = *list;
        *list = reading->next;
        free_reading(reading);
    }
}

int
visit_readings(struct reading *list, visitproc visit, void *arg)
{
    for (; list != NULL; list = list->next) {
        Py_VISIT(list->listening);
        Py_VISIT(list->names);
        Py_VISIT(list->hosts);
        Py_VISIT(list->form_of);
    }
    return 0;
}

/* The names of fields that decide something and may be read here. */
static const struct { enum kind kind; Py_ssize_t size; const char *name; } deciding[] = {
    {CONNECTION, 10, "connection"}, {HOST, 4, "host"}, {LENGTH, 14, "content-length"}, {TYPE, 12, "content-type"}};

static enum kind
kind_of(const char *text, Py_ssize_t size)
{
    for (size_t i = 0; i < sizeof deciding / sizeof *deciding; i++)
        if (size == deciding[i].size && strncasecmp(text, deciding[i].name, (size_t)size) == 0)
            return deciding[i].kind;
    return ORDINARY;
}

static const char *
name_of_kind(enum kind kind)
{
    size_t i = 0;
    while (deciding[i].kind != kind)
        i++;
    return deciding[i].name;
}

/* Find out what a name becomes: 1, 0 if it is not known to be ordinary and decides nothing here, -1 on error. */
static int
take_name(struct reading *reading, struct field *field, const char *text, Py_ssize_t size)
{
    PyObject *name = PyBytes_FromStringAndSize(text, size);
    if (name == NULL)
        return -1;
    PyObject *form = PyDict_GetItemWithError(reading->names, name);
    Py_DECREF(name);
    field->kind = kind_of(text, size);
    if (form != NULL)
        field->name = Py_NewRef(form);
    else if (PyErr_Occurred() || field->kind == ORDINARY)
        return PyErr_Occurred() ? -1 : 0;
    else if ((field->name = PyObject_CallFunction(reading->form_of, "y", name_of_kind(field->kind))) == NULL)
        return -1;
    return 1;
}

/* Read a Content-Length without leading zeros, of as many digits as are sure to fit: as above. */
static int
take_length(struct field *field, const char *value, Py_ssize_t size)
{
    long long length = 0;
    if (size < 1 || size > 18 || (*value == '0' && size > 1))
        return 0;
    for (Py_ssize_t i = 0; i < size; i++) {
        if (value[i] < '0' || value[i] > '9')
            return 0;
        length = 10 * length + (value[i] - '0');
    }
    field->told = PyLong_FromLongLong(length);
    return field->told == NULL ? -1 : 1;
}

/* Find out what a field decides, where its value is of the usual kind: as above. */
static int
take_decision(struct reading *reading, struct field *field, const char *value, Py_ssize_t size)
{
    switch (field->kind) {
    case CONNECTION:
        return size == 10 && (memcmp(value, "keep-alive", 10) == 0 || memcmp(value, "Keep-Alive", 10) == 0);
    case HOST:
        field->told = PyBytes_FromStringAndSize(value, size);
        return field->told == NULL ? -1 : PySet_Contains(reading->hosts, field->told);
    case LENGTH:
        return take_length(field, value, size);
    default:
        return 1;
    }
}

/* Make of a value what the interface wants; -1 on error. */
static int
take_value(struct reading *reading, struct field *field, const char *value, Py_ssize_t size)
{
    if (reading->text)
        field->value = PyUnicode_FromStringAndSize(value, size);
    else
        field->value = Py_BuildValue("(Oy#)", field->name, value, size);
    return field->value == NULL ? -1 : 1;
}

/* Make the field of a line that is not remembered: as above. */
static int
make_field(struct reading *reading, struct field *field, const char *text, Py_ssize_t size)
{
    const char *colon = memchr(text, ':', (size_t)size), *end = text + size;
    if (colon == NULL)
        return 0;
    const char *value = colon + 1;
    /* Narrower than RFC 9110 section 5.5: no HTAB, nothing beyond ASCII. */
    for (const char *at = value; at < end; at++)
        if (*at < ' ' || *at > '~')
            return 0;
    while (value < end && *value == ' ')
        value++;
    while (end > value && end[-1] == ' ')
        end--;
    int taken = take_name(reading, field, text, colon - text);
    if (taken > 0)
        taken = take_decision(reading, field, value, end - value);
    return taken <= 0 ? taken : take_value(reading, field, value, end - value);
}

/* Put a field among the headers, and what it decides where it belongs: as above. */
static int
add_field(struct reading *reading, const struct field *field, PyObject *headers, struct decided *decided)
{
    if (field->kind > CONNECTION) {
        if (decided->by[field->kind] != NULL)
            return 0; /* two of them, which the reader in Python refuses */
        decided->by[field->kind] = Py_NewRef(field->told == NULL ? Py_None : field->told);
    }
    int failed = reading->text ? PyDict_SetItem(headers, field->name, field->value) : PyList_Append(headers, field->value);
    return failed ? -1 : 1;
}

/* Take one line: as above. */
static int
take_field(struct reading *reading, const char *text, Py_ssize_t size, PyObject *headers, struct decided *decided)
{
    struct field fresh = {0}, *place = NULL;
    if (size <= LONGEST) {
        uint64_t hash = hash_of(text, size, NULL);
        place = &reading->fields[hash % LINES];
        if (place->bytes != NULL && place->hash == hash && place->size == size && memcmp(place->bytes, text, (size_t)size) == 0) {
            place->used = 1;
            return add_field(reading, place, headers, decided);
        }
        fresh.hash = hash;
        fresh.size = size;
    }
    int taken = make_field(reading, &fresh, text, size);
    if (taken > 0)
        taken = add_field(reading, &fresh, headers, decided);
    /* A line that was used since the last collision keeps its place (second chance), so that lines which never repeat
     * do not evict it. */
    if (taken > 0 && place != NULL && !place->used && (fresh.bytes = PyMem_Malloc((size_t)size)) != NULL) {
        memcpy(fresh.bytes, text, (size_t)size);
        forget_field(place);
        *place = fresh;
    }
    else {
        if (place != NULL)
            place->used = 0;
        forget_field(&fresh);
    }
    return taken;
}

/* Read the fields from `at` to the empty line behind them: where the head ends, NULL if it is for Python, or on error. */
static const char *
read_fields(struct reading *reading, const char *at, const char *end, PyObject *headers, struct decided *decided)
{
    Py_ssize_t count = 0;
    for (;;) {
        const char *cr = memchr(at, '\r', (size_t)(end - at));
        if (cr == NULL || end - cr < 2 || cr[1] != '\n')
            return NULL;
        if (cr == at)
            break;
        if (++count > reading->most || take_field(reading, at, cr - at, headers, decided) <= 0)
            return NULL;
        at = cr + 2;
    }
    /* Fewer keys than fields: some came twice and have to be joined, or refused. */
    if (decided->by[HOST] == NULL || (reading->text && PyDict_GET_SIZE(headers) != count))
        return NULL;
    return at + 2;
}

/* Fields as the collector in Python makes them: whether there is a length shows in the dict of the object. */
static PyObject *
new_fields(PyObject *headers, const struct decided *decided, int body)
{
    PyObject *fields = fields_at.type->tp_alloc(fields_at.type, 0), *length = decided->by[LENGTH];
    if (fields == NULL)
        return NULL;
    SLOT(fields, fields_at.headers) = Py_NewRef(headers);
    SLOT(fields, fields_at.host) = Py_NewRef(decided->by[HOST]);
    SLOT(fields, fields_at.keep_alive) = Py_NewRef(Py_True);
    SLOT(fields, fields_at.is_fast_path) = Py_NewRef(body ? Py_False : Py_True);
    SLOT(fields, fields_at.memo) = Py_NewRef(Py_None);
    if (length != NULL && PyObject_SetAttr(fields, CONTENT_LENGTH, length) < 0)
        Py_CLEAR(fields);
    return fields;
}

int
read_head(struct reading *reading, const char *data, Py_ssize_t size, struct request *request)
{
    const char *cr = reading->able ? memchr(data, '\r', (size_t)size) : NULL;
    if (cr == NULL || data + size - cr < 4 || cr[1] != '\n')
        return 0;
    struct decided decided = {0};
    PyObject *headers = reading->text ? PyDict_New() : PyList_New(0);
    const char *end = headers == NULL ? NULL : read_fields(reading, cr + 2, data + size, headers, &decided);
    int done = PyErr_Occurred() ? -1 : end != NULL && end - data <= reading->small;
    if (done > 0)
        done = read_line(data, cr - data, &request->line);
    if (done > 0) {
        request->size = end - data;
        request->body = decided.by[LENGTH] == NULL ? 0 : PyObject_IsTrue(decided.by[LENGTH]);
        request->fields = request->body < 0 ? NULL : new_fields(headers, &decided, request->body);
        if (request->fields == NULL) {
            Py_CLEAR(request->line);
            done = -1;
        }
        else
            times_taken[NEW_HEAD]++;
    }
    Py_XDECREF(headers);
    for (int i = 0; i < KINDS; i++)
        Py_XDECREF(decided.by[i]);
    return done;
}

int
head_ready(void)
{
    return intern_words(spelling);
}
