"""Two Flask routes: a small JSON document, and a page made from a template."""

from __future__ import annotations

from flask import Flask, Response, jsonify, render_template_string

PAGE = """<!doctype html><title>{{ title }}</title><ul>
{% for name in names %}<li class="{{ loop.cycle('odd', 'even') }}">{{ name|title }}</li>
{% endfor %}</ul>"""
NAMES = [f"name <{number}>" for number in range(20)]

app = Flask(__name__)


@app.get("/")
def index() -> Response:
    """Answer what the harness expects."""
    return jsonify(message="Hello, World!", numbers=[1, 2, 3])


@app.get("/page")
def page() -> str:
    """Render a list; Jinja keeps the compiled template."""
    return render_template_string(PAGE, title="Bench", names=NAMES)
