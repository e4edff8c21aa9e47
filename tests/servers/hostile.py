"""An S3 server that means ill. It looks at no signature; what it does follows from the name it is asked for.

    hostile.py READY-FILE           serves on a free port of 127.0.0.1, and on a second one, which stands for another host

Writes shell assignments to READY-FILE. GET /_ctl/elsewhere: requests the second port got, one a line.
GET /_ctl/sent/NAME: bytes which were sent for that listing or object. Listings by prefix, objects by key: the tables below.
Answers without an end are cut at GIANT bytes: nobody should come that far."""
import functools
import gzip
import hashlib
import http.server
import os
import sys
import threading
import time
import urllib.parse

GIANT = 10 << 30
BODY = bytes(range(256)) * 4096  # 1 MiB
BOMB = gzip.compress(bytes(256 << 20), 9)  # 260 KiB which unpack to 256 MiB

ELSEWHERE, SENT = [], {}
OPEN = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
CLOSE = '</ListBucketResult>'


@functools.cache
def etag(data):
    return '"' + hashlib.md5(data).hexdigest() + '"'


def row(key, size=len(BODY), tag=None):
    return (f'<Contents><Key>{key}</Key><LastModified>2024-01-02T03:04:05.000Z</LastModified><ETag>{tag or etag(BODY)}</ETag>'
            f'<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>')


