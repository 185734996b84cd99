"""Lists the vectors in which a peer's parser differs from what the vector expects, as rows of a Markdown table.

Usage: python compare.py PATH/TO/vectors.jsonl NAME=RESULTS.jsonl...
"""

import json
import sys


def lines(path):
    """The JSON values of a file, one a line."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def plain(events):
    """Events in one form: heart-beats left out, as peers do not report each; of repeated headers the first."""
    result = []
    for event in events:
        if "frame" in event:
            headers = event["headers"]
            if isinstance(headers, list):
                headers = {name: value for name, value in reversed(headers)}
            result.append((event["frame"], tuple(sorted(headers.items())), event["body_hex"]))
        elif "error" in event:
            result.append("error")
    return result


def text(events):
    """Events in few words."""
    words = []
    for event in plain(events):
        if event == "error":
            words.append("error")
        else:
            command, headers, body = event
            shown = ",".join(f"{name}:{value}" for name, value in headers)
            body = bytes.fromhex(body).decode("utf-8", "backslashreplace")
            words.append(f"{command}{{{shown}}}" + (json.dumps(body) if body else ""))
    shown = " ".join(words) or "waits"
    return "`" + shown.encode("unicode_escape").decode().replace("|", "\\|")[:90] + "`"


vectors = [vector for vector in lines(sys.argv[1]) if vector["kind"] == "decode"]
peers = dict(argument.split("=", 1) for argument in sys.argv[2:])
results = {
    name: {result["id"]: result["events"] for result in lines(path)} for name, path in peers.items()
}
counts = dict.fromkeys(peers, 0)
print("| Id | here | " + " | ".join(peers) + " |")
print("|---|---|" + "---|" * len(peers))
for vector in vectors:
    if vector["limits"]:
        continue
    expected = plain(vector["expect"])
    cells = []
    for name in peers:
        same = plain(results[name][vector["id"]]) == expected
        counts[name] += same
        cells.append("=" if same else text(results[name][vector["id"]]))
    if any(cell != "=" for cell in cells):
        print(f"| {vector['id']} | {text(vector['expect'])} | " + " | ".join(cells) + " |")
total = sum(1 for vector in vectors if not vector["limits"])
print()
for name, count in counts.items():
    print(f"{name}: {count} of {total} alike")
