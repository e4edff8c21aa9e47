// What the test servers of GCS and BOS share: one request from its first byte to its log line, buckets and objects behind it,
// faults, and the control port. A server brings what is its provider's own, as `P`:
//
//   name, env            "gcs", "GCS": of the options and shell assignments
//   options              its own, beside those below
//   vendor               "x-goog-": before its headers
//   classes, archived    storage classes; those to be restored first
//   locate(r)            bucket and key of a request: { bucketName, key }
//   authenticate(r, credentials, now_s)  throws a Refusal, perhaps later
//   checkKey(key)        throws one
//   error(r, err, id)    { headers, body } of a Refusal
//   headers(object)      of an answer about an object, beside the standard ones
//   result(what, …)      bodies: "copy" "part" (object), "begin" (r, id), "complete" (r, object), "parts" "uploads" "list" (r, page)
//   params               how it calls "max" "marker" "maxParts" "partMarker" "maxUploads" "keyMarker"
//   completed(text)      [{ number, etag }] of a request's body; deleted(text): keys
//   deletes(failed)      the answer to a batch
//   composite(parts)     the etag of an object made of parts
//   absent(r)            whether the request says "create only"
//   metaBytes(name, value)  what one counts
//
// Log, faults and control port are those of cos/server.mjs, but for restoring, keepalive and buckets of other regions.
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import { require, options, RequestLog, Faults, controlServer, listen, announce, operation, sleep } from './common.mjs';
import { Body, BodyWriter, Bucket, toBytes, toText, useDirectory } from './store.mjs';

export { require };
export const { CRC32C } = require('@google-cloud/storage');

// An answer which is not a success.
export class Refusal extends Error {
    constructor(status, code, message, headers = {}) {
        super(message);
        Object.assign(this, { status, code, headers });
    }
}

class ClientGone extends Error {}

const GIB = 1024 ** 3;
const STANDARD_HEADERS = ['cache-control', 'content-disposition', 'content-encoding', 'content-language', 'content-type', 'expires'];
export const quoted = etag => `"${etag}"`;
export const unquoted = etag => etag.trim().replace(/^"(.*)"$/, '$1');
export const iso = ms => new Date(ms).toISOString();

export function percentDecode(text) {
    if (/%(?![0-9A-Fa-f]{2})/.test(text))
        throw new Refusal(400, 'InvalidURI', 'Bad percent-encoding.');
    const bytes = Buffer.from(text.replace(/%(..)/g, (_, hex) => String.fromCharCode(parseInt(hex, 16))), 'latin1');
    const decoded = bytes.toString('utf8');
    if (!Buffer.from(decoded, 'utf8').equals(bytes))
        throw new Refusal(400, 'InvalidURI', 'The path or a parameter is not UTF-8.');
    return decoded;
}

function parseQuery(text) {
    const query = new Map();
    for (const pair of text === '' ? [] : text.split('&')) {
        const [name, ...value] = pair.split('=');
        // Half the world reads a bare plus as a blank. A client must not leave it to the server.
        if (pair.includes('+') || query.has(percentDecode(name)))
            throw new Refusal(400, 'InvalidURI', 'A parameter is ambiguous.');
        query.set(percentDecode(name), percentDecode(value.join('=')));
    }
    return query;
}

function parseHeaders(raw) {
    const headers = new Map();
    for (let i = 0; i < raw.length; i += 2) {
        const name = raw[i].toLowerCase(), value = Buffer.from(raw[i + 1], 'latin1').toString('utf8');
        headers.set(name, headers.has(name) ? `${headers.get(name)},${value}` : value);
    }
    return headers;
}

const matches = (list, etag) => list.trim() === '*' || list.split(',').some(e => unquoted(e) === etag);

function parseRange(text, size) {
    const m = /^bytes=(\d+)-(\d*)$/.exec(text.trim());
    if (!m)
        return null;
    const from = Number(m[1]), to = m[2] === '' ? size : Math.min(size, Number(m[2]) + 1);
    if (from >= size)
        throw new Refusal(416, 'InvalidRange', 'The requested range cannot be satisfied.', { 'Content-Range': `bytes */${size}` });
    return [from, to];
}

