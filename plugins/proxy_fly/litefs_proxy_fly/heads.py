"""The head of an HTTP/1.1 message: what is before its body (RFC 9112).

Requests are read strictly, since two readers that disagree about where a message ends can be played against each
other: lines end with CR LF, no folding, at most one length, no length beside a transfer coding. One regular expression
with possessive quantifiers decides, so no input takes more than linear time. What passed it is forwarded byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from litefs_proxy_fly.memo import Memo

MAX_REQUEST_HEAD = 64 << 10  # bytes
MAX_RESPONSE_HEAD = 256 << 10
HOPS = b"Litefs-Proxy-Hops"
REPLAYED = b";replay"  # after a hop: the application there wants the next node to have the request
HEAD_END = b"\r\n\r\n"

CHUNKED = -1  # as a length: the body says itself where it ends
UNTIL_CLOSE = -2  # it ends with the connection

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~\x80-\xff]++) HTTP/1\.[01]")
_FIELDS = re.compile(rb"[01]\r\n(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n")
_RESPONSE = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\r\n\0]*+))?(\r\n(?:" + _TOKEN + rb":[^\r\n\0]*+\r\n)*+)\r\n"
)
# Lines that matter here, found in one go: a whole head takes 2 us this way, and 4 with a callback for each line.
_OF_REQUEST = re.compile(
    rb"\n(?i:(connection|keep-alive|proxy-connection|content-length|transfer-encoding|expect|upgrade|cookie|host"
    rb"|litefs-proxy-hops))"
    rb":([^\r]*)"
)
_OF_RESPONSE = re.compile(
    rb"\n(?i:(connection|keep-alive|proxy-connection|content-length|transfer-encoding|upgrade|fly-replay)):([^\r]*)"
)
# What is about one connection only: that to the client and that to the application have their own lives.
_WITHOUT_HOP = re.compile(rb"\r\n(?i:connection|keep-alive|proxy-connection):[^\r]*")
_WITHOUT_HOP_AND_CODING = re.compile(rb"\r\n(?i:connection|keep-alive|proxy-connection|transfer-encoding):[^\r]*")
_WITHOUT_LENGTH = re.compile(rb"\r\n(?i:content-length):[^\r]*")
_WITHOUT_UPGRADE = re.compile(rb"\r\n(?i:upgrade):[^\r]*")
_WITHOUT_HOPS = re.compile(rb"\r\n(?i:litefs-proxy-hops):[^\r]*")
_WITHOUT_SOURCE = re.compile(rb"\r\n(?i:fly-replay-src):[^\r]*")
_WITHOUT_HOST = re.compile(rb"\r\n(?i:host):[^\r]*")
_HOPELESS = re.compile(rb"(?<!\r)\n|\r(?!\n)(?!\Z)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_LIST = re.compile(rb"[ \t]*,[ \t]*")
_TUNNELS_REFUSED = (b"h2c", b"http/", b"tls/")  # upgrades that would take later requests past the rules

Found = dict[bytes, list[bytes]]


class BadRequest(Exception):
    """A request that cannot be understood safely: what to answer before the connection is closed."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class BadResponse(Exception):
    """The application's answer cannot be understood."""


class Fields:
    """What the lines of a request's header say.

    Attributes:
        length: bytes of the body, or `CHUNKED`.
        keep_alive: whether the client wants to send another request on the connection.
        http10: whether the client speaks HTTP/1.0 only.
        expects: whether the client waits for 100 (Continue) before it sends the body.
        upgrade: protocols that the client offers to change to, if they may be passed on.
        cookies: values of all Cookie lines.
        host: value of the Host line.
        hops: nodes whose proxies have passed the request on.
        found: all lines that matter, by their names in small letters.
        unchanged: whether the application gets to see them as they are.
        rebuilt: what it gets to see after the first line otherwise, once that is known.
    """

    length = 0
    keep_alive = True
    http10 = False
    expects = False
    upgrade = b""
    cookies: Sequence[bytes] = ()
    host: bytes | None = None
    hops: Sequence[bytes] = ()
    found: Found
    unchanged: bool
    rebuilt: bytes | None = None


