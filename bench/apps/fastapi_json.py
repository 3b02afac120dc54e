"""A FastAPI route that answers a small JSON document."""

from __future__ import annotations

from fastapi import FastAPI

app = FastAPI(openapi_url=None)


@app.get("/")
async def index() -> dict[str, object]:
    """Answer what the harness expects."""
    return {"message": "Hello, World!", "numbers": [1, 2, 3]}
