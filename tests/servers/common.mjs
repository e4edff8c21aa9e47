// What the test servers share: options, the request log, fault rules, the control port, the pid file.
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';

// The SDKs are installed outside the source tree: OBJMIG_NODE_MODULES names their directory.
export const require = createRequire(process.env.OBJMIG_NODE_MODULES ? path.join(process.env.OBJMIG_NODE_MODULES, 'x.js') : import.meta.url);

// --name value, --flag; a name given twice becomes a list when the default is one.
export function options(defaults, argv = process.argv.slice(2)) {
    const opt = { ...defaults };
    for (let i = 0; i < argv.length; i++) {
        const name = argv[i].replace(/^--/, '').replace(/-/g, '_');
        if (!argv[i].startsWith('--') || !(name in defaults))
            throw new Error(`unknown option ${argv[i]}`);
        const kind = typeof defaults[name];
        if (kind === 'boolean') {
            opt[name] = true;
            continue;
        }
        const value = argv[++i];
        if (value === undefined)
            throw new Error(`${argv[i - 1]} needs a value`);
        if (Array.isArray(defaults[name]))
            opt[name] = [...(opt[name] === defaults[name] ? [] : opt[name]), value];
        else
            opt[name] = kind === 'number' ? bytes(value) : value;
    }
    return opt;
}

// 5, 5K, 5M, 5G
export function bytes(text) {
    const m = /^(-?\d+)([KMG]?)$/i.exec(text);
    if (!m)
        throw new Error(`bad number ${text}`);
    return Number(m[1]) * { '': 1, K: 1024, M: 1048576, G: 1073741824 }[m[2].toUpperCase()];
}

export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

// One JSON object a line, written in one call before the last bytes of the reply leave, so that a test which has its
// answer also finds the line.
export class RequestLog {
    constructor(path) {
        this.fd = path ? fs.openSync(path, 'a') : -1;
    }
    write(entry) {
        if (this.fd >= 0)
            fs.writeSync(this.fd, JSON.stringify(entry) + '\n');
    }
}

// Fault rules.
//   matches: method, op (exact, case ignored), path, query, key (regular expressions)
//   when:    skip  let so many matching requests pass first; count  act on so many (default 1, 0 = for ever);
//            every act on each n-th of the others only
//   acts:    action and its parameters, see the server which uses them
// Every matching "delay" adds its ms, every "hold" keeps the request until the rule is taken away; of the others the first which matches and is not used up acts.
export class Faults {
    constructor(actions) {
        this.actions = ['delay', 'hold', ...actions];
        this.rules = [];
        this.lastId = 0;
    }
    add(spec) {
        const rule = { skip: 0, count: 1, ...spec, id: ++this.lastId, seen: 0, hits: 0 };
        if (!this.actions.includes(rule.action))
            throw new Error(`unknown action ${rule.action}; known: ${this.actions.join(' ')}`);
        for (const field of ['path', 'query', 'key'])
            if (rule[field] !== undefined)
                Object.defineProperty(rule, `${field}_re`, { value: new RegExp(rule[field]), enumerable: false });
        let release;
        const gone = new Promise(resolve => { release = resolve; });
        Object.defineProperty(rule, 'gone', { value: gone, enumerable: false });
        Object.defineProperty(rule, 'release', { value: release, enumerable: false });
        this.rules.push(rule);
        return rule;
    }
    match(request) {
        const found = { delay_ms: 0, held: [], rule: null };
        for (const rule of this.rules) {
            const over = rule.count > 0 && rule.hits >= rule.count;
            if (over || (!['delay', 'hold'].includes(rule.action) && found.rule) || !this.#fits(rule, request))
                continue;
            if (++rule.seen <= rule.skip || (rule.seen - rule.skip) % (rule.every ?? 1) !== 0)
                continue;
            rule.hits++;
            if (rule.action === 'delay')
                found.delay_ms += rule.ms ?? 100;
            else if (rule.action === 'hold')
                found.held.push(rule.gone);
            else
                found.rule = rule;
        }
        return found;
    }
    #fits(rule, request) {
        for (const field of ['method', 'op'])
            if (rule[field] !== undefined && rule[field].toLowerCase() !== String(request[field] ?? '').toLowerCase())
                return false;
        return ['path', 'query', 'key'].every(f => rule[f] === undefined || rule[`${f}_re`].test(request[f] ?? ''));
    }
    clear(id) {
        for (const rule of this.rules.filter(r => id === undefined || r.id === id))
            rule.release();
        this.rules = id === undefined ? [] : this.rules.filter(rule => rule.id !== id);
    }
}

