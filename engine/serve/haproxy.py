"""HAProxy as the edge of the service: what Ray Serve configures, edited, and then HAProxy itself.

Ray Serve runs this file in HAProxy's place, at its start and whenever replicas come and go; `engine.serve.edge` arranges that.
Input: HAProxy's program, a folder with its answers, and HAProxy's arguments, one of them the file that Ray Serve has just written.
Output: the same file with the limits below; then this process becomes HAProxy. A file of another form than Ray 2.60's is refused,
so that no limit is lost unnoticed. Imports only Python's own library and nothing of Segue, since whoever asks waits for a restart.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ANSWERS = "answers.json"
"""In the folder: by status, what HAProxy answers with, as its rules spell it."""
REQUEST_ID = "txn.request_id"
"""HAProxy's variable for the id of a request."""
REQUEST_S, IDLE_S = 5, 30
"""Seconds for the head of a request, and again for its body; seconds that a connection may stay open between two requests."""
SCRAPES = 16
"""Connections at once to each of the pages of statistics and metrics."""
UPLOADS_OF_ADDRESS = 64
"""Requests at once from one address whose body does not fit HAProxy's buffer: each holds a place in a gateway while it arrives."""
ADDRESS = "src,ipmask(32,64)"
"""Whose connections are counted together: an IPv4 address, or the 64 leading bits of an IPv6 address."""
SERVES_OWN_HEADERS = ("x-request-timeout-seconds", "x-request-disconnect-disabled", "serve_multiplexed_model_id", "x-session-id")
"""Headers by which a client would steer Ray Serve: its timeouts, whether work ends when the client has left, its routing."""
_EDITED = "# Edited by Segue"
_COUNTED = "stick-table type ipv6 size 100k expire 60s store conn_cur"
_PLAIN_ERROR = re.compile(r'http-request return status (?P<status>[45]\d\d) content-type text/plain (?:lf-)?string ".*"(?P<rest>.*)')
_SERVERS_ERROR = "http-response return status {status} {answer} if {{ status {status} }} {{ res.hdr(content-type) -m beg text/ }}"


class UnknownForm(ValueError):
    """A configuration that Ray 2.60 does not write."""


@dataclass
class Section:
    """One section of HAProxy's configuration, such as `frontend http_frontend`, without comments."""

    name: str
    lines: list[str]

    def drop(self, beginning: str) -> None:
        """Removes every line that begins so; there must be one."""
        kept = [line for line in self.lines if not line.startswith(beginning)]
        if len(kept) == len(self.lines):
            raise UnknownForm(f"HAProxy's configuration, {self.name}: expected a line `{beginning} …` as of Ray 2.60, found none")
        self.lines = kept

    def change(self, pattern: str, by: str) -> None:
        """Replaces the one line that matches."""
        found = [place for place, line in enumerate(self.lines) if re.fullmatch(pattern, line)]
        if len(found) != 1:
            raise UnknownForm(f"HAProxy's configuration, {self.name}: expected one line `{pattern}` as of Ray 2.60, found {len(found)}")
        self.lines[found[0]] = re.sub(pattern, by, self.lines[found[0]])


