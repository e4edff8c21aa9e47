// A request's life in a test server: what is common to those that keep objects (store.mjs) and obey fault rules (common.mjs).
//
//   requestServer({ log, faults, understand, admit, run, refusal, injected, head, keepsBody, wholeBody, received, crc32c, special })
//     understand(r)           of a request (parseRequest): op, bucketName, key, what else is to be logged (r.logged); throws refusals
//     admit(r)                signature, and what is refused before the body is read; throws
//     run(r)                  does it: { status, headers, body (Buffer or Body) }; throws
//     refusal(r, err, id)     the answer to what was thrown
//     injected(rule)          what to throw for a fault rule with a status
//     head(r, entry)          the headers of every answer
//     keepsBody(r)            whether the request's body is object bytes
//     wholeBody(r)            how many bytes of a body are also in r.kept: otherwise 2 MiB of those that are no object's
//     received(r)             what only the body tells, before it is logged; throws
//     crc32c()                makes a CRC-32C, where bodies need one: body.crc32c
//     special                 more fault actions: { name: async (r, rule, tools) => …, which answers by itself }
//
// Fault actions: see s3like/server.mjs, which documents them.
import crypto from 'node:crypto';
import http from 'node:http';
import { headerMap, sleep } from './common.mjs';
import { Body, BodyWriter } from './store.mjs';

const SMALL_BODY = 2 << 20;
export const FAULT_ACTIONS = ['status', 'status_after', 'lost', 'late', 'reset', 'cut', 'blackhole', 'truncate', 'stall', 'corrupt'];

class ClientGone extends Error {}

// The request as far as it can be told without an error.
function parseRequest(req) {
    const target = req.url.replace(/^https?:\/\/[^/]*/, '');
    const mark = target.indexOf('?');
    return {
        method: req.method, headers: headerMap(req.rawHeaders), host: req.headers.host ?? '', target,
        rawPath: mark < 0 ? target : target.slice(0, mark), rawQuery: mark < 0 ? '' : target.slice(mark + 1),
        query: new Map(), path: '', bucketName: '', key: '', op: 'Unknown', body: null,
    };
}

// Takes the whole body in, with its digests, and up to `keep` bytes of it as they are. `cutAt`: a fault which ends the connection
// after so many bytes.
function receive(req, entry, keep, cutAt, crc32c) {
    return new Promise((resolve, reject) => {
        const writer = new BodyWriter(), kept = [];
        const gone = () => { writer.abandon(); reject(new ClientGone('the client went away')); };
        req.on('data', part => {
            entry.req_bytes += part.length;
            if (cutAt !== undefined && entry.req_bytes > cutAt)
                return req.socket.resetAndDestroy();
            writer.write(part);
            crc32c?.update(part);
            if (writer.size <= keep)
                kept.push(part);
        });
        req.on('end', () => {
            req.off('close', gone);
            const body = writer.end();
            if (crc32c)
                body.crc32c = crc32c.valueOf() >>> 0;
            resolve({ body, kept: Buffer.concat(kept) });
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

async function send(req, res, r, reply, entry, done, rule, head) {
    const act = rule?.action;
    const body = reply.body;
    const size = body === undefined ? 0 : body instanceof Body ? body.size : body.length;
    const withBody = r.method !== 'HEAD' && reply.status !== 204 && reply.status !== 304;
    entry.status = reply.status;
    if (reply.code)
        entry.code = reply.code;
    res.writeHead(reply.status, {
        ...head(r, entry),
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

export function requestServer({ log, faults, understand, admit, run, refusal, injected, head, keepsBody,
    wholeBody = r => keepsBody(r) ? 0 : SMALL_BODY, received = () => {}, crc32c, special = {} }) {
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
            r.body = { md5: body.md5, crc64: body.crc64, crc32c: body.crc32c, size: body.size, drop() {} };
            return body;
        };
        const finish = (reply, rule) => send(req, res, r, reply, entry, done, rule, head);
        const refuse = err => {
            req.on('data', part => { entry.req_bytes += part.length; });
            // Without a reader of the rest the next request on this connection would not be understood.
            return finish(refusal(r, err, entry.request_id));
        };
        try {
            understand(r);
            Object.assign(entry, { op: r.op, bucket: r.bucketName, key: r.key, ...r.logged });
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

            await admit(r);
            const got = await receive(req, entry, wholeBody(r), act === 'cut' ? rule.bytes ?? 1000 : undefined, crc32c?.());
            r.body = got.body;
            r.kept = got.kept;
            received(r);
            entry.body = keepsBody(r) && entry.req_bytes > 0;
            entry.key = r.key;

            switch (act) {
            case 'blackhole':
                return;
            case 'status':
                return await finish(refusal(r, injected(rule), entry.request_id));
            case 'lost':
            case 'status_after': {
                const reply = await run(r);
                if (reply.body instanceof Body)
                    reply.body.drop();
                if (act === 'status_after')
                    return await finish(refusal(r, injected(rule), entry.request_id));
                return req.socket.resetAndDestroy();
            }
            case 'late': {
                // Keep the body beyond the end of the connection.
                const body = r.body;
                r.body = null;
                if (rule.status)
                    await finish(refusal(r, injected(rule), entry.request_id));
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
            if (special[act])
                return await special[act](r, rule, { res, entry, done, finish });
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
