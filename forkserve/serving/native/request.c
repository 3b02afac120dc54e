#include "request.h"

struct line_layout line_at;
struct fields_layout fields_at;

int
learn_requests(PyObject *line_type, PyObject *fields_type)
{
    struct line_layout *line = &line_at;
    struct fields_layout *fields = &fields_at;
    const struct wanted of_line[] = {
        {"again", &line->again}, {"authority", &line->authority}, {"environ", &line->environ}, {"method", &line->method},
        {"modern", &line->modern}, {"path", &line->path}, {"is_fast_path", &line->is_fast_path}, {"query", &line->query},
        {"raw_path", &line->raw_path}, {"scheme", &line->scheme}, {"target", &line->target}, {"version", &line->version},
        {NULL, NULL}};
    const struct wanted of_fields[] = {
        {"headers", &fields->headers}, {"host", &fields->host}, {"keep_alive", &fields->keep_alive},
        {"memo", &fields->memo}, {"is_fast_path", &fields->is_fast_path}, {NULL, NULL}};
    if (find_slots(line_type, of_line) < 0 || find_slots(fields_type, of_fields) < 0)
        return -1;
    Py_XSETREF(line->type, (PyTypeObject *)Py_NewRef(line_type));
    Py_XSETREF(fields->type, (PyTypeObject *)Py_NewRef(fields_type));
    return 0;
}
