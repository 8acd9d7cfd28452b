"""A peer: polls the list, parses it, and compares it with the one before.

poller.py dateutil|fromisoformat URL: a pass for each line of standard input,
answered by a line with the numbers of dispatches and of changes.
"""

import datetime
import sys

import dateutil.parser
import requests

PARSERS = {
    "dateutil": dateutil.parser.parse,
    "fromisoformat": datetime.datetime.fromisoformat,
}


def read(dispatch, parse):
    times = {
        name: parse(dispatch[name]) if dispatch.get(name) else None
        for name in ("start_time", "end_time", "creation_time")
    }
    sites = {site["id"]: site for site in dispatch["sites"]}
    return {**dispatch, **times, "sites": sites}


def main():
    parse, url = PARSERS[sys.argv[1]], sys.argv[2]
    session = requests.Session()
    session.headers["X-Voltus-API-Key"] = "secret"
    known = {}
    for _ in sys.stdin:
        answer = session.get(url, timeout=60)
        answer.raise_for_status()
        shown = {one["id"]: read(one, parse) for one in answer.json()["dispatches"]}
        changed = sum(known.get(name) != one for name, one in shown.items())
        known = shown
        print(len(shown), changed, flush=True)


main()