class Request:
    """A request's head.

    Attributes:
        method: as written; methods are case-sensitive.
        target: path and query as written.
        length, keep_alive, http10, expects, upgrade, cookies, host, hops: see `Fields`.
        head: what the application gets to see.
    """

    length: int
    keep_alive: bool
    http10: bool
    expects: bool
    upgrade: bytes
    cookies: Sequence[bytes]
    host: bytes | None
    hops: Sequence[bytes]
    head: bytes

    def __init__(self, method: bytes, target: bytes) -> None:
        self.method = method
        self.target = target

    def take(self, fields: Fields) -> None:
        """Have what the lines say."""
        self.length = fields.length
        self.keep_alive = fields.keep_alive
        self.http10 = fields.http10
        self.expects = fields.expects
        self.upgrade = fields.upgrade
        self.cookies = fields.cookies
        self.host = fields.host
        self.hops = fields.hops

    def head_from(self, node: bytes, *, replayed: bool = False, source: bytes = b"") -> bytes:
        """What the next proxy gets to see, this node being one of its hops.

        Args:
            replayed: whether it is to treat the request as if it came from a client; else it is for the primary.
            source: of ``Fly-Replay-Src``; empty for what the client sent.
        """
        head = _WITHOUT_SOURCE.sub(b"", self.head) if source else self.head
        if source:
            head = _add(head, b"Fly-Replay-Src: " + source)
        return _add(head, HOPS + b": " + b", ".join([*self.hops, node + REPLAYED if replayed else node]))

    @property
    def for_primary(self) -> bool:
        """Whether another node's proxy has sent it here as to the primary."""
        return bool(self.hops) and not self.replayed

    @property
    def replayed(self) -> bool:
        """Whether another node's application has sent it here."""
        return bool(self.hops) and self.hops[-1].endswith(REPLAYED)

    @property
    def is_read(self) -> bool:
        """Whether the method is one that changes nothing."""
        return self.method == b"GET" or self.method == b"HEAD"


class Response:
    """A response's head.  Whoever gets one must not change it: the next like it is the same object.

    Attributes:
        status: its code.
        reason: the text after it.
        fields: the header, each line with its end; without what concerns the connection and the transfer coding only.
        length: bytes of the body, `CHUNKED` or `UNTIL_CLOSE`.
        counted: whether the header has a length: of the body, or for HEAD of what it would be.
        keep_alive: whether the application will take another request on the connection.
        upgraded: the protocol that it changes to with status 101.
        replay: value of a Fly-Replay line.
    """

    length = 0
    counted = False
    keep_alive = True
    upgraded = b""
    replay = b""

    def __init__(self, status: int, reason: bytes, fields: bytes) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields


_known_fields: Memo[Fields] = Memo()
_known_responses: Memo[Response] = Memo()  # of requests other than HEAD


def hopeless(part: bytes | bytearray, start: int) -> bool:
    """Whether the beginning of a request can never become a proper one, so that waiting for more is of no use.

    Args:
        part: what has arrived.
        start: where to begin to look.
    """
    return _HOPELESS.search(part, start) is not None


# ------------------------------------------------------------------------------------------------------------- requests


def parse_request(data: bytes, default_host: bytes = b"") -> Request:
    """The request whose head this is, its last empty line included.

    Args:
        data: exactly the head.
        default_host: what the application is told where an HTTP/1.0 client named none.

    Raises BadRequest.
    """
    end = data.find(b"\r\n")
    line = _LINE.fullmatch(data, 0, end)
    if line is None:
        raise BadRequest("malformed request")
    request = Request(*line.groups())
    rest = data[end - 1 :]
    fields = _known_fields.get(rest)
    if fields is None:
        fields = _read_fields(rest)
        _known_fields.put(rest, fields)
    request.take(fields)
    if request.method == b"CONNECT":
        raise BadRequest("CONNECT is not supported", 501)
    if request.target[:1] == b"/" or request.target == b"*":
        if fields.unchanged:
            request.head = data
            return request
        if fields.rebuilt is None and fields.host is not None:
            fields.rebuilt = _rebuilt(fields, rest[1:], fields.host)
    else:
        _from_absolute(request)
    again = fields.rebuilt if request.host is fields.host else None
    if again is None:
        again = _rebuilt(fields, rest[1:], default_host if request.host is None else request.host)
    request.head = b"%b %b HTTP/1.1%b" % (request.method, request.target, again)
    return request


def _read_fields(rest: bytes) -> Fields:
    """What follows the first line, from the minor version on.  Raises BadRequest."""
    if _FIELDS.fullmatch(rest) is None:
        raise BadRequest("malformed request")
    fields = Fields()
    found = fields.found = _found(_OF_REQUEST, rest)
    if rest[:1] == b"0":
        fields.http10, fields.keep_alive = True, False
    if b"content-length" in found or b"transfer-encoding" in found or b"expect" in found:
        _framing(fields, found)
    if b"connection" in found:
        _connection(fields, found)
    fields.cookies = tuple(found.get(b"cookie", ()))
    if b"litefs-proxy-hops" in found:
        fields.hops = tuple(_LIST.split(b",".join(found[b"litefs-proxy-hops"])))
    _host(fields, found)
    fields.unchanged = not (fields.http10 or b"upgrade" in found or fields.hops or _has_hop(found))
    return fields


def _found(pattern: re.Pattern[bytes], data: bytes) -> Found:
    found: Found = {}
    for name, value in pattern.findall(data):
        name = name.lower()
        if name in found:
            found[name].append(value.strip(b" \t"))
        else:
            found[name] = [value.strip(b" \t")]
    return found


def _has_hop(found: Found) -> bool:
    return b"connection" in found or b"keep-alive" in found or b"proxy-connection" in found


