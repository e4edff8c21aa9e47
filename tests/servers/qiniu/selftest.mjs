// Proves the Qiniu server with the official SDK as a client: a server written beside our own client could share its mistakes.
// Prints TAP. The server must run: QINIU_PORT and QINIU_CONTROL come from `service qiniu start`.
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { Body, useDirectory } from '../store.mjs';
import { control as controlOf, finish, same, test } from '../tap.mjs';
import { qiniu } from './auth.mjs';
import { hashOf, hashOfParts } from './qetag.mjs';

const { QINIU_PORT, QINIU_CONTROL, QINIU_BUCKET, QINIU_REGION, QINIU_AK, QINIU_SK, QINIU_DOMAIN, QINIU_OPEN_DOMAIN, QINIU_LOG } = process.env;
// Whatever host the SDK asks for is the server; what it sends stays as it is.
http.Agent.prototype.createConnection = options => net.connect({ host: '127.0.0.1', port: Number(QINIU_PORT), keepAlive: options.keepAlive });

const bucket = QINIU_BUCKET;
const mac = new qiniu.auth.digest.Mac(QINIU_AK, QINIU_SK);
const config = new qiniu.conf.Config({ useHttpsDomain: false });
const manager = new qiniu.rs.BucketManager(mac, config);
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'qiniu-selftest-'));
process.on('exit', () => fs.rmSync(dir, { recursive: true, force: true }));
useDirectory(path.join(dir, 'bodies'));

const control = controlOf(QINIU_CONTROL);
const token = (more = {}) => new qiniu.rs.PutPolicy({ scope: bucket, ...more }).uploadToken(mac);
const of = ({ data, resp }) => [resp.statusCode, data];
const extra = (mimeType, metadata = {}) => new qiniu.form_up.PutExtra('file', {}, mimeType, null, null, metadata);
const put = async (key, text, more = {}, put_extra = extra()) =>
    of(await new qiniu.form_up.FormUploader(config).put(token({ scope: `${bucket}:${key}`, ...more }), key, text, put_extra));
const code = async promise => (await promise)[0];
const refused = async (promise, status, what = '') => same((await promise).resp.statusCode, status, what);
const entry = key => qiniu.util.encodedEntry(bucket, key);
const md5 = data => crypto.createHash('md5').update(data).digest('hex');

// A read as a browser makes it.
function get(url, headers = {}, method = 'GET', body = '') {
    const at = new URL(url);
    return new Promise((resolve, reject) => {
        const req = http.request({ host: '127.0.0.1', port: QINIU_PORT, method, path: url.slice(at.origin.length), headers: { host: at.host, ...headers } }, async res => {
            const parts = [];
            for await (const p of res)
                parts.push(p);
            resolve({ status: res.statusCode, headers: res.headers, text: Buffer.concat(parts).toString() });
        });
        req.on('error', reject);
        req.end(body);
    });
}
const deadline = (s = 3600) => Math.floor(Date.now() / 1000) + s;
const read = (key, headers, s) => get(manager.privateDownloadUrl(`http://${QINIU_DOMAIN}`, key, deadline(s)), headers);

await test('hashes: values the official SDKs give', async () => {
    const hash = async data => hashOf(Body.of(data));
    same(await hash(Buffer.alloc(0)), 'Fto5o-5ea0sNMlW_75VgGJCv2AcJ');
    same(await hash(Buffer.from('123456789')), 'FvfDvB2AjgRzKt9nmWXMw0ynrjRB');
    const pattern = Buffer.alloc(10 << 20).map((_, i) => i % 251);
    const parts = async (...sizes) => {
        let at = 0;
        const list = [];
        for (const size of sizes) {
            const body = Body.of(pattern.subarray(at, at += size));
            list.push({ body, etag: await hashOf(body) });
        }
        return hashOfParts(Body.of(pattern), list);
    };
    same(await parts(5 << 20, 5 << 20), 'nkTXAX4ZGjTS34o1Af_FWcaThtIw');
    same(await parts(4 << 20, 4 << 20, 2 << 20), 'lpWW94Kd7uuN_TCTi_xpbr4WtvSz');
    same(await parts(10 << 20), 'nhsiZWWqnJN4qbWzOArPsdLTSjLX');
});

