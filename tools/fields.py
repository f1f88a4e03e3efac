#!/usr/bin/env python3
"""The table of Envoy's fields (src/proxy/compile/fields_*.def), read, and written as the page of the documentation.

    tools/fields.py            prints the generated part of docs/compatibility.md
    tools/fields.py --write    puts it there (`make docs`)

Whether the table is true is tests/unit/proxy/check_fields.py's to say.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/compatibility.md"
BEGIN = "<!-- what follows is written by tools/fields.py from src/proxy/compile/fields_*.def: make docs -->"
END = "<!-- here it ends -->"

HEADS = ("MESSAGE", "GUARD", "MESSAGE_AT", "WHOLE")
VERDICTS = ("HONOURED", "CHECKED", "NO_EFFECT", "IGNORED", "REFUSED")
WORDS = {"CHECKED": "in part", "NO_EFFECT": "no effect", "IGNORED": "listed", "REFUSED": "refused"}
SUBJECTS = {
    "listener": "Listeners and network filters",
    "http": "Connection managers and routes",
    "guard": "Authorization, tokens, TLS, matchers",
    "filter": "HTTP filters",
    "cluster": "Clusters, endpoints, health checks",
    "told": "Logs, traces, Istio's metrics and extensions",
    "value": "Values that others are made of",
    "bootstrap": "Bootstrap",
}

STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
ROW = re.compile(r"^PX_(\w+)\((.*?)\)$", re.M | re.S)


class Message:
    """One message of the table; places: the fields that it is spoken of for, or None."""

    def __init__(self, name, subject, is_guard=False, places=None, whole=None, why=None):
        self.name, self.subject, self.is_guard, self.places = name, subject, is_guard, places
        self.whole, self.why = whole, why
        self.rows = []  # (verdict, [names], why)
        self.takes = {}  # field -> [types]

    def verdicts(self):
        """[(field, verdict, sign)], as often as it is said."""
        for verdict, names, _ in self.rows:
            for name in names:
                yield name.lstrip("!-"), verdict, name[0] if name[0] in "!-" else ""


def arguments(text):
    """The strings of a macro's arguments, those side by side joined."""
    found, end = [], None
    for match in STRING.finditer(text):
        piece = match.group(1).replace('\\"', '"')
        if end is not None and text[end : match.start()].strip() == "":
            found[-1] += piece
        else:
            found.append(piece)
        end = match.end()
    return found


def read(root=ROOT):
    """Every message of the table, in its order."""
    messages = []
    for subject in SUBJECTS:
        text = (root / f"src/proxy/compile/fields_{subject}.def").read_text()
        for kind, inside in ROW.findall(text):
            words = arguments(inside)
            if kind in ("MESSAGE", "GUARD"):
                messages.append(Message(words[0], subject, kind == "GUARD"))
            elif kind == "MESSAGE_AT":
                messages.append(Message(words[0], subject, places=words[1].split()))
            elif kind == "WHOLE":
                messages.append(Message(words[0], subject, whole=inside.split(",")[0], why=words[1]))
            elif kind == "TAKES":
                messages[-1].takes[words[0]] = words[1].split()
            else:
                messages[-1].rows.append((kind, words[0].split(), words[1] if len(words) > 1 else None))
    return messages


def code(names):
    return ", ".join(f"`{name.lstrip('!-')}`" for name in names)


def print_message(message, out):
    places = ""
    if message.places is not None:
        places = " in " + ", ".join(f"`{place}`" for place in message.places)
    honoured = [name for verdict, names, _ in message.rows if verdict == "HONOURED" for name in names]
    others = [row for row in message.rows if row[0] != "HONOURED"]
    text = f"`{message.name}`{places}{' (guards)' if message.is_guard else ''}"
    out.append(f"- {text}: {code(honoured) if honoured else 'nothing to honour' if not others else '–'}")
    for verdict, names, why in others:
        out.append(f"  - {WORDS[verdict]}: {code(names)}: {why}")
    for field, types in message.takes.items():
        out.append(f"  - `{field}` takes {code(types)}")


def page(messages):
    out = [BEGIN, ""]
    for subject, title in SUBJECTS.items():
        out += [f"### {title}", ""]
        for message in [m for m in messages if m.subject == subject and m.whole is None]:
            print_message(message, out)
        whole = [m for m in messages if m.subject == subject and m.whole is not None]
        if whole:
            out += ["", "As a whole:", "", "| type | here | why |", "|---|---|---|"]
            out += [f"| `{m.name}` | {WORDS[m.whole]} | {m.why} |" for m in whole]
        out.append("")
    return "\n".join(out + [END])


def split(text):
    """The page before, between and behind the marks."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    return (before, after) if found else (None, None)


def main():
    text = page(read())
    if sys.argv[1:] != ["--write"]:
        print(text)
        return 0
    before, after = split(PAGE.read_text())
    if before is None:
        print(f"{PAGE}: the marks are missing")
        return 1
    PAGE.write_text(before + text + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
