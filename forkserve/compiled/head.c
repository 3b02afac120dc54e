/* Heads that did not come before: an exact shortcut of RequestReader.feed, for what most clients send.
 *
 * Taken are whole heads of HTTP/1.1 requests without a body: a request line of the usual form, fields whose names are known
 * to be ordinary, Host, and `Connection: keep-alive`. Lines of fields that came before are looked up with what they become,
 * since a client says the same of itself each time and only its cookies, or the id that a proxy gives each request, are new.
 * Whatever might be refused, means something, or must be learned first goes to the reader in Python, which is the judge.
 */
#include "head.h"
#include "line.h"

#include <strings.h>

#define LINES 1024
#define LONGEST 256 /* bytes of a field line that is remembered: forkserve.http.remembered._REMEMBERED_LINE */

enum kind { ORDINARY, HOST, CONNECTION };

/* A field line and what it becomes: `name` and `value` of an environ, or `value` alone, a pair for a scope. `host` is the
 * value of a Host in bytes. */
struct field {
    uint64_t hash;
    Py_ssize_t size;
    char *bytes;
    enum kind kind;
    int used;
    PyObject *name, *value, *host;
};

struct reading {
    struct reading *next;
    PyObject *listening, *names, *hosts, *form_of;
    int able, text;           /* whether heads may be read here at all; whether values are text */
    Py_ssize_t small, most;   /* bytes of a head, and number of fields, that break no limit */
    struct field fields[LINES];
};

static struct {
    PyTypeObject *type;
    Py_ssize_t headers, host, keep_alive, memo, plain;
} fields_at;

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

int
learn_heads(PyObject *line_type, PyObject *fields_type)
{
    const struct wanted of_fields[] = {
        {"headers", &fields_at.headers}, {"host", &fields_at.host}, {"keep_alive", &fields_at.keep_alive},
        {"memo", &fields_at.memo}, {"plain", &fields_at.plain}, {NULL, NULL}};
    if (learn_lines(line_type) < 0 || find_slots(fields_type, of_fields) < 0)
        return -1;
    Py_XSETREF(fields_at.type, (PyTypeObject *)Py_NewRef(fields_type));
    return 0;
}

/* Read what a profile says; -1 on error. */
static int
learn_profile(struct reading *reading, PyObject *profile)
{
    PyObject *collector = PyObject_GetAttrString(profile, "collector"), *small = NULL, *most = NULL, *text = NULL;
    PyObject *usual = PyObject_GetAttrString(profile, "usual");
    if (collector != NULL && usual != NULL) {
        reading->able = usual == Py_True;
        reading->names = PyObject_GetAttrString(collector, "names");
        reading->hosts = PyObject_GetAttrString(collector, "hosts");
        reading->form_of = PyObject_GetAttrString(collector, "form_of");
        text = PyObject_GetAttrString(collector, "text_values");
        most = PyObject_GetAttrString(profile, "most");
        small = PyObject_GetAttrString(profile, "small");
    }
    if (small != NULL && most != NULL && text != NULL) {
        reading->text = text == Py_True;
        reading->small = PyLong_AsSsize_t(small);
        reading->most = PyLong_AsSsize_t(most);
    }
    Py_XDECREF(collector);
    Py_XDECREF(usual);
    Py_XDECREF(small);
    Py_XDECREF(most);
    Py_XDECREF(text);
    return PyErr_Occurred() ? -1 : 0;
}