await test('SDK: buckets and domains', async () => {
    same((await manager.listBucket()).data.includes(bucket), true);
    same((await manager.listBucketDomains(bucket)).data.some(d => d.domain === QINIU_DOMAIN), true);
});

await test('SDK: a form, stat, and a read of it', async () => {
    const [status, made] = await put('dir/a b+ü.txt', 'hello world', {}, extra('text/x-test', { 'x-qn-meta-mode': '33188', 'x-qn-meta-!Cache-Control': 'max-age=60' }));
    same([status, made.key, made.hash], [200, 'dir/a b+ü.txt', await hashOf(Body.of(Buffer.from('hello world')))]);
    const [, seen] = of(await manager.stat(bucket, 'dir/a b+ü.txt'));
    same([seen.fsize, seen.hash, seen.mimeType, seen.type, seen['x-qn-meta'].mode], [11, made.hash, 'text/x-test', 0, '33188']);
    same(String(seen.putTime).length >= 17, true);
    const got = await read('dir/a b%2Bü.txt');
    same([got.status, got.text, got.headers.etag, got.headers['x-qn-meta-mode'], got.headers['cache-control'], got.headers['content-type']],
        [200, 'hello world', `"${made.hash}"`, '33188', 'max-age=60', 'text/x-test']);
    same(Boolean(got.headers['x-reqid']), true);
});

await test('reads: ranges, tokens, what a domain adds', async () => {
    await put('ranged', '0123456789');
    const part = await read('ranged', { range: 'bytes=2-4' });
    same([part.status, part.text, part.headers['content-range']], [206, '234', 'bytes 2-4/10']);
    same((await read('ranged', { range: 'bytes=10-' })).status, 416);
    same((await read('absent')).status, 404);
    same((await read('ranged', {}, -10)).status, 403, 'expired');
    same((await get(`http://${QINIU_DOMAIN}/ranged`)).status, 401, 'no token');
    same((await get(manager.privateDownloadUrl(`http://${QINIU_DOMAIN}`, 'ranged', deadline()).replace(/ranged/, 'other'))).status, 401, 'of another key');
    const open = await get(manager.publicDownloadUrl(`http://${QINIU_OPEN_DOMAIN}`, 'ranged'));
    same([open.status, open.text, open.headers['cache-control']], [200, '0123456789', 'public, max-age=31536000']);
});

await test('SDK: upload policies', async () => {
    await put('once', 'one');
    same(await code(put('once', 'two!', { insertOnly: 1 })), 614);
    same(await code(put('once', 'two!', { scope: bucket })), 614);
    same(await code(put('once', 'one', { scope: bucket })), 200, 'the same content');
    same(await code(put('once', 'two!', { scope: `${bucket}:other` })), 403);
    same(await code(put('once', 'two!', { expires: -10 })), 401);
    await put('once', 'two!', { fileType: 1 });
    same((await manager.stat(bucket, 'once')).data.type, 1);
    const wrong = new qiniu.rs.PutPolicy({ scope: bucket }).uploadToken(new qiniu.auth.digest.Mac(QINIU_AK, 'wrong'));
    await refused(new qiniu.form_up.FormUploader(config).put(wrong, 'k', 'x', extra()), 401);
});

await test('SDK: a wrong secret and an unknown key', async () => {
    await refused(new qiniu.rs.BucketManager(new qiniu.auth.digest.Mac(QINIU_AK, 'wrong'), config).stat(bucket, 'once'), 401);
    await refused(new qiniu.rs.BucketManager(mac, config).stat(bucket, 'absent'), 612);
});

await test('SDK: copy, move, delete', async () => {
    await put('from', 'bytes', {}, extra('text/x', { 'x-qn-meta-a': '1' }));
    same((await manager.copy(bucket, 'from', bucket, 'to')).resp.statusCode, 200);
    await refused(manager.copy(bucket, 'from', bucket, 'to'), 614);
    same((await manager.copy(bucket, 'from', bucket, 'to', { force: true })).resp.statusCode, 200);
    same((await manager.stat(bucket, 'to')).data['x-qn-meta'], { a: '1' });
    same((await manager.move(bucket, 'to', bucket, 'moved')).resp.statusCode, 200);
    await refused(manager.stat(bucket, 'to'), 612);
    same((await manager.delete(bucket, 'moved')).resp.statusCode, 200);
    await refused(manager.delete(bucket, 'moved'), 612);
    await refused(manager.copy(bucket, 'absent', bucket, 'to'), 612);
});

