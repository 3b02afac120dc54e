"""The comparison with Gunicorn and the field: `bench/run.sh`, or `python -m bench` in its environment."""