static void
forget_field(struct field *field)
{
    PyMem_Free(field->bytes);
    field->bytes = NULL;
    Py_CLEAR(field->name);
    Py_CLEAR(field->value);
    Py_CLEAR(field->host);
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

/* What a name decides, if it is one of the two that may: 1, 0 if not, -1 on error. Sets `name`, a new reference. */
static int
decide(struct reading *reading, struct field *field, const char *text, Py_ssize_t size, const char *value, Py_ssize_t length)
{
    const char *lower;
    if (size == 4 && strncasecmp(text, "host", 4) == 0) {
        field->kind = HOST;
        lower = "host";
    }
    else if (size == 10 && strncasecmp(text, "connection", 10) == 0 && length == 10
             && (memcmp(value, "keep-alive", 10) == 0 || memcmp(value, "Keep-Alive", 10) == 0)) {
        field->kind = CONNECTION;
        lower = "connection";
    }
    else
        return 0;
    field->name = PyObject_CallFunction(reading->form_of, "y", lower);
    return field->name == NULL ? -1 : 1;
}

/* Find out what a name becomes: as above. */
static int
name_of(struct reading *reading, struct field *field, const char *text, Py_ssize_t size, const char *value, Py_ssize_t length)
{
    PyObject *name = PyBytes_FromStringAndSize(text, size);
    if (name == NULL)
        return -1;
    PyObject *form = PyDict_GetItemWithError(reading->names, name);
    Py_DECREF(name);
    if (form == NULL)
        return PyErr_Occurred() ? -1 : decide(reading, field, text, size, value, length);
    field->name = Py_NewRef(form);
    if (size == 4 && strncasecmp(text, "host", 4) == 0)
        field->kind = HOST;
    return 1;
}

/* Make of a value what the interface wants, and of Host what `Fields.host` is, if it is known to be good: as above. */
static int
value_of(struct reading *reading, struct field *field, const char *value, Py_ssize_t length)
{
    if (field->kind == HOST) {
        if ((field->host = PyBytes_FromStringAndSize(value, length)) == NULL)
            return -1;
        int good = PySet_Contains(reading->hosts, field->host);
        if (good <= 0)
            return good;
    }
    if (reading->text)
        field->value = PyUnicode_FromStringAndSize(value, length);
    else
        field->value = Py_BuildValue("(Oy#)", field->name, value, length);
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
    int known = name_of(reading, field, text, colon - text, value, end - value);
    return known <= 0 ? known : value_of(reading, field, value, end - value);
}

/* Put a field among the headers, and look at whether it says where the request goes; -1 on error. */
static int
add_field(struct reading *reading, const struct field *field, PyObject *headers, PyObject **host)
{
    if (field->kind == HOST) {
        if (*host != NULL)
            return 0; /* two of them, which the reader in Python refuses */
        *host = Py_NewRef(field->host);
    }
    int failed = reading->text ? PyDict_SetItem(headers, field->name, field->value) : PyList_Append(headers, field->value);
    return failed ? -1 : 1;
}

/* Take one line: as above. */
static int
take_field(struct reading *reading, const char *text, Py_ssize_t size, PyObject *headers, PyObject **host)
{
    struct field fresh = {0}, *place = NULL;
    if (size <= LONGEST) {
        uint64_t hash = hash_of(text, size, NULL);
        place = &reading->fields[hash % LINES];
        if (place->bytes != NULL && place->hash == hash && place->size == size && memcmp(place->bytes, text, (size_t)size) == 0) {
            place->used = 1;
            return add_field(reading, place, headers, host);
        }
        fresh.hash = hash;
        fresh.size = size;
    }
    int taken = make_field(reading, &fresh, text, size);
    if (taken > 0)
        taken = add_field(reading, &fresh, headers, host);
    /* A line that is used stays: one that never comes again costs it its place only if it has not come meanwhile. */
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

/* Read all fields of a block that ends where the data ends: the number of them, 0 if they are for Python, -1 on error. */
static Py_ssize_t
read_fields(struct reading *reading, const char *at, const char *end, PyObject *headers, PyObject **host)
{
    Py_ssize_t count = 0;
    while (end - at > 2) {
        const char *cr = memchr(at, '\r', (size_t)(end - at));
        if (cr == NULL || end - cr < 4 || cr[1] != '\n' || cr == at || ++count > reading->most)
            return 0;
        int taken = take_field(reading, at, cr - at, headers, host);
        if (taken <= 0)
            return taken;
        at = cr + 2;
    }
    if (end - at != 2 || memcmp(at, "\r\n", 2) != 0 || *host == NULL)
        return 0;
    /* Fewer keys than fields: some came twice and have to be joined, or refused. */
    return reading->text && PyDict_GET_SIZE(headers) != count ? 0 : count;
}

static PyObject *
new_fields(PyObject *headers, PyObject *host)
{
    PyObject *fields = fields_at.type->tp_alloc(fields_at.type, 0);
    if (fields != NULL) {
        SLOT(fields, fields_at.headers) = Py_NewRef(headers);
        SLOT(fields, fields_at.host) = Py_NewRef(host);
        SLOT(fields, fields_at.keep_alive) = Py_NewRef(Py_True);
        SLOT(fields, fields_at.plain) = Py_NewRef(Py_True);
        SLOT(fields, fields_at.memo) = Py_NewRef(Py_None);
    }
    return fields;
}

int
read_head(struct reading *reading, const char *data, Py_ssize_t size, PyObject **line, PyObject **fields)
{
    const char *cr = reading->able && size <= reading->small ? memchr(data, '\r', (size_t)size) : NULL;
    if (cr == NULL || data + size - cr < 4 || cr[1] != '\n')
        return 0;
    PyObject *headers = reading->text ? PyDict_New() : PyList_New(0), *host = NULL;
    if (headers == NULL)
        return -1;
    Py_ssize_t count = read_fields(reading, cr + 2, data + size, headers, &host);
    int done = count > 0 ? read_line(data, cr - data, line) : (int)count;
    if (done > 0 && (*fields = new_fields(headers, host)) == NULL) {
        Py_CLEAR(*line);
        done = -1;
    }
    Py_DECREF(headers);
    Py_XDECREF(host);
    return done;
}