def _framing(request: Fields, found: Found) -> None:
    codings = found.get(b"transfer-encoding")
    lengths = found.get(b"content-length")
    if codings:
        if lengths:
            raise BadRequest("both Content-Length and Transfer-Encoding")
        if request.http10:
            raise BadRequest("Transfer-Encoding in an HTTP/1.0 request")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadRequest("unsupported transfer encoding", 501)
        request.length = CHUNKED
    elif lengths:
        if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
            raise BadRequest("bad Content-Length")
        request.length = int(lengths[0])
    expected = found.get(b"expect")
    if expected and not request.http10:
        if len(expected) > 1 or expected[0].lower() != b"100-continue":
            raise BadRequest("unknown expectation", 417)
        request.expects = request.length != 0


def _connection(request: Fields, found: Found) -> None:
    options = _options(found.get(b"connection", ()))
    if b"close" in options:
        request.keep_alive = False
    elif request.http10:
        request.keep_alive = b"keep-alive" in options
    if b"upgrade" in options and not request.http10:
        offered = b", ".join(found.get(b"upgrade", ()))
        if offered and not any(word.startswith(_TUNNELS_REFUSED) for word in _options([offered])):
            request.upgrade = offered


def _options(values: Sequence[bytes]) -> Collection[bytes]:
    if len(values) == 1 and b"," not in values[0]:
        return (values[0].lower(),)
    return {option for value in values for option in _LIST.split(value.lower())}


def _host(request: Fields, found: Found) -> None:
    hosts = found.get(b"host", ())
    if len(hosts) > 1:
        raise BadRequest("too many Host headers")
    if hosts:
        request.host = hosts[0]
    elif not request.http10:
        raise BadRequest("missing required Host header")


def _from_absolute(request: Request) -> None:
    """A target like http://host/path, as clients of forward proxies write it: its host counts."""
    scheme, mark, rest = request.target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise BadRequest("invalid request target")
    authority, slash, path = rest.partition(b"/")
    authority, question, query = authority.partition(b"?")
    if not authority or b"@" in authority:
        raise BadRequest("invalid request target")
    request.host = authority
    request.target = b"/" + path if slash else b"/" + question + query


def _rebuilt(fields: Fields, rest: bytes, host: bytes) -> bytes:
    """What the application gets to see after the first line, where that is not what came."""
    rest = _WITHOUT_HOP.sub(b"", rest)
    if fields.hops:
        rest = _WITHOUT_HOPS.sub(b"", rest)
    if b"upgrade" in fields.found:
        rest = _add(rest, b"Connection: Upgrade") if fields.upgrade else _WITHOUT_UPGRADE.sub(b"", rest)
    if fields.found.get(b"host") != [host]:
        rest = _add(_WITHOUT_HOST.sub(b"", rest), b"Host: " + host)
    return rest


def _add(head: bytes, line: bytes) -> bytes:
    return b"%b%b\r\n\r\n" % (head[:-2], line)


# ------------------------------------------------------------------------------------------------------------ responses


def parse_response(data: bytes, method: bytes) -> Response:
    """The response whose head this is, its last empty line included.

    Args:
        data: exactly the head.
        method: of the request, which decides whether there is a body.

    Raises BadResponse.
    """
    bodiless = method == b"HEAD"
    if not bodiless and (known := _known_responses.get(data)) is not None:
        return known
    response = _read_response(data, bodiless=bodiless)
    if not bodiless:
        _known_responses.put(data, response)
    return response


def _read_response(data: bytes, *, bodiless: bool) -> Response:
    match = _RESPONSE.fullmatch(data)
    if match is None:
        raise BadResponse("malformed response")
    minor, status, reason, block = match.groups()
    found = _found(_OF_RESPONSE, block)
    response = Response(int(status), reason or b"", block[2:])
    if minor == b"0" or b"connection" in found:
        _keep_alive(response, found, minor)
    if response.status == 101:
        response.upgraded = b", ".join(found.get(b"upgrade", ()))
    if b"fly-replay" in found:
        response.replay = found[b"fly-replay"][0]
    _response_framing(response, found, bodiless=bodiless)
    if b"transfer-encoding" in found:
        block = _WITHOUT_LENGTH.sub(b"", block)  # which the coding overrides
    if b"transfer-encoding" in found or _has_hop(found):
        response.fields = _WITHOUT_HOP_AND_CODING.sub(b"", block)[2:]
    return response


def _keep_alive(response: Response, found: Found, minor: bytes) -> None:
    options = _options(found.get(b"connection", ()))
    response.keep_alive = b"close" not in options and (minor == b"1" or b"keep-alive" in options)


def _response_framing(response: Response, found: Found, *, bodiless: bool) -> None:
    codings = found.get(b"transfer-encoding")
    lengths = found.get(b"content-length", ())
    if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
        raise BadResponse("bad Content-Length in the response")
    if codings:
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadResponse("unsupported transfer encoding in the response")
        response.length = CHUNKED
    else:
        response.length = int(lengths[0]) if lengths else UNTIL_CLOSE
        response.counted = bool(lengths)
    if bodiless or response.status < 200 or response.status in (204, 304):
        response.length = 0
