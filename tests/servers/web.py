"""A web server whose answers are odd or wrong, on 127.0.0.1; a second port stands for another host.

    web.py READY-FILE       writes ODD_PORT=… ODD_PORT2=… to it when both are served

What a request gets follows from the first component of its path; the second is a name and the third, if there is one, a number:

    /ok/NAME                 the body, with ranges, ETag and Last-Modified
    /cut/NAME/N              the first N GETs with a body promise all and deliver half
    /changing/NAME           /_ctl/change makes it another version: another ETag and other bytes of the same length
    /changing-time/NAME      the same without ETag: another Last-Modified
    /chunked/NAME            no length, no ranges: in chunks
    /closed/NAME             no length, no ranges: HTTP/1.0, which ends when the connection does
    /multipart/NAME          a range comes as multipart/byteranges
    /short/NAME              at most 70,000 bytes of a range
    /shifted/NAME            Content-Range is another than the one asked for
    /emptyhead/NAME          HEAD says Content-Length: 0
    /busy/NAME/N             503 with Retry-After: 0 to the first N requests
    /coded/NAME              a Content-Encoding, ETags that are weak, Content-MD5
    /chain/NAME/N            N redirects to /ok/NAME
    /away/NAME               a redirect to the other port's /ok/NAME
    /gone/NAME               410

GET /_ctl/seen: requests, one a line: port method path range authorization. GET /_ctl/forget. GET /_ctl/change."""
import base64
import email.utils
import hashlib
import http.server
import random
import sys
import threading

SIZE = 300_000
LOCK = threading.Lock()
SEEN, COUNTS = [], {}
VERSION = 1
PORTS = []


def body(name, version=1):
    return random.Random(f'{name}/{version}').randbytes(SIZE)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def version_string(self):
        return 'odd'

    def count(self):
        with LOCK:
            COUNTS[self.path] = COUNTS.get(self.path, 0) + 1
            return COUNTS[self.path]

    def send(self, status, headers, data=b'', promised=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if 'Transfer-Encoding' not in headers and promised is not None:
            self.send_header('Content-Length', str(promised))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(data)

    def asked(self):
        text = self.headers.get('Range', '')
        if not text.startswith('bytes='):
            return None
        first, last = text[6:].split('-')
        return int(first), min(int(last), SIZE - 1)

    def control(self):
        global VERSION
        what = self.path.split('/')[2]
        with LOCK:
            text = ''.join(line + '\n' for line in SEEN) if what == 'seen' else ''
            if what == 'forget':
                SEEN.clear()
            elif what == 'change':
                VERSION += 1
        self.send(200, {}, text.encode(), len(text.encode()))

    def do_GET(self):
        if self.path.startswith('/_ctl/'):
            self.control()
            return
        with LOCK:
            SEEN.append(f'{self.server.server_port} {self.command} {self.path} {self.headers.get("Range", "-")} '
                        f'{self.headers.get("Authorization", "-")}')
        kind, name, number = (self.path.split('?')[0].strip('/').split('/') + ['', '', ''])[:3]
        number = int(number or 0)
        changing = kind.startswith('changing')
        data = body(name, VERSION if changing else 1)
        tag = hashlib.sha1(data).hexdigest()
        head = {'Last-Modified': email.utils.formatdate(1700000000 + (VERSION if changing else 1), usegmt=True)}
        if kind != 'changing-time':
            head['ETag'] = f'"{tag}"' if kind != 'coded' else f'W/"{tag}"'
        if kind == 'gone':
            self.send(410, {}, b'', 0)
        elif kind == 'busy' and self.count() <= number:
            self.send(503, {'Retry-After': '0'}, b'busy', 4)
        elif kind == 'chain' and number > 0:
            self.send(302, {'Location': f'../{name}/{number - 1}' if number > 1 else f'/ok/{name}'}, b'', 0)
        elif kind == 'away':
            other = PORTS[1] if self.server.server_port == PORTS[0] else PORTS[0]
            self.send(302, {'Location': f'http://127.0.0.1:{other}/ok/{name}?from=away'}, b'', 0)
        elif kind == 'chunked':
            head['Transfer-Encoding'] = 'chunked'
            self.send(200, head, b''.join(b'%x\r\n%s\r\n' % (len(data[i:i + 50000]), data[i:i + 50000])
                                          for i in range(0, len(data), 50000)) + b'0\r\n\r\n')
        elif kind == 'closed':
            self.protocol_version = 'HTTP/1.0'
            self.close_connection = True
            self.send(200, head, data)
        elif kind == 'emptyhead' and self.command == 'HEAD':
            self.send(200, head, b'', 0)
        else:
            self.ranged(kind, number, data, head)

    def ranged(self, kind, number, data, head):
        asked = self.asked()
        if kind == 'coded':
            head['Content-Encoding'] = 'x-ours'
            head['Content-MD5'] = base64.b64encode(hashlib.md5(data).digest()).decode()
        if not asked:
            self.send(200, head, data, len(data))
            return
        first, last = asked
        if first >= len(data):
            self.send(416, {'Content-Range': f'bytes */{len(data)}'}, b'', 0)
            return
        if kind == 'short':
            last = min(last, first + 69_999)
        part = data[first:last + 1]
        if kind == 'multipart':
            text = (b'--x\r\nContent-Type: text/plain\r\nContent-Range: bytes %d-%d/%d\r\n\r\n' % (first, last, len(data)) +
                    part + b'\r\n--x--\r\n')
            self.send(206, dict(head, **{'Content-Type': 'multipart/byteranges; boundary=x'}), text, len(text))
            return
        shift = 1 if kind == 'shifted' else 0
        head['Content-Range'] = f'bytes {first + shift}-{last + shift}/{len(data) + shift}'
        if kind == 'cut' and last > first and self.count() <= number:
            self.send(206, head, part[:len(part) // 2], len(part))
            self.close_connection = True
            return
        self.send(206, head, part, len(part))

    do_HEAD = do_GET


def main():
    servers = [http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) for _ in range(2)]
    PORTS.extend(s.server_port for s in servers)
    for s in servers:
        s.daemon_threads = True
        threading.Thread(target=s.serve_forever, daemon=True).start()
    with open(sys.argv[1], 'w', encoding='ascii') as f:
        f.write(f'ODD_PORT={PORTS[0]} ODD_PORT2={PORTS[1]}\n')
    threading.Event().wait()


if __name__ == '__main__':
    main()