// The operation an S3-like request asks for, under COS's names. `has` says whether a query parameter is there.
export function operation(method, bucket, key, has, copies) {
    if (!bucket)
        return method === 'GET' ? 'GetService' : 'Unknown';
    if (!key) {
        if (method === 'POST')
            return has('delete') ? 'DeleteMultipleObjects' : 'Unknown';
        if (method === 'GET' && has('uploads'))
            return 'ListMultipartUploads';
        return { GET: 'GetBucket', HEAD: 'HeadBucket', PUT: 'PutBucket', DELETE: 'DeleteBucket' }[method] ?? 'Unknown';
    }
    if (has('uploadId')) {
        if (method === 'PUT')
            return copies ? 'UploadPartCopy' : 'UploadPart';
        return { GET: 'ListParts', POST: 'CompleteMultipartUpload', DELETE: 'AbortMultipartUpload' }[method] ?? 'Unknown';
    }
    if (method === 'POST')
        return has('uploads') ? 'InitiateMultipartUpload' : has('restore') ? 'PostObjectRestore' : 'Unknown';
    if (method === 'PUT')
        return copies ? 'CopyObject' : 'PutObject';
    return { GET: 'GetObject', HEAD: 'HeadObject', DELETE: 'DeleteObject' }[method] ?? 'Unknown';
}

// Text in percent-encoded UTF-8; null when it is not.
export function percentDecode(text) {
    if (/%(?![0-9A-Fa-f]{2})/.test(text))
        return null;
    const bytes = Buffer.from(text.replace(/%(..)/g, (_, hex) => String.fromCharCode(parseInt(hex, 16))), 'latin1');
    const decoded = bytes.toString('utf8');
    return Buffer.from(decoded, 'utf8').equals(bytes) ? decoded : null;
}

// Raw headers as a map of lower-case names to values, which are UTF-8.
export function headerMap(raw) {
    const headers = new Map();
    for (let i = 0; i < raw.length; i += 2) {
        const name = raw[i].toLowerCase();
        const value = Buffer.from(raw[i + 1], 'latin1').toString('utf8');
        headers.set(name, headers.has(name) ? `${headers.get(name)},${value}` : value);
    }
    return headers;
}

// [from, to) of "bytes=…"; null for a header which is to be ignored, undefined for what cannot be satisfied.
export function byteRange(text, size) {
    const m = /^bytes=(\d*)-(\d*)$/.exec(text.trim());
    if (!m || (m[1] === '' && m[2] === ''))
        return null;
    if (m[1] === '') {
        const last = Number(m[2]);
        return last === 0 || size === 0 ? undefined : [Math.max(0, size - last), size];
    }
    const from = Number(m[1]), to = m[2] === '' ? size : Math.min(size, Number(m[2]) + 1);
    if (m[2] !== '' && Number(m[2]) < from)
        return null;
    return from >= size ? undefined : [from, to];
}

export function readAll(stream) {
    return new Promise((resolve, reject) => {
        const parts = [];
        stream.on('data', part => parts.push(part));
        stream.on('end', () => resolve(Buffer.concat(parts)));
        stream.on('error', reject);
    });
}

// The control port. Common to all: GET /_ctl/ready, GET /_ctl/faults, POST /_ctl/fault {rule}, DELETE /_ctl/fault/ID or /_ctl/faults,
// POST /_ctl/quit. `routes` adds "METHOD /_ctl/name": async (rest of path, body, query, headers) => object or Buffer.
export function controlServer(faults, routes) {
    const all = {
        'GET /_ctl/ready': () => ({ ready: true }),
        'GET /_ctl/faults': () => faults.rules,
        'POST /_ctl/fault': (rest, body) => faults.add(JSON.parse(body)),
        'DELETE /_ctl/fault': rest => { faults.clear(Number(rest)); return {}; },
        'DELETE /_ctl/faults': () => { faults.clear(); return {}; },
        'POST /_ctl/quit': () => { setImmediate(() => process.exit(0)); return {}; },
        ...routes,
    };
    return http.createServer(async (req, res) => {
        const url = new URL(req.url, 'http://control');
        const [, root, name, ...rest] = url.pathname.split('/');
        const handler = all[`${req.method} /${root}/${name}`];
        let status = 200, answer;
        try {
            const body = await readAll(req);
            if (!handler)
                [status, answer] = [404, { error: 'unknown command' }];
            else
                answer = await handler(rest.map(decodeURIComponent).join('/'), body, url.searchParams, req.headers);
        } catch (err) {
            [status, answer] = [400, { error: err.message }];
        }
        if (answer === undefined)
            [status, answer] = [404, { error: 'not found' }];
        res.writeHead(status);
        res.end(Buffer.isBuffer(answer) ? answer : JSON.stringify(answer) + '\n');
    });
}

export function listen(server, port) {
    return new Promise((resolve, reject) => {
        server.on('error', reject);
        // Many clients connect in the same instant when a mount starts its transfers.
        server.listen({ port, host: '127.0.0.1', backlog: 1024 }, () => resolve(server.address().port));
    });
}

// Readiness for the start script: the file of shell assignments appears, complete, when all ports listen.
export function announce(path, values) {
    if (!path)
        return;
    const quote = v => /^[\w.:/@-]*$/.test(v) ? v : `'${String(v).replace(/'/g, `'\\''`)}'`;
    fs.writeFileSync(path + '.tmp', Object.entries(values).map(([k, v]) => `${k}=${quote(v)}\n`).join(''));
    fs.renameSync(path + '.tmp', path);
}