await test('SDK: metadata and class', async () => {
    await put('about', 'x', {}, extra('text/x', { 'x-qn-meta-a': '1' }));
    same((await manager.changeHeaders(bucket, 'about', { 'Content-Type': 'text/y', 'Cache-Control': 'no-cache' })).resp.statusCode, 200);
    const got = await read('about');
    same([got.headers['content-type'], got.headers['cache-control'], got.headers['x-qn-meta-a']], ['text/y', 'no-cache', undefined]);
    await manager.changeMime(bucket, 'about', 'text/z');
    same((await manager.stat(bucket, 'about')).data.mimeType, 'text/z');
    await manager.changeType(bucket, 'about', 2);
    same((await read('about')).status, 403, 'archived');
    await refused(manager.copy(bucket, 'about', bucket, 'about2'), 403);
    await control('POST', 'set', { restore_ms: 0 });
    same((await manager.restoreAr(`${bucket}:about`, 1)).resp.statusCode, 200);
    same([(await manager.stat(bucket, 'about')).data.restoreStatus, (await read('about')).status], [2, 200]);
});

await test('conditions of chgm', async () => {
    const [, made] = await put('condition', 'x');
    const ask = condition => manager.batch([`/chgm/${entry('condition')}/mime/${qiniu.util.urlsafeBase64Encode('text/c')}/cond/${qiniu.util.urlsafeBase64Encode(condition)}`]);
    same((await ask('hash=other')).data[0].code, 412);
    same((await ask(`hash=${made.hash}&fsize=1`)).data[0].code, 200);
});

await test('SDK: batch', async () => {
    await put('batch/1', '1');
    const { data, resp } = await manager.batch([qiniu.rs.statOp(bucket, 'batch/1'), qiniu.rs.deleteOp(bucket, 'batch/1'), qiniu.rs.deleteOp(bucket, 'batch/never')]);
    same([resp.statusCode, data.map(d => d.code), data[0].data.fsize], [298, [200, 200, 612], 1]);
});

await test('SDK: lists', async () => {
    for (const key of ['l/a', 'l/b/1', 'l/b/2', 'l/c', 'l/한'])
        await put(key, key);
    const all = [];
    for (let marker = ''; ;) {
        const { data } = await manager.listPrefix(bucket, { prefix: 'l/', limit: 2, marker });
        all.push(...data.items.map(i => i.key));
        if (!(marker = data.marker))
            break;
    }
    same(all, ['l/a', 'l/b/1', 'l/b/2', 'l/c', 'l/한']);
    const { data } = await manager.listPrefix(bucket, { prefix: 'l/', delimiter: '/' });
    same([data.items.map(i => i.key), data.commonPrefixes, data.marker], [['l/a', 'l/c', 'l/한'], ['l/b/'], undefined]);
    await refused(manager.listPrefix(bucket, { marker: 'garbage' }), 640);
});

await test('a bucket which is not there, one of another region, a body that was changed', async () => {
    const ask = (host, target, body = '', signed = body) => get(`http://${host}${target}`, {
        'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body),
        'authorization': qiniu.util.generateAccessTokenV2(mac, `http://${host}${target}`, 'POST', 'application/x-www-form-urlencoded', signed, {}),
    }, 'POST', body);
    same((await ask(`rsf-${QINIU_REGION}.qiniuapi.com`, `/list?bucket=${bucket}&limit=1`)).status, 200);
    same((await ask(`rsf-${QINIU_REGION}.qiniuapi.com`, '/list?bucket=absent&limit=1')).status, 631);
    same((await ask('rsf-z9.qiniuapi.com', `/list?bucket=${bucket}&limit=1`)).status, 631);
    same((await ask(`rs-${QINIU_REGION}.qiniuapi.com`, '/batch', 'op=%2Fstat%2Fx', 'op=%2Fstat%2Fy')).status, 401);
});

