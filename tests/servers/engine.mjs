// One HTTP exchange of a test server, whatever it speaks: the body taken in, fault rules acted out, the answer sent, the request
// logged. A server supplies
//   understand(r)   path and query; sets r.op, r.bucketName, r.key. Throws what errorReply knows
//   admit(r)        what can be refused before the body is there
//   run(r)          the operation: => { status, headers, body: Buffer, string or Body, code }
//   errorReply(r, err, requestId), failure(rule): a refusal as a reply; the one a rule "status" asks for
//   keeps(r)        how many bytes of a body r.kept is to hold; carries(r): whether they were an object's (default: those not kept)
//   headers(entry)  of every answer
//   acts            further actions of fault rules: NAME({ r, rule, entry, res, done, finish })
// Actions known here: status status_after lost late reset cut blackhole truncate stall corrupt (see cos/server.mjs).
import crypto from 'node:crypto';
import http from 'node:http';
import { sleep } from './common.mjs';
import { Body, BodyWriter } from './store.mjs';

export const ACTIONS = ['status', 'status_after', 'lost', 'late', 'reset', 'cut', 'blackhole', 'truncate', 'stall', 'corrupt'];

function parseHeaders(raw) {
    const headers = new Map();
    for (let i = 0; i < raw.length; i += 2) {
        const name = raw[i].toLowerCase();
        const value = Buffer.from(raw[i + 1], 'latin1').toString('utf8');
        headers.set(name, headers.has(name) ? `${headers.get(name)},${value}` : value);
    }
    return headers;
}

function parseRequest(req) {
    const target = req.url.replace(/^https?:\/\/[^/]*/, '');
    const mark = target.indexOf('?');
    const r = {
        method: req.method, headers: parseHeaders(req.rawHeaders), host: req.headers.host ?? '',
        rawPath: mark < 0 ? target : target.slice(0, mark), rawQuery: mark < 0 ? '' : target.slice(mark + 1),
        query: new Map(), path: '', bucketName: '', key: '', op: 'Unknown', body: null,
    };
    return r;
}

// [from, to) of "bytes=…"; null for a header which is to be ignored, undefined for what cannot be satisfied.
export function byteRange(text, size) {
    const m = /^bytes=(\d*)-(\d*)$/.exec(text.trim());
    if (!m || (m[1] === '' && m[2] === ''))
        return null;
    if (m[1] === '') {
        const last = Number(m[2]);
        if (last === 0 || size === 0)
            return undefined;
        return [Math.max(0, size - last), size];
    }
    const from = Number(m[1]), to = m[2] === '' ? size : Math.min(size, Number(m[2]) + 1);
    if (m[2] !== '' && Number(m[2]) < from)
        return null;
    if (from >= size)
        return undefined;
    return [from, to];
}

class ClientGone extends Error {}

// Takes the whole body in, with its digests; up to `keep` bytes of it are handed on as they are, too. `cutAt`: a fault which ends
// the connection after so many bytes.
function receive(req, entry, keep, cutAt) {
    return new Promise((resolve, reject) => {
        const writer = new BodyWriter(), kept = [];
        const gone = () => { writer.abandon(); reject(new ClientGone('the client went away')); };
        req.on('data', part => {
            entry.req_bytes += part.length;
            if (cutAt !== undefined && entry.req_bytes > cutAt)
                return req.socket.resetAndDestroy();
            writer.write(part);
            if (writer.size <= keep)
                kept.push(part);
        });
        req.on('end', () => {
            req.off('close', gone);
            resolve({ body: writer.end(), kept: Buffer.concat(kept) });
        });
        req.on('close', gone);
        req.on('error', gone);
    });
}

// Until the connection takes more, or is gone.
function roomIn(res) {
    return new Promise(resolve => {
        const go = () => { res.off('drain', go).off('close', go); resolve(); };
        res.on('drain', go).on('close', go);
    });
}

