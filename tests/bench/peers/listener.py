"""A peer: a Flask listener that fetches the dispatch of each webhook.

gunicorn --workers 2 --threads 8 listener:app, with API_URL set.
"""

import os

import flask
import requests

API = os.environ["API_URL"]
app = flask.Flask(__name__)


@app.post("/dispatch-listener")
def listen():
    hint = flask.request.get_json(silent=True)
    if not isinstance(hint, dict) or not isinstance(hint.get("resource"), str):
        return {"error": "no webhook"}, 400
    answer = requests.get(
        API + hint["resource"], headers={"X-Voltus-API-Key": "secret"}, timeout=10
    )
    answer.raise_for_status()
    dispatch = answer.json()
    return {"id": dispatch["id"]}
