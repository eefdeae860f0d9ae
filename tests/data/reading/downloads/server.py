"""A web server on this machine that can break off, and continue files as real ones do."""

import contextlib
import http.server
import threading


class Files:
    """What the server has, and what it was asked for.

    Attributes:
        content: {path: bytes}.
        break_at: bytes after which it ends the next answer; None for all of it.
        ranges: whether it continues files.
        moved: {path: the path it redirects to}.
        status: {path: the error it answers with}.
        requests: (path, the header Range or None) of each request.
    """

    def __init__(self):
        self.content, self.break_at, self.ranges, self.requests = {}, None, True, []
        self.moved, self.status = {}, {}
        self.address = ""


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        files = self.server.files
        wanted = self.headers.get("Range")
        files.requests.append((self.path, wanted))
        content = files.content.get(self.path)
        if self.path in files.moved:
            self.send_response(302)
            self.send_header("Location", files.moved[self.path])
            self.end_headers()
            return
        if content is None or self.path in files.status:
            self.send_error(files.status.get(self.path, 404))
            return
        tag, start = f'"{hash(content)}"', 0
        if wanted and files.ranges and self.headers.get("If-Range") == tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", tag)
        self.end_headers()
        end, files.break_at = files.break_at, None
        self.wfile.write(content[start : None if end is None else start + end])

    def log_message(self, *_):
        """Nothing."""


@contextlib.contextmanager
def serving():
    """Yields the ``Files`` of a server, whose ``address`` ends in no slash."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.files = Files()
    server.files.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