async function send(req, res, r, reply, entry, done, rule, headers) {
    const act = rule?.action;
    const body = reply.body;
    const size = body === undefined ? 0 : body instanceof Body ? body.size : body.length;
    const withBody = r.method !== 'HEAD' && reply.status !== 204 && reply.status !== 304;
    entry.status = reply.status;
    if (reply.code)
        entry.code = reply.code;
    res.writeHead(reply.status, {
        ...headers(entry),
        ...(reply.status !== 204 && { 'Content-Length': reply.status === 304 ? 0 : size }),
        ...reply.headers,
    });
    const limit = act === 'truncate' || act === 'stall' ? rule.bytes ?? 1000 : Infinity;
    if (withBody && body instanceof Body && body.size)
        entry.body = true;
    try {
        for await (let part of !withBody || body === undefined ? [] : body instanceof Body ? body.read() : [body]) {
            const at = (rule?.offset ?? 0) - entry.res_bytes;
            if (act === 'corrupt' && at >= 0 && at < part.length) {
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
            if (entry.res_bytes >= limit) {
                if (act === 'truncate')
                    setTimeout(() => req.socket.destroy(), 20);
                return;
            }
        }
    } finally {
        if (body instanceof Body)
            body.drop();
    }
    done();
    res.end();
}

export function engine({ log, faults, understand, admit, run, errorReply, failure, keeps, carries, headers, acts = {} }) {
    const server = http.createServer(async (req, res) => {
        res.sendDate = false;
        const r = parseRequest(req);
        const entry = {
            start_ms: Date.now(), end_ms: 0, method: req.method, path: r.rawPath, query: r.rawQuery, status: 0, req_bytes: 0, res_bytes: 0,
            op: 'Unknown', bucket: '', key: '', body: false, request_id: crypto.randomBytes(12).toString('hex'),
        };
        let logged = false;
        const done = () => {
            if (logged)
                return;
            logged = true;
            entry.end_ms = Date.now();
            log.write(entry);
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
            r.body = { md5: body.md5, crc64: body.crc64, size: body.size, drop() {} };
            return body;
        };
        const finish = (reply, rule) => send(req, res, r, reply, entry, done, rule, headers);
        const refuse = err => {
            req.on('data', part => { entry.req_bytes += part.length; });
            const reply = errorReply(r, err, entry.request_id);
            // Without a reader of the rest the next request on this connection would not be understood.
            return finish(reply);
        };
        try {
            understand(r);
            Object.assign(entry, { op: r.op, bucket: r.bucketName, key: r.key });
            const { rule, delay_ms, held } = faults.match({ ...entry });
            const act = rule?.action;
            if (rule)
                entry.fault = act;
            if (delay_ms)
                await sleep(delay_ms);
            if (held.length > 0)
                await Promise.all(held);
            if (act === 'reset')
                return req.socket.resetAndDestroy();

            admit(r);
            const keep = keeps(r);
            const got = await receive(req, entry, keep, act === 'cut' ? rule.bytes ?? 1000 : undefined);
            r.body = got.body;
            r.kept = got.kept;
            entry.body = carries ? carries(r) : !keep && entry.req_bytes > 0;
            entry.key = r.key; // a form says it only now

            switch (act) {
            case 'blackhole':
                return;
            case 'status':
                return await finish(errorReply(r, failure(rule), entry.request_id));
            case 'lost':
            case 'status_after': {
                const reply = await run(r);
                if (reply.body instanceof Body)
                    reply.body.drop();
                if (act === 'status_after')
                    return await finish(errorReply(r, failure(rule), entry.request_id));
                return req.socket.resetAndDestroy();
            }
            case 'late': {
                // Keep the body beyond the end of the connection.
                const body = r.body;
                r.body = null;
                if (rule.status)
                    await finish(errorReply(r, failure(rule), entry.request_id));
                else
                    req.socket.resetAndDestroy();
                await (rule.ms < 0 ? rule.gone : sleep(rule.ms ?? 500));
                r.body = body;
                const late = { ...entry, late: true, start_ms: Date.now(), status: 0 };
                try {
                    late.status = (await run(r)).status;
                } catch (err) {
                    late.code = err.code;
                }
                r.body.drop();
                late.end_ms = Date.now();
                return log.write(late);
            }
            }
            if (act in acts)
                return await acts[act]({ r, rule, entry, res, done, finish });
            await finish(await run(r), rule);
        } catch (err) {
            if (err instanceof ClientGone || res.destroyed)
                return;
            if (res.headersSent) {
                console.error(err);
                return req.socket.destroy();
            }
            await refuse(err);
        }
    });
    server.requestTimeout = 0;
    server.headersTimeout = 0;
    server.keepAliveTimeout = 0; // the client ends it
    return server;
}