@dataclass(frozen=True)
class Limits:
    """Connections, and the bytes of a request that HAProxy reads before it asks a gateway."""

    connections: int
    buffer: int

    @classmethod
    def within(cls, wanted: int, buffer: int, open_files: int) -> Limits:
        """As many connections as wanted, where two thirds of the open files suffice for them; the others are for the gateways."""
        return cls(min(wanted, open_files * 2 // 3), buffer)

    @property
    def large(self) -> int:
        """A body of more bytes may not fit the buffer, beside its head, and arrives while a gateway waits."""
        return self.buffer * 3 // 4

    @property
    def scarce_from(self) -> int:
        """With more connections than this, an address gets no further one above its share."""
        return self.connections * 7 // 8

    @property
    def share(self) -> int:
        return self.connections // 16


def edited(config: str, answers: Mapping[int, str], open_files: int) -> str:
    """Ray Serve's configuration of HAProxy with the limits of this module; unchanged where it has them already.

    `answers`: by status, the answer of a rule; `open_files`: how many HAProxy may have.
    """
    if config.startswith(_EDITED):
        return config
    sections = _sections(config)
    named = {section.name: section for section in sections}
    limits = Limits.within(_number(named, "maxconn"), _number(named, "tune.bufsize"), open_files)
    edits: Mapping[str, Callable[[Section], None]] = {
        "global": lambda section: _edit_global(section, limits),
        "defaults": lambda section: _edit_defaults(section, answers),
        "frontend prometheus": _edit_page,
        "listen stats": _edit_page,
        "frontend http_frontend": lambda section: _edit_frontend(section, limits, answers),
        "backend default_backend": lambda section: _edit_default_backend(section, answers),
    }
    for name, edit in edits.items():
        edit(_section(named, name))
    for section in sections:
        if section.name.startswith("backend ") and section.name not in edits:
            _edit_backend(section, answers)
        section.lines = [_with_answer(line, answers) for line in section.lines]
    sections += [Section(f"backend {name}", [_COUNTED]) for name in ("addresses", "uploads")]
    return "\n".join([_EDITED, *(line for section in sections for line in _written(section)), ""])


def _edit_global(section: Section, limits: Limits) -> None:
    section.drop("log ")  # it would send each request line to a UDP port
    section.change(r"(stats socket .*) mode 666 (.*)", r"\1 mode 600 \2")
    section.change(r"maxconn \d+", f"maxconn {limits.connections + 2 * SCRAPES}")
    section.lines.append("no strict-limits")  # twice as many open files as connections are wanted; two thirds suffice


def _edit_defaults(section: Section, answers: Mapping[int, str]) -> None:
    for line in ("log global", "option httplog", "option log-health-checks", "errorfile ", "timeout http-keep-alive "):
        section.drop(line)
    section.lines += [
        f"timeout http-request {REQUEST_S}s",
        f"timeout http-keep-alive {IDLE_S}s",
        "option http-ignore-probes",  # a connection on which nothing was asked ends without an answer
        *(f"http-error status {status} {answer}" for status, answer in answers.items()),
    ]


def _edit_page(section: Section) -> None:
    section.change(r"bind [*]?:(\d+)", r"bind 127.0.0.1:\1")
    section.lines.append(f"maxconn {SCRAPES}")


def _edit_frontend(section: Section, limits: Limits, answers: Mapping[int, str]) -> None:
    bind = [line for line in section.lines if line.startswith("bind ")]
    section.drop("bind ")
    section.lines = [
        *bind,
        f"maxconn {limits.connections}",
        f"tcp-request connection track-sc0 {ADDRESS} table addresses",
        f"tcp-request connection reject if {{ fe_conn gt {limits.scarce_from} }} {{ sc0_conn_cur gt {limits.share} }}",
        "unique-id-format %[uuid()]",
        "http-request set-header x-request-id %[unique-id] unless { req.fhdr_cnt(x-request-id) eq 1 } "
        "{ req.fhdr(x-request-id) -m reg ^[A-Za-z0-9_.:-]{1,128}$ }",
        f"http-request set-var({REQUEST_ID}) req.fhdr(x-request-id)",
        f"http-request return status 400 {answers[400]} unless {{ req.hdrs,json(utf8) -m found }}",
        *(f"http-request del-header {header}" for header in SERVES_OWN_HEADERS),
        f"http-request wait-for-body time {REQUEST_S}s",  # what has arrived whole can also be sent to a second gateway
        f"http-request track-sc1 {ADDRESS} table uploads if {{ req.body_size gt {limits.large} }}",
        f"http-request return status 429 {answers[429]} if {{ sc1_conn_cur gt {UPLOADS_OF_ADDRESS} }}",
        *section.lines,
    ]


def _edit_default_backend(section: Section, answers: Mapping[int, str]) -> None:
    """Reached only while there is no application: before the first one, and while the last one stops."""
    section.drop("http-request return status 404 ")
    section.lines.append(f"http-request return status 503 {answers[503]}")


def _edit_backend(section: Section, answers: Mapping[int, str]) -> None:
    """Of one application. Serve's own proxy does not stand in for its gateways: HAProxy says itself that there is none."""
    section.drop("log global")
    section.lines = [line for line in section.lines if not line.endswith(" check backup")]
    section.lines += [_SERVERS_ERROR.format(status=status, answer=answer) for status, answer in answers.items()]


def _with_answer(line: str, answers: Mapping[int, str]) -> str:
    """The line, with a problem where HAProxy would answer an error in plain text."""
    if not (plain := _PLAIN_ERROR.fullmatch(line)):
        return line
    return f"http-request return status {plain['status']} {answers[int(plain['status'])]}{plain['rest']}"


def _sections(config: str) -> list[Section]:
    sections: list[Section] = []
    for line in config.splitlines():
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        if not line[0].isspace():
            sections.append(Section(words, []))
        elif sections:
            sections[-1].lines.append(words)
    return sections


def _section(named: Mapping[str, Section], name: str) -> Section:
    if name not in named:
        raise UnknownForm(f"HAProxy's configuration: expected a section `{name}` as of Ray 2.60, found none")
    return named[name]


def _number(named: Mapping[str, Section], setting: str) -> int:
    """A number of the section `global`."""
    for line in _section(named, "global").lines:
        if line.startswith(f"{setting} "):
            return int(line.split()[1])
    raise UnknownForm(f"HAProxy's configuration, global: expected a line `{setting} …` as of Ray 2.60, found none")


def _written(section: Section) -> list[str]:
    return [section.name, *(f"    {line}" for line in section.lines)]


def edit(path: Path, folder: Path) -> None:
    """The file of Ray Serve, with the limits of this module."""
    answers = {int(status): answer for status, answer in json.loads((folder / ANSWERS).read_text(encoding="utf-8")).items()}
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    config = edited(path.read_text(encoding="utf-8"), answers, sys.maxsize if most_files == resource.RLIM_INFINITY else most_files)
    new = path.with_name(f"{path.name}.edited")
    new.write_text(config, encoding="utf-8")
    new.replace(path)


def main(program: str, folder: str, arguments: Sequence[str]) -> None:
    """Edits the file that follows `-f` among the arguments, and becomes HAProxy."""
    if "-f" in arguments:
        path = Path(arguments[arguments.index("-f") + 1])
        try:
            edit(path, Path(folder))
        except UnknownForm as error:
            sys.exit(f"{path}: {error}. Use the version of Ray that Segue requires")
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
