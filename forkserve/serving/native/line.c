/* Request lines that are not cached: an exact shortcut of forkserve.serving.http.line.parse_line for the usual form. */
#include "line.h"
#include "request.h"

/* Methods by name, with the environ that a line of each begins with; made once. */
static struct method {
    const char *name;
    int body; /* whether its response may have one */
    PyObject *text, *environ;
} methods[] = {{"GET", 1, NULL, NULL}, {"HEAD", 0, NULL, NULL}, {"POST", 1, NULL, NULL}, {"PUT", 1, NULL, NULL},
               {"PATCH", 1, NULL, NULL}, {"DELETE", 1, NULL, NULL}, {"OPTIONS", 1, NULL, NULL}, {NULL, 0, NULL, NULL}};

/* The keys in their order, and values; made once. */
enum { REQUEST_METHOD, PATH_INFO, QUERY_STRING, RAW_URI, REQUEST_URI, SERVER_PROTOCOL, KEYS };
static PyObject *keys[KEYS], *version, *protocol, *empty_bytes, *empty_text;
static const struct word spelling[] = {
    {&keys[REQUEST_METHOD], "REQUEST_METHOD"}, {&keys[PATH_INFO], "PATH_INFO"}, {&keys[QUERY_STRING], "QUERY_STRING"},
    {&keys[RAW_URI], "RAW_URI"}, {&keys[REQUEST_URI], "REQUEST_URI"}, {&keys[SERVER_PROTOCOL], "SERVER_PROTOCOL"},
    {&version, "1.1"}, {&protocol, "HTTP/1.1"}, {&empty_text, ""}, {NULL, NULL}};

static int
learn_method(struct method *method)
{
    method->text = PyUnicode_InternFromString(method->name);
    method->environ = PyDict_New();
    if (method->text == NULL || method->environ == NULL)
        return -1;
    for (int i = 0; i < KEYS; i++) {
        PyObject *value = i == REQUEST_METHOD ? method->text : i == SERVER_PROTOCOL ? protocol : empty_text;
        if (PyDict_SetItem(method->environ, keys[i], value) < 0)
            return -1;
    }
    return 0;
}

int
line_ready(void)
{
    if (intern_words(spelling) < 0 || (empty_bytes = PyBytes_FromStringAndSize(NULL, 0)) == NULL)
        return -1;
    for (struct method *method = methods; method->name != NULL; method++)
        if (learn_method(method) < 0)
            return -1;
    return 0;
}

/* Set the parts of a target in a new request line; -1 on error. */
static int
set_target(PyObject *line, const char *target, Py_ssize_t size, Py_ssize_t path_size)
{
    Py_ssize_t rest = size - path_size, query_size = rest ? rest - 1 : 0;
    if ((SLOT(line, line_at.target) = PyBytes_FromStringAndSize(target, size)) == NULL)
        return -1;
    SLOT(line, line_at.raw_path)
        = rest ? PyBytes_FromStringAndSize(target, path_size) : Py_NewRef(SLOT(line, line_at.target));
    if (SLOT(line, line_at.raw_path) == NULL)
        return -1;
    SLOT(line, line_at.query)
        = query_size ? PyBytes_FromStringAndSize(target + size - query_size, query_size) : Py_NewRef(empty_bytes);
    return SLOT(line, line_at.query) == NULL ? -1 : 0;
}

/* Set a new text in an environ, and release it; -1 on error, also if `text` is NULL. */
static int
set_text(PyObject *environ, int key, PyObject *text)
{
    int failed = text == NULL || PyDict_SetItem(environ, keys[key], text) < 0;
    Py_XDECREF(text);
    return failed ? -1 : 0;
}

/* Set the parts of a target as text, in the environ of a new line; -1 on error. */
static int
set_texts(PyObject *line, const char *target, Py_ssize_t size, Py_ssize_t path_size)
{
    PyObject *environ = SLOT(line, line_at.environ), *uri = PyUnicode_FromStringAndSize(target, size);
    if (uri == NULL)
        return -1;
    Py_ssize_t query_size = size > path_size ? size - path_size - 1 : 0;
    PyObject *path = path_size < size ? PyUnicode_FromStringAndSize(target, path_size) : Py_NewRef(uri);
    SLOT(line, line_at.path) = Py_XNewRef(path);
    int failed = set_text(environ, PATH_INFO, path) < 0
        || (query_size
            && set_text(environ, QUERY_STRING, PyUnicode_FromStringAndSize(target + size - query_size, query_size)) < 0)
        || PyDict_SetItem(environ, keys[RAW_URI], uri) < 0 || PyDict_SetItem(environ, keys[REQUEST_URI], uri) < 0;
    Py_DECREF(uri);
    return failed ? -1 : 0;
}

static PyObject *
new_line(const struct method *method, const char *target, Py_ssize_t size, Py_ssize_t path_size)
{
    PyObject *line = line_at.type->tp_alloc(line_at.type, 0);
    if (line == NULL)
        return NULL;
    SLOT(line, line_at.method) = Py_NewRef(method->text);
    SLOT(line, line_at.modern) = Py_NewRef(Py_True);
    SLOT(line, line_at.is_fast_path) = Py_NewRef(method->body ? Py_True : Py_False);
    SLOT(line, line_at.again) = Py_NewRef(Py_False);
    SLOT(line, line_at.version) = Py_NewRef(version);
    SLOT(line, line_at.scheme) = Py_NewRef(Py_None);
    SLOT(line, line_at.authority) = Py_NewRef(Py_None);
    SLOT(line, line_at.environ) = PyDict_Copy(method->environ);
    if (SLOT(line, line_at.environ) == NULL || set_target(line, target, size, path_size) < 0
        || set_texts(line, target, size, path_size) < 0)
        Py_CLEAR(line);
    return line;
}

/* Read a request line without its line end: 1, 0 if it is for Python, -1 on error. */
int
read_line(const char *text, Py_ssize_t size, PyObject **line)
{
    static const char modern[] = " HTTP/1.1";
    const Py_ssize_t tail = sizeof modern - 1;
    if (size < tail)
        return 0;
    const char *space = memchr(text, ' ', (size_t)size), *end = text + size - tail;
    if (space == NULL || end - space < 2 || memcmp(end, modern, (size_t)tail) != 0 || space[1] != '/')
        return 0;
    const struct method *method = methods;
    while (method->name != NULL
           && ((Py_ssize_t)strlen(method->name) != space - text || memcmp(method->name, text, (size_t)(space - text)) != 0))
        method++;
    if (method->name == NULL)
        return 0;
    const char *target = space + 1, *question = NULL;
    for (const char *at = target; at < end; at++) {
        /* A path with escapes has to be unquoted. */
        if (*at <= ' ' || *at > '~' || *at == '#' || ((*at == '%' || *at == '\\') && question == NULL))
            return 0;
        if (*at == '?' && question == NULL)
            question = at;
    }
    *line = new_line(method, target, end - target, (question == NULL ? end : question) - target);
    return *line == NULL ? -1 : 1;
}

void
note_again(PyObject *line)
{
    set_slot(line, line_at.again, Py_True);
}