def forever(piece):
    block = (piece * (65536 // len(piece) + 1)).encode()
    for _ in range(GIANT // len(block)):
        yield block


def rows_forever(prefix):
    for page in range(GIANT // 100000):
        yield ''.join(row(f'{prefix}{page:09}-{n:03}') for n in range(300)).encode()


def listing(prefix):
    """What a listing of this prefix sends: pieces of bytes."""
    def start(truncated='false', more=''):
        return f'{OPEN}<IsTruncated>{truncated}</IsTruncated><EncodingType>url</EncodingType>{more}'.encode()
    name = prefix.rstrip('/').split('/')[-1]
    if name == 'rows':
        yield start()
        yield from rows_forever(prefix)
    elif name == 'drip':
        yield start()
        for n in range(GIANT):
            yield row(f'{prefix}{n}').encode()
            time.sleep(0.2)
    elif name == 'text':
        yield start()
        yield f'<Contents><Key>{prefix}'.encode()
        yield from forever('a')
    elif name == 'deep':
        yield from forever('<a>')
    elif name == 'blanks':
        yield from forever('          ')
    elif name == 'entities':
        yield b'<?xml version="1.0"?><!DOCTYPE z [<!ENTITY a "aaaaaaaaaa">'
        for n in range(1, 12):
            yield f'<!ENTITY {chr(97 + n)} "{f"&{chr(96 + n)};" * 10}">'.encode()
        yield f']><ListBucketResult><Contents><Key>&l;</Key></Contents>{CLOSE}'.encode()
    elif name == 'file':
        yield f'<!DOCTYPE z [<!ENTITY a SYSTEM "file:///etc/hostname">]>{OPEN}{row("&a;")}{CLOSE}'.encode()
    elif name == 'loop':
        yield start('true', '<NextContinuationToken>again</NextContinuationToken>') + (row(prefix + 'a') + CLOSE).encode()
    elif name == 'foreign':
        yield start() + (row('other/secret') + row(prefix + 'ok') + CLOSE).encode()
    elif name == 'odd':
        yield start() + (''.join(row(prefix + k) for k in ('%2Fabs', '.objmig', 'esc%1B[31m', 'new%0Aline', 'nul%00', 'ok')) + CLOSE).encode()
    elif name == 'empty-sizes':
        yield start() + (row(prefix + 'minus', '-1') + CLOSE).encode()
    elif name == 'huge-sizes':
        yield start() + (row(prefix + 'huge', '99999999999999999999') + CLOSE).encode()
    elif prefix == 'no delimiter':
        yield start() + (row('good') + CLOSE).encode()
    elif prefix == '':
        folders = ''.join(f'<CommonPrefixes><Prefix>{n}/</Prefix></CommonPrefixes>' for n in LISTS)
        yield start() + (''.join(row(n, len(BOMB) if n == 'bomb' else len(BODY), etag(BOMB) if n == 'bomb' else None) for n in OBJECTS)
                         + folders + CLOSE).encode()
    else:
        yield start() + CLOSE.encode()


LISTS = ['rows', 'drip', 'text', 'deep', 'blanks', 'entities', 'file', 'loop', 'foreign', 'odd', 'empty-sizes', 'huge-sizes', 'packed', 'elsewhere', 'headers']
OBJECTS = ['good', 'longer', 'endless', 'shorter', 'whole', 'other-range', 'other-version', 'minus-length', 'two-lengths', 'bomb', 'packed-object',
           'elsewhere-object', 'headers-object', 'html']


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except OSError:  # the client had enough
            self.close_connection = True

    def begin(self, status, headers, length=None):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if length is not None:
            self.send_header('Content-Length', str(length))
        self.end_headers()

    def reply(self, status, body=b'', headers=()):
        self.begin(status, list(headers), len(body))
        if self.command != 'HEAD':
            self.wfile.write(body)

    def stream(self, name, pieces, status=200, headers=()):
        """Without a length, until the client goes away."""
        self.begin(status, [('Connection', 'close'), *headers])
        self.close_connection = True
        for piece in pieces:
            self.wfile.write(piece)
            SENT[name] = SENT.get(name, 0) + len(piece)

    def elsewhere(self):
        """To the other host, in each of the ways there are."""
        other = f'127.0.0.1:{self.server.other_port}'
        body = (f'<Error><Code>TemporaryRedirect</Code><Message>Please go to {other}\n2026-01-01T00:00:00Z error forged line\x1b[2J</Message>'
                f'<Endpoint>{other}</Endpoint><Bucket>b</Bucket></Error>').replace('\x1b', '&#27;')
        self.reply(307, body.encode(), [('Location', f'http://{other}{self.path}'), ('x-amz-bucket-region', 'elsewhere-1'),
                                        ('Refresh', f'0; url=http://{other}/'), ('Alt-Svc', f'h2="{other}"')])

    def headers_forever(self):
        self.send_response(200)
        self.end_headers = lambda: None
        self.flush_headers()
        line = b'X-Much: ' + b'y' * 1000 + b'\r\n'
        self.close_connection = True
        for _ in range(GIANT // len(line)):
            self.wfile.write(line)
            SENT['headers'] = SENT.get('headers', 0) + len(line)

    def get_list(self, prefix):
        name = prefix.rstrip('/')
        if name == 'elsewhere':
            self.elsewhere()
        elif name == 'headers':
            self.headers_forever()
        elif name == 'packed':
            self.reply(200, BOMB, [('Content-Encoding', 'gzip'), ('Content-Type', 'application/xml')])
        elif prefix == '' or name in ('foreign', 'odd', 'loop', 'entities', 'file', 'empty-sizes', 'huge-sizes') or name not in LISTS:
            self.reply(200, b''.join(listing(prefix)), [('Content-Type', 'application/xml')])
        else:
            self.stream(name, listing(prefix), headers=[('Content-Type', 'application/xml')])

    def get_object(self, key):
        tag = [('ETag', etag(BODY)), ('Last-Modified', 'Tue, 02 Jan 2024 03:04:05 GMT')]
        first, last = 0, len(BODY) - 1
        if 'Range' in self.headers:
            a, b = self.headers['Range'].removeprefix('bytes=').split('-')
            first, last = int(a), min(int(b), last) if b else last
        part = BODY[first:last + 1]
        where = [('Content-Range', f'bytes {first}-{last}/{len(BODY)}')]
        if key == 'longer':
            self.begin(206, tag + where, len(part) + 5000)
            self.wfile.write(part + b'z' * 5000)
        elif key == 'endless':
            self.stream(key, forever('e'), 206, tag + where)
        elif key == 'shorter':
            self.begin(206, tag + where, len(part))
            self.wfile.write(part[:len(part) // 2])
            self.close_connection = True
        elif key == 'whole':
            self.stream(key, forever('w'), 200, tag)
        elif key == 'other-range':
            self.reply(206, part[::-1], tag + [('Content-Range', f'bytes {first + 7}-{last + 7}/{len(BODY)}')])
        elif key == 'other-version':
            self.reply(206, part[::-1], [('ETag', etag(key.encode() + str(time.time()).encode()))] + where)
        elif key == 'minus-length':
            self.begin(206, tag + where, -5)
            self.wfile.write(part)
        elif key == 'two-lengths':
            self.begin(206, tag + where + [('Content-Length', '3')], len(part))
            self.wfile.write(part)
        elif key == 'packed-object':
            self.reply(206, BOMB, tag + where + [('Content-Encoding', 'gzip')])
        elif key == 'bomb':  # honest: the object is what is packed
            part = BOMB[first:last + 1] if 'Range' in self.headers else BOMB
            self.reply(206, part, [('ETag', etag(BOMB)), ('Content-Range', f'bytes {first}-{first + len(part) - 1}/{len(BOMB)}'),
                                   ('Content-Encoding', 'gzip')])
        elif key == 'html':
            self.reply(200, b'<html>Please log in</html>', [('Content-Type', 'text/html')])
        else:
            self.reply(206, part, tag + where)

    def handle_all(self):
        address = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(address.query, keep_blank_values=True)
        if self.server.is_other:
            ELSEWHERE.append(f'{self.command} {self.path}')
            return self.reply(200, b'')
        if address.path == '/_ctl/elsewhere':
            return self.reply(200, ''.join(line + '\n' for line in ELSEWHERE).encode())
        if address.path.startswith('/_ctl/sent/'):
            return self.reply(200, str(SENT.get(address.path.split('/')[-1], 0)).encode())
        key = urllib.parse.unquote(address.path).partition('/')[2].partition('/')[2]
        if self.command in ('PUT', 'POST', 'DELETE'):
            return self.change(key, query)
        if not key:
            return self.get_list(query.get('prefix', [''])[0] if 'delimiter' in query else 'no delimiter')
        if key == 'elsewhere-object':
            return self.elsewhere()
        if key == 'headers-object':
            return self.headers_forever()
        if self.command == 'HEAD':
            if key not in OBJECTS:
                return self.reply(404)
            self.begin(200, [('ETag', etag(BOMB if key == 'bomb' else BODY)), ('Last-Modified', 'Tue, 02 Jan 2024 03:04:05 GMT')],
                       len(BOMB) if key == 'bomb' else len(BODY))
            return None
        return self.get_object(key)

    def change(self, key, query):
        left = int(self.headers.get('Content-Length', 0))
        while left > 0:
            left -= len(self.rfile.read(min(left, 65536))) or left
        if key.startswith('put-elsewhere'):
            self.elsewhere()
        elif key.startswith('put-endless'):
            self.stream('put-endless', forever('p'))
        elif key.startswith('put-echo'):
            # What it was sent comes back in its words.
            said = ''.join(f'{n}: {v}\n' for n, v in self.headers.items())
            self.reply(403, f'<Error><Code>AccessDenied</Code><Message>{said}</Message></Error>'.encode())
        elif key.startswith('put-lie'):
            self.reply(200, b'', [('ETag', etag(b'something else'))])
        else:
            self.reply(405, b'')
        return query

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_all


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, other_port):
        super().__init__(('127.0.0.1', 0), Handler)
        self.is_other = other_port is None
        self.other_port = other_port


other = Server(None)
server = Server(other.server_port)
threading.Thread(target=other.serve_forever, daemon=True).start()
with open(sys.argv[1] + '.new', 'w', encoding='ascii') as f:
    f.write(f'HOSTILE_PORT={server.server_port}\nHOSTILE_OTHER_PORT={other.server_port}\n')

os.rename(sys.argv[1] + '.new', sys.argv[1])
server.serve_forever()