export async function crc32cOf(body) {
    const crc = new CRC32C();
    for await (const part of body.read())
        crc.update(part);
    return crc.valueOf() >>> 0;
}

// Until the connection takes more, or is gone.
function roomIn(res) {
    return new Promise(resolve => {
        const go = () => { res.off('drain', go).off('close', go); resolve(); };
        res.on('drain', go).on('close', go);
    });
}

export async function serve(P) {
    const opt = options({
        dir: '', port: 0, control: 0, log: '', ready: '', bucket: ['test-bucket'], cred: ['testKeyId:testSecretKeyForTestsOnly'],
        max_put: 5 * GIB, min_part: 5 << 20, max_parts: 10000, max_meta: 2048, max_key: 1024, ...P.options,
    });
    useDirectory(opt.dir);
    const log = new RequestLog(opt.log);
    const faults = new Faults(['status', 'status_after', 'lost', 'reset', 'cut', 'blackhole', 'error200', 'truncate', 'corrupt', 'wrong_etag']);
    const buckets = new Map(opt.bucket.map(name => [name, new Bucket(name, '')]));
    const credentials = new Map(opt.cred.map(c => { const [id, secret, token] = c.split(':'); return [id, { secret, token }]; }));
    const clock = { offset_s: 0 };
    const now = () => Date.now() + clock.offset_s * 1000;
    const param = (r, name) => r.query.get(P.params[name] ?? name) ?? '';

    function count(r, name) {
        const text = param(r, name);
        if (text !== '' && !/^\d+$/.test(text))
            throw new Refusal(400, 'InvalidArgument', `${name} is not a number.`);
        return text === '' ? 1000 : Math.min(Number(text), 1000);
    }

    function bucketNamed(name) {
        if (!buckets.has(name))
            throw new Refusal(404, 'NoSuchBucket', 'The specified bucket does not exist.');
        return buckets.get(name);
    }

    // What a request says of the object it makes.
    function description(headersOf) {
        const headers = {}, meta = {}, prefix = P.vendor + 'meta-';
        let metaBytes = 0;
        for (const [name, value] of headersOf) {
            if ((P.standard ?? STANDARD_HEADERS).includes(name) && value !== '')
                headers[name] = value;
            if (name.startsWith(prefix)) {
                meta[name.slice(prefix.length)] = value;
                metaBytes += P.metaBytes(name.slice(prefix.length), value);
            }
        }
        if (metaBytes > opt.max_meta)
            throw new Refusal(400, 'MetadataTooLarge', `User metadata of ${metaBytes} bytes is over ${opt.max_meta}.`);
        const storageClass = headersOf.get(P.vendor + 'storage-class') ?? 'STANDARD';
        if (!P.classes.includes(storageClass))
            throw new Refusal(400, 'InvalidStorageClass', `Unknown storage class ${storageClass}.`);
        return { headers, meta, storageClass, sse: headersOf.get(P.vendor + P.sse) ?? '' };
    }

    function replyHeaders(object) {
        const h = { 'content-type': 'application/octet-stream', ...object.headers, 'ETag': quoted(object.etag),
            'Last-Modified': new Date(object.modified).toUTCString(), ...P.headers(object) };
        for (const [name, value] of Object.entries(object.meta))
            h[`${P.vendor}meta-${name}`] = Buffer.from(value, 'utf8').toString('latin1');
        if (object.storageClass !== 'STANDARD')
            h[P.vendor + 'storage-class'] = object.storageClass;
        if (object.sse)
            h[P.vendor + P.sse] = object.sse;
        return h;
    }

    function objectOf(bucket, byteKey) {
        if (!bucket.objects.has(byteKey))
            throw new Refusal(404, 'NoSuchKey', 'The specified key does not exist.');
        return bucket.objects.get(byteKey);
    }

    function put(bucket, byteKey, object) {
        bucket.put(byteKey, { ...object, modified: now(), generation: String(now()) + String(crypto.randomInt(1000)).padStart(3, '0') });
        return bucket.objects.get(byteKey);
    }

    function checkMd5(r) {
        const text = r.headers.get('content-md5');
        if (text !== undefined && Buffer.from(text, 'base64').toString('hex') !== r.body.md5)
            throw new Refusal(400, 'BadDigest', 'The Content-MD5 you specified did not match what we received.');
    }

    function mayWrite(r, bucket) {
        P.checkKey(r.key);
        if (r.byteKey.length > opt.max_key)
            throw new Refusal(400, 'KeyTooLong', `The key is longer than ${opt.max_key} bytes.`);
        if (P.absent(r) && bucket.objects.has(r.byteKey))
            throw new Refusal(412, 'PreconditionFailed', 'The object exists.');
    }

    const frozen = object => P.archived.includes(object.storageClass);
    function notFrozen(object) {
        if (frozen(object))
            throw new Refusal(403, 'InvalidObjectState', 'The operation is not valid for the class of the object.',
                { [P.vendor + 'storage-class']: object.storageClass });
    }

    function copySource(r) {
        const text = r.headers.get(P.vendor + 'copy-source').replace(/^\//, '');
        if (/[^\x21-\x7e]|[+?]/.test(text) || !text.includes('/'))
            throw new Refusal(400, 'InvalidArgument', 'The copy source is not bucket/key, percent-encoded.');
        const object = objectOf(bucketNamed(text.slice(0, text.indexOf('/'))), toBytes(percentDecode(text.slice(text.indexOf('/') + 1))));
        const wanted = r.headers.get(P.vendor + 'copy-source-if-match');
        if (wanted !== undefined && !matches(wanted, object.etag))
            throw new Refusal(412, 'PreconditionFailed', 'A condition on the copy source does not hold.');
        notFrozen(object);
        return object;
    }

    function uploadOf(r, bucket) {
        const upload = bucket.uploads.get(r.query.get('uploadId'));
        if (!upload || upload.byteKey !== r.byteKey)
            throw new Refusal(404, 'NoSuchUpload', 'The specified multipart upload does not exist.');
        return upload;
    }

    function setPart(r, bucket, part) {
        const upload = uploadOf(r, bucket), n = Number(r.query.get('partNumber'));
        if (!Number.isInteger(n) || n < 1 || n > opt.max_parts)
            throw new Refusal(400, 'InvalidArgument', `partNumber must be 1 to ${opt.max_parts}.`);
        upload.parts.get(n)?.body.drop();
        upload.parts.set(n, { ...part, modified: now() });
    }

    const reply = (body, headers = {}) => ({ status: 200, headers: { 'Content-Type': P.contentType, ...headers }, body: Buffer.from(String(body)) });

    const operations = {
        HeadBucket: () => ({ status: 200, headers: {} }),
        GetBucket(r, bucket) {
            const marker = toBytes(param(r, 'marker')), prefix = toBytes(param(r, 'prefix')), delimiter = toBytes(param(r, 'delimiter'));
            const max = count(r, 'max');
            const page = bucket.list(prefix, delimiter, marker, max);
            return reply(P.result('list', r, { bucket, prefix, delimiter, marker, max, ...page, objects: page.keys.map(key => ({ key, ...bucket.objects.get(key) })) }));
        },
        HeadObject: (r, bucket) => operations.GetObject(r, bucket),
        async GetObject(r, bucket) {
            const object = objectOf(bucket, r.byteKey);
            if (r.headers.has('if-match') && !matches(r.headers.get('if-match'), object.etag))
                throw new Refusal(412, 'PreconditionFailed', 'A condition of the request does not hold.');
            if (r.method === 'GET')
                notFrozen(object);
            const headers = replyHeaders(object), size = object.body.size;
            const other = await P.transcoded?.(r, object, headers);
            if (other)
                return { status: 200, headers, body: other };
            const range = r.headers.has('range') ? parseRange(r.headers.get('range'), size) : null;
            if (!range)
                return { status: 200, headers, body: object.body.slice(0, size) };
            headers['Content-Range'] = `bytes ${range[0]}-${range[1] - 1}/${size}`;
            return { status: 206, headers, body: object.body.slice(range[0], range[1]) };
        },
        PutObject(r, bucket) {
            mayWrite(r, bucket);
            const about = description(r.headers);
            checkMd5(r);
            const { md5, crc32c } = r.body;
            const object = put(bucket, r.byteKey, { ...about, body: r.takeBody(), etag: md5, md5, crc32c });
            return { status: 200, headers: { 'ETag': quoted(object.etag), ...P.headers(object) } };
        },
        CopyObject(r, bucket) {
            mayWrite(r, bucket);
            const from = copySource(r);
            const directive = (r.headers.get(P.vendor + 'metadata-directive') ?? 'copy').toLowerCase();
            const { md5, etag, crc32c } = from;
            const about = directive === 'replace' ? description(r.headers) : { headers: from.headers, meta: from.meta, storageClass: 'STANDARD', sse: '' };
            const object = put(bucket, r.byteKey, { ...about, body: from.body.slice(0, from.body.size), etag, md5, crc32c });
            return reply(P.result('copy', object), P.headers(object));
        },
        DeleteObject(r, bucket) {
            if (!bucket.remove(r.byteKey))
                throw new Refusal(404, 'NoSuchKey', 'The specified key does not exist.');
            return { status: 204 };
        },
        DeleteMultipleObjects(r, bucket) {
            if (!P.deleted)
                throw new Refusal(400, 'InvalidArgument', 'Invalid query parameter.');
            for (const key of P.deleted(r.bodyText))
                bucket.remove(toBytes(key));
            return P.deletes([]);
        },
        InitiateMultipartUpload(r, bucket) {
            mayWrite(r, bucket);
            const id = crypto.randomBytes(24).toString('hex');
            bucket.uploads.set(id, { ...description(r.headers), byteKey: r.byteKey, parts: new Map(), initiated: now() });
            return reply(P.result('begin', r, id));
        },
        UploadPart(r, bucket) {
            uploadOf(r, bucket);
            checkMd5(r);
            const { md5, crc32c } = r.body;
            setPart(r, bucket, { body: r.takeBody(), etag: md5, crc32c });
            return { status: 200, headers: { 'ETag': quoted(md5), ...P.headers({ md5, crc32c }) } };
        },
        async UploadPartCopy(r, bucket) {
            if (!P.partCopy)
                throw new Refusal(501, 'NotImplemented', 'A header you provided implies functionality that is not implemented.');
            uploadOf(r, bucket);
            const from = copySource(r);
            const m = /^bytes=(\d+)-(\d+)$/.exec(r.headers.get(P.vendor + 'copy-source-range') ?? `bytes=0-${from.body.size - 1}`);
            if (!m || Number(m[2]) < Number(m[1]) || Number(m[2]) >= from.body.size)
                throw new Refusal(416, 'InvalidRange', 'The range is not within the source.');
            const body = from.body.slice(Number(m[1]), Number(m[2]) + 1);
            const part = { body, etag: (await body.digest()).md5, crc32c: await crc32cOf(body), modified: now() };
            setPart(r, bucket, part);
            return reply(P.result('part', part), P.headers(part));
        },
        ListParts(r, bucket) {
            const upload = uploadOf(r, bucket), max = count(r, 'maxParts'), marker = Number(param(r, 'partMarker') || 0);
            const numbers = [...upload.parts.keys()].filter(n => n > marker).sort((a, b) => a - b);
            const page = numbers.slice(0, max);
            return reply(P.result('parts', r, { marker, max, truncated: page.length < numbers.length, next: page.at(-1) ?? marker, upload,
                parts: page.map(number => ({ number, ...upload.parts.get(number) })) }));
        },
        ListMultipartUploads(r, bucket) {
            const prefix = toBytes(param(r, 'prefix')), keyMarker = toBytes(param(r, 'keyMarker')), idMarker = param(r, 'idMarker'), max = count(r, 'maxUploads');
            const all = [...bucket.uploads].map(([id, u]) => ({ id, ...u })).filter(u => u.byteKey.startsWith(prefix))
                .filter(u => u.byteKey > keyMarker || (u.byteKey === keyMarker && idMarker !== '' && u.id > idMarker))
                .sort((a, b) => a.byteKey < b.byteKey ? -1 : a.byteKey > b.byteKey ? 1 : a.id < b.id ? -1 : 1);
            const page = all.slice(0, max);
            return reply(P.result('uploads', r, { prefix, keyMarker, idMarker, max, truncated: page.length < all.length, last: page.at(-1), uploads: page }));
        },
        async CompleteMultipartUpload(r, bucket) {
            const upload = uploadOf(r, bucket);
            if (!P.noCommitCondition && P.absent(r) && bucket.objects.has(r.byteKey))
                throw new Refusal(412, 'PreconditionFailed', 'The object exists.');
            if (P.noCommitCondition && P.absent(r))
                throw new Refusal(400, 'InvalidArgument', 'Preconditions are not supported here.');
            const wanted = P.completed(r.bodyText);
            if (wanted.some((p, i) => i > 0 && p.number <= wanted[i - 1].number))
                throw new Refusal(400, 'InvalidPartOrder', 'The list of parts was not in ascending order.');
            const parts = wanted.map(p => {
                const part = upload.parts.get(p.number);
                if (!part || part.etag !== unquoted(p.etag ?? ''))
                    throw new Refusal(400, 'InvalidPart', `Part ${p.number} was not uploaded, or its ETag differs.`);
                return part;
            });
            if (parts.length === 0)
                throw new Refusal(400, P.malformed, 'A list of parts is expected.');
            if (parts.slice(0, -1).some(p => p.body.size < opt.min_part))
                throw new Refusal(400, 'EntityTooSmall', `A part which is not the last is smaller than ${opt.min_part} bytes.`);
            const { headers, meta, storageClass, sse } = upload;
            const body = Body.concat(parts.map(p => p.body));
            const object = put(bucket, r.byteKey, { headers, meta, storageClass, sse, body, etag: P.composite(parts), crc32c: await crc32cOf(body) });
            bucket.dropUpload(r.query.get('uploadId'));
            return reply(P.result('complete', r, object), P.completeHeaders?.(object));
        },
        AbortMultipartUpload(r, bucket) {
            uploadOf(r, bucket);
            bucket.dropUpload(r.query.get('uploadId'));
            return { status: 204 };
        },
    };

    // Takes the whole body in, with its digests. `cutAt`: a fault which ends the connection after so many bytes.
    function receive(req, entry, small, cutAt) {
        return new Promise((resolve, reject) => {
            const writer = new BodyWriter(), crc = new CRC32C(), texts = [];
            const gone = () => { writer.abandon(); reject(new ClientGone('the client went away')); };
            req.on('data', part => {
                entry.req_bytes += part.length;
                if (cutAt !== undefined && entry.req_bytes > cutAt)
                    return req.socket.resetAndDestroy();
                writer.write(part);
                crc.update(part);
                if (small)
                    texts.push(part);
            });
            req.on('end', () => {
                req.off('close', gone);
                resolve({ body: Object.assign(writer.end(), { crc32c: crc.valueOf() >>> 0 }), text: Buffer.concat(texts).toString('utf8') });
            });
            req.on('close', gone).on('error', gone);
        });
    }

    function errorReply(r, err, id) {
        if (!(err instanceof Refusal)) {
            console.error(err);
            err = new Refusal(500, 'InternalError', err.message);
        }
        return { status: err.status, code: err.code, headers: { 'Content-Type': P.contentType, ...err.headers }, body: Buffer.from(String(P.error(r, err, id))) };
    }

    async function send(req, res, r, answer, entry, done, rule) {
        const body = answer.body, size = body === undefined ? 0 : body instanceof Body ? body.size : body.length;
        const withBody = r.method !== 'HEAD' && answer.status !== 204 && body !== undefined;
        entry.status = answer.status;
        if (answer.code)
            entry.code = answer.code;
        res.writeHead(answer.status, { 'Server': P.name, 'Date': new Date(now()).toUTCString(), [P.requestId]: entry.request_id,
            ...(answer.status !== 204 && { 'Content-Length': size }), ...answer.headers });
        const limit = rule?.action === 'truncate' ? rule.bytes ?? 1000 : Infinity;
        entry.body ||= withBody && body instanceof Body && size > 0;
        try {
            for await (let part of !withBody ? [] : body instanceof Body ? body.read() : [body]) {
                const at = (rule?.offset ?? 0) - entry.res_bytes;
                if (rule?.action === 'corrupt' && at >= 0 && at < part.length) {
                    part = Buffer.from(part);
                    part[at] ^= 1;
                }
                part = part.subarray(0, limit - entry.res_bytes);
                entry.res_bytes += part.length;
                if (entry.res_bytes === size)
                    done();
                if (res.destroyed)
                    return;
                if (!res.write(part))
                    await roomIn(res);
                if (entry.res_bytes >= limit)
                    return setTimeout(() => req.socket.destroy(), 20);
            }
        } finally {
            if (body instanceof Body)
                body.drop();
        }
        done();
        res.end();
    }

    const SMALL = ['DeleteMultipleObjects', 'CompleteMultipartUpload', 'InitiateMultipartUpload', 'CopyObject', 'UploadPartCopy'];

    async function handle(req, res, r, entry, finish) {
        const mark = req.url.indexOf('?');
        Object.assign(r, { rawPath: mark < 0 ? req.url : req.url.slice(0, mark), rawQuery: mark < 0 ? '' : req.url.slice(mark + 1) });
        Object.assign(entry, { path: r.rawPath, query: r.rawQuery });
        r.query = parseQuery(r.rawQuery);
        Object.assign(r, P.locate(r));
        r.byteKey = toBytes(r.key);
        r.op = operation(r.method, r.bucketName, r.key, n => r.query.has(n), r.headers.has(P.vendor + 'copy-source'));
        Object.assign(entry, { op: r.op, bucket: r.bucketName, key: r.key });
        const { rule, delay_ms, held } = faults.match({ ...entry });
        const act = rule?.action;
        if (rule)
            entry.fault = act;
        await sleep(delay_ms);
        await Promise.all(held);
        if (act === 'reset')
            return req.socket.resetAndDestroy();
        await P.authenticate(r, credentials, Math.floor(now() / 1000));
        if (!(r.op in operations))
            throw new Refusal(405, 'MethodNotAllowed', 'The method is not allowed against this resource.');
        if (['PutObject', 'UploadPart'].includes(r.op) && !r.headers.has('content-length'))
            throw new Refusal(411, 'MissingContentLength', 'You must provide the Content-Length HTTP header.');
        if (Number(r.headers.get('content-length') ?? 0) > opt.max_put)
            throw new Refusal(400, 'EntityTooLarge', 'Your proposed upload exceeds the maximum allowed size.');
        const small = SMALL.includes(r.op);
        const got = await receive(req, entry, small, act === 'cut' ? rule.bytes ?? 1000 : undefined);
        r.body = got.body;
        r.bodyText = got.text;
        entry.body = !small && entry.req_bytes > 0;
        P.checkBody?.(r);
        const failure = status => errorReply(r, new Refusal(status, rule.code ?? 'SlowDown', rule.message ?? 'Injected.', rule.headers ?? {}), entry.request_id);
        const run = async () => operations[r.op](r, bucketNamed(r.bucketName));
        if (act === 'blackhole')
            return undefined;
        if (act === 'status')
            return finish(failure(rule.status ?? 503));
        if (act === 'error200')
            return finish(failure(200));
        const answer = await run();
        if (act === 'lost' || act === 'status_after') {
            if (answer.body instanceof Body)
                answer.body.drop();
            return act === 'lost' ? req.socket.resetAndDestroy() : finish(failure(rule.status ?? 503));
        }
        if (act === 'wrong_etag')
            answer.headers = { ...answer.headers, 'ETag': quoted('0'.repeat(32)), ...P.headers({ crc32c: 1, md5: '0'.repeat(32) }) };
        return finish(answer, rule);
    }

    const server = http.createServer(async (req, res) => {
        res.sendDate = false;
        const r = { method: req.method, headers: parseHeaders(req.rawHeaders), host: req.headers.host ?? '', key: '', bucketName: '' };
        const entry = { start_ms: Date.now(), end_ms: 0, method: req.method, path: '', query: '', status: 0, req_bytes: 0, res_bytes: 0,
            op: 'Unknown', bucket: '', key: '', body: false, request_id: crypto.randomBytes(12).toString('hex') };
        let logged = false;
        const done = () => {
            if (!logged) {
                logged = true;
                entry.end_ms = Date.now();
                log.write(entry);
            }
        };
        res.on('close', () => {
            if (!res.writableFinished && !entry.fault)
                entry.aborted = true;
            done();
            r.body?.drop();
        });
        // The stored object takes the body over; what nobody took goes when the request ends.
        r.takeBody = () => {
            const body = r.body;
            r.body = { md5: body.md5, crc32c: body.crc32c, size: body.size, drop() {} };
            return body;
        };
        const finish = (answer, rule) => send(req, res, r, answer, entry, done, rule);
        try {
            await handle(req, res, r, entry, finish);
        } catch (err) {
            if (err instanceof ClientGone || res.destroyed)
                return;
            if (res.headersSent) {
                console.error(err);
                req.socket.destroy();
                return;
            }
            // Without a reader of the rest the next request on this connection would not be understood.
            req.on('data', part => { entry.req_bytes += part.length; });
            await finish(errorReply(r, err, entry.request_id));
        }
    });
    Object.assign(server, { requestTimeout: 0, headersTimeout: 0, keepAliveTimeout: 0 }); // the client ends it

    const split = rest => { const cut = rest.indexOf('/'); return cut < 0 ? [rest, ''] : [rest.slice(0, cut), rest.slice(cut + 1)]; };
    const found = rest => { const [bucket, key] = split(rest); return buckets.get(bucket)?.objects.get(toBytes(key)); };
    const whole = async body => { const parts = []; for await (const p of body.read()) parts.push(p); return Buffer.concat(parts); };
    const facts = (key, o) => ({ key: toText(key), size: o.body.size, etag: o.etag, md5: o.md5, crc32c: o.crc32c, headers: o.headers, meta: o.meta,
        storage_class: o.storageClass, sse: o.sse, modified: o.modified });
    const control = controlServer(faults, {
        'POST /_ctl/cred': (rest, body) => {
            const { id, ...wanted } = JSON.parse(body);
            credentials.set(id, { ...credentials.get(id), ...wanted });
            return { id };
        },
        'POST /_ctl/clock': (rest, body) => Object.assign(clock, JSON.parse(body)),
        'GET /_ctl/uploads': () => [...buckets.values()].flatMap(b => [...b.uploads].map(([id, u]) => ({ bucket: b.name, key: toText(u.byteKey), id,
            parts: [...u.parts].map(([number, p]) => ({ number, size: p.body.size, etag: p.etag })) }))),
        'GET /_ctl/objects': (rest, body, query) => buckets.get(rest)?.keys.filter(k => k.startsWith(toBytes(query.get('prefix') ?? '')))
            .map(k => facts(k, buckets.get(rest).objects.get(k))),
        'GET /_ctl/stat': async (rest, body, query) => {
            const object = found(rest);
            if (!object)
                return undefined;
            object.md5 ??= (await object.body.digest()).md5; // of an object made of parts nobody has it yet
            let value = facts(toBytes(split(rest)[1]), object);
            for (const name of query.get('field').split('.'))
                value = value?.[name];
            return Buffer.from(`${value ?? ''}\n`);
        },
        'GET /_ctl/object': async rest => found(rest) && whole(found(rest).body),
        'PUT /_ctl/object': async (rest, bytes, query, headers) => {
            const [bucket, key] = split(rest), body = Body.of(bytes);
            const about = description(new Map(Object.entries(headers)));
            put(buckets.get(bucket), toBytes(key), { ...about, body, etag: body.md5, md5: body.md5, crc32c: await crc32cOf(body) });
            return { size: bytes.length };
        },
        'DELETE /_ctl/object': rest => ({ deleted: buckets.get(split(rest)[0]).remove(toBytes(split(rest)[1])) }),
        'PUT /_ctl/bucket': rest => ({ bucket: buckets.set(rest, new Bucket(rest, '')) && rest }),
    });

    const port = await listen(server, opt.port), controlPort = await listen(control, opt.control);
    const [firstId, first] = [...credentials][0];
    const E = P.env;
    announce(opt.ready, { [`${E}_PORT`]: port, [`${E}_CONTROL`]: controlPort, [`${E}_ENDPOINT`]: `http://127.0.0.1:${port}`, [`${E}_BUCKET`]: opt.bucket[0],
        [`${E}_ID`]: firstId, [`${E}_SECRET`]: first.secret, [`${E}_TOKEN`]: first.token ?? '', [`${E}_LOG`]: opt.log, ...P.announced?.(opt) });
}

export { fs, toBytes, toText };