await test('SDK: resumable upload, version 2', async () => {
    const data = crypto.randomBytes((9 << 20) + 77), file = path.join(dir, 'file');
    fs.writeFileSync(file, data);
    const upload = new qiniu.resume_up.ResumeUploader(config);
    const about = Object.assign(new qiniu.resume_up.PutExtra(), { fname: 'file', mimeType: 'application/x-parts', version: 'v2', partSize: 5 << 20,
        metadata: { 'x-qn-meta-a': 'b' } });
    const { data: made, resp } = await upload.putFile(token({ scope: `${bucket}:parts` }), 'parts', file, about);
    same([resp.statusCode, made.key, made.hash[0]], [200, 'parts', 'n']);
    const [, seen] = of(await manager.stat(bucket, 'parts'));
    same([seen.fsize, seen.hash, seen.mimeType, seen['x-qn-meta']], [data.length, made.hash, 'application/x-parts', { a: 'b' }]);
    const stat = await control('GET', `stat/${bucket}/parts`);
    same(stat.md5, md5(data));
    same(await control('GET', 'uploads'), []);
});

await test('parts by hand: list, wrong digest, abort', async () => {
    const url = rest => `http://up-${QINIU_REGION}.qiniup.com/buckets/${bucket}/objects/${qiniu.util.urlsafeBase64Encode('hand')}/uploads${rest}`;
    const ask = (method, rest, body = '', headers = {}) => new Promise((resolve, reject) => {
        const req = http.request(url(rest), { method, headers: { Authorization: `UpToken ${token({ scope: `${bucket}:hand` })}`, ...headers } }, async res => {
            const parts = [];
            for await (const p of res)
                parts.push(p);
            resolve([res.statusCode, parts.length ? JSON.parse(Buffer.concat(parts)) : null]);
        });
        req.on('error', reject);
        req.end(body);
    });
    const [, { uploadId: id }] = await ask('POST', '');
    for (const n of [3, 1])
        same((await ask('PUT', `/${id}/${n}`, `part ${n}`, { 'content-md5': md5(`part ${n}`) }))[1].md5, md5(`part ${n}`));
    same((await ask('PUT', `/${id}/2`, 'x', { 'content-md5': md5('y') }))[0], 406);
    const [, page] = await ask('GET', `/${id}?max-parts=1`);
    same([page.parts.map(p => [p.partNumber, p.size]), page.partNumberMarker], [[[1, 6]], 1]);
    const [, rest] = await ask('GET', `/${id}?max-parts=10&part-number-marker=1`);
    same([rest.parts.map(p => p.partNumber), rest.partNumberMarker], [[3], 0]);
    const parts = [...page.parts, ...rest.parts].map(({ partNumber, etag }) => ({ partNumber, etag }));
    same((await ask('POST', `/${id}`, JSON.stringify({ parts })))[0], 400, 'too small');
    same((await ask('POST', `/${id}`, JSON.stringify({ parts: [{ partNumber: 1, etag: 'x' }] })))[0], 400);
    same((await ask('DELETE', `/${id}`))[0], 200);
    same((await ask('GET', `/${id}`))[0], 612);
});

await test('faults: throttled, lost, expired', async () => {
    await control('POST', 'fault', { op: 'Stat', action: 'status', status: 573 });
    await refused(manager.stat(bucket, 'once'), 573);
    await control('POST', 'fault', { op: 'Batch', action: 'error298', code: 599 });
    same((await manager.batch([qiniu.rs.deleteOp(bucket, 'once')])).data[0].code, 599);
    same((await manager.stat(bucket, 'once')).resp.statusCode, 200);
    await control('POST', 'clock', { offset_s: 7200 });
    same(await code(put('late', 'x')), 401);
    await control('POST', 'clock', { offset_s: 0 });
});

await test('log: one line a request, with what it carried', async () => {
    const lines = fs.readFileSync(QINIU_LOG, 'utf8').trim().split('\n').map(JSON.parse);
    const one = lines.findLast(l => l.op === 'PutObject' && l.key === 'ranged');
    same([one.method, one.path, one.status, one.body], ['POST', '/', 200, true]);
    same(lines.filter(l => l.op === 'Copy').every(l => !l.body && l.key), true);
    same(lines.every(l => l.end_ms >= l.start_ms), true);
});

finish();
