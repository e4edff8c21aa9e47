// A transparent HTTP proxy on 127.0.0.1 in front of one server: it counts requests and injects faults.
//
//   node proxy.mjs --target HOST:PORT [--port N] [--control N] [--log FILE] [--ready FILE] [--delay MS]
//
// Every header, Host included, passes as it came, so that signatures stay valid; bodies are streamed. The log has one
// JSON object a request: start_ms end_ms method path query status req_bytes res_bytes op (path-style S3) [fault].
// Status 0 means that no answer was given.
//
// Control port (see controlServer and Faults in common.mjs): POST /_ctl/fault with {method, path, query, op, skip, count, action, …}
//   delay      ms                  wait before forwarding
//   hold                           wait until the rule is taken away
//   status     status, body, headers   answer so, forward nothing
//   status_after  the same         forward, and when the server has answered, answer so
//   drop                           forward, then reset the connection instead of answering
//   reset                          reset the connection, forward nothing
//   blackhole                      never answer, forward nothing
//   truncate   bytes (1000)        close the connection after so many bytes of the answer's body
//   stall      bytes (1000)        stop after so many bytes, keep the connection
//   corrupt    offset (0)          flip one bit of the answer's body there
//   cut        bytes (1000)        reset after so many bytes of the request's body reached the server
import http from 'node:http';
import { options, RequestLog, Faults, controlServer, listen, announce, operation, sleep } from './common.mjs';

const opt = options({ target: '', port: 0, control: 0, log: '', ready: '', delay: 0 });
const [targetHost, targetPort] = opt.target.split(':');
if (!targetPort)
    throw new Error('--target HOST:PORT is needed');
const log = new RequestLog(opt.log);
const faults = new Faults(['status', 'status_after', 'drop', 'reset', 'blackhole', 'truncate', 'stall', 'corrupt', 'cut']);
// An idle connection is given up before its server does so (the gateway: after 65 s), for a request that meets the server's end of
// it would be lost.
const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity, maxFreeSockets: 256, timeout: 20000 });
let delayMs = opt.delay;

// These speak of one connection only, and ours are two.
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'proxy-connection']);

function endToEnd(raw) {
    const kept = [];
    for (let i = 0; i < raw.length; i += 2)
        if (!HOP_BY_HOP.has(raw[i].toLowerCase()))
            kept.push(raw[i], raw[i + 1]);
    return kept;
}

function describe(req) {
    const mark = req.url.indexOf('?');
    const path = mark < 0 ? req.url : req.url.slice(0, mark);
    const query = mark < 0 ? '' : req.url.slice(mark + 1);
    const names = new Set(query.split('&').map(p => p.split('=')[0]));
    const [, bucket, ...key] = path.split('/');
    const op = operation(req.method, bucket, key.join('/'), n => names.has(n), 'x-amz-copy-source' in req.headers);
    return { method: req.method, path, query, op };
}

function answer(res, rule) {
    const body = Buffer.from(rule.body ?? '');
    res.writeHead(rule.status ?? 503, { 'Content-Type': 'application/xml', 'Content-Length': body.length, ...rule.headers });
    res.end(body);
    return body.length;
}

const server = http.createServer(async (req, res) => {
    const about = describe(req);
    const { rule, delay_ms, held } = faults.match(about);
    const act = rule?.action;
    const entry = { start_ms: Date.now(), end_ms: 0, ...about, status: 0, req_bytes: 0, res_bytes: 0, ...(rule && { fault: act }) };
    let logged = false;
    const done = () => {
        if (logged)
            return;
        logged = true;
        entry.end_ms = Date.now();
        log.write(entry);
    };
    res.on('close', done);
    req.on('data', part => { entry.req_bytes += part.length; });
    req.pause();
    if (delayMs + delay_ms > 0)
        await sleep(delayMs + delay_ms);
    if (held.length > 0)
        await Promise.all(held);
    if (req.socket.destroyed)
        return;

    if (act === 'reset')
        return req.socket.resetAndDestroy();
    if (act === 'blackhole')
        return req.resume();
    if (act === 'status') {
        req.resume();
        req.on('end', () => {
            entry.status = rule.status ?? 503;
            entry.res_bytes = Buffer.byteLength(rule.body ?? '');
            done();
            answer(res, rule);
        });
        return;
    }

    const up = http.request({
        host: targetHost, port: targetPort, agent, method: req.method, path: req.url, headers: endToEnd(req.rawHeaders), setHost: false,
    });
    // A POST without a length has no body; node would send it chunked.
    if (!('content-length' in req.headers) && !('transfer-encoding' in req.headers))
        up.useChunkedEncodingByDefault = false;
    up.on('error', err => {
        entry.error = err.code;
        if (res.headersSent || res.destroyed)
            return req.socket.destroy();
        entry.status = 502;
        done();
        answer(res, { status: 502 });
    });
    // The client went away: so must its request, or the server would wait for the rest of the body.
    res.on('close', () => { if (!res.writableFinished && act !== 'drop') up.destroy(); });
    if (act === 'cut')
        req.on('data', () => {
            if (entry.req_bytes > (rule.bytes ?? 1000)) {
                up.destroy();
                req.socket.resetAndDestroy();
            }
        });
    req.pipe(up);

    up.on('response', from => {
        if (act === 'drop' || act === 'status_after') {
            from.resume();
            from.on('end', () => {
                if (act === 'drop')
                    return req.socket.resetAndDestroy();
                entry.status = rule.status ?? 503;
                done();
                answer(res, rule);
            });
            return;
        }
        entry.status = from.statusCode;
        res.writeHead(from.statusCode, from.statusMessage, endToEnd(from.rawHeaders));
        const limit = act === 'truncate' || act === 'stall' ? rule.bytes ?? 1000 : Infinity;
        from.on('data', part => {
            if (act === 'corrupt') {
                const at = (rule.offset ?? 0) - entry.res_bytes;
                if (at >= 0 && at < part.length)
                    part[at] ^= 1;
            }
            if (entry.res_bytes >= limit)
                return;
            part = part.subarray(0, limit - entry.res_bytes);
            entry.res_bytes += part.length;
            const room = res.write(part, () => {
                if (act === 'truncate' && entry.res_bytes >= limit)
                    req.socket.destroy();
            });
            if (!room) {
                from.pause();
                res.once('drain', () => from.resume());
            }
        });
        from.on('end', () => {
            if (limit !== Infinity)
                return;
            done();
            res.end();
        });
        from.on('aborted', () => req.socket.destroy());
    });
});
server.requestTimeout = 0;
server.headersTimeout = 0;
server.keepAliveTimeout = 0; // the client ends it

const control = controlServer(faults, {
    'POST /_ctl/delay': (rest, body) => ({ delay_ms: delayMs = Number(JSON.parse(body).ms) }),
});
const port = await listen(server, opt.port);
const controlPort = await listen(control, opt.control);
announce(opt.ready, {
    PROXY_PORT: port, PROXY_CONTROL: controlPort, PROXY_ENDPOINT: `http://127.0.0.1:${port}`, PROXY_LOG: opt.log, PROXY_PID: process.pid,
});
