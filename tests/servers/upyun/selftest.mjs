// Proves the Upyun server with the official SDK as a client: a server written beside our own client could share its mistakes.
// Prints TAP. The server must run: UPYUN_PORT and UPYUN_CONTROL come from `service upyun start`.
import crypto from 'node:crypto';
import fs from 'node:fs';
import * as tap from '../tap.mjs';
import { upyun, authenticate } from './auth.mjs';

const { test, same, md5 } = tap;
const { UPYUN_PORT, UPYUN_CONTROL, UPYUN_BUCKET, UPYUN_OPERATOR, UPYUN_PASSWORD, UPYUN_LOG } = process.env;
const params = { domain: `127.0.0.1:${UPYUN_PORT}`, protocol: 'http' };
const client = (password = UPYUN_PASSWORD, service = UPYUN_BUCKET) => new upyun.Client(new upyun.Service(service, UPYUN_OPERATOR, password), params);
const sdk = client();
const LIST_END = 'g2gCZAAEbmV4dGQAA2VvZg';

async function refused(promise, code) {
    const err = await promise.then(() => null, e => e);
    same(err?.code, code, err?.message);
}
const control = tap.control(UPYUN_CONTROL);

// A request made by hand, signed by the SDK, for what the SDK itself would not send.
async function raw(method, key, { headers = {}, body = Buffer.alloc(0), query = '', sign = {}, service = UPYUN_BUCKET } = {}) {
    const target = `/${service}/${key}${query}`, date = sign.date ?? new Date().toUTCString();
    const authorization = sign.authorization ?? upyun.sign.genSign(new upyun.Service(service, UPYUN_OPERATOR, UPYUN_PASSWORD),
        { method, path: target, date, contentMd5: headers['content-md5'], ...sign });
    const all = { date, authorization, ...(method !== 'GET' && method !== 'HEAD' && { 'content-length': body.length }), ...headers };
    for (const name of Object.keys(all))
        if (all[name] === undefined)
            delete all[name];
    const answer = await tap.send(UPYUN_PORT, method, target, all, body);
    const json = /json/.test(answer.headers['content-type'] ?? '') && answer.text !== '' ? JSON.parse(answer.text) : undefined;
    return { ...answer, json, code: json?.code };
}

await test('SDK: put, head, get, usage', async () => {
    same(await sdk.putFile('/dir/sub/a.txt', 'hello world', { 'Content-MD5': md5('hello world'), 'Content-Type': 'text/x-test', 'x-upyun-meta-a': '1' }), true);
    const head = await sdk.headFile('/dir/sub/a.txt');
    same([head.type, head.size, head['Content-Md5'], head.date > 1e9], ['file', 11, md5('hello world'), true]);
    same(await sdk.getFile('/dir/sub/a.txt'), 'hello world');
    same(await sdk.getMetadata('/dir/sub/a.txt'), { 'x-upyun-meta-a': '1' });
    same(String(await sdk.usage()), '11');
    same([await sdk.headFile('/absent'), await sdk.getFile('/absent')], [false, false]);
    await refused(sdk.putFile('/dir/bad', 'hello', { 'Content-MD5': md5('other') }), 40000006);
    same(await sdk.putFile('/empty', ''), true);
    same((await sdk.headFile('/empty')).size, 0);
    same(await sdk.putFile('/dir/ü 中 (1).txt', 'x'), true);
    same(await sdk.getFile('/dir/ü 中 (1).txt'), 'x');
});

await test('SDK: directories are real', async () => {
    same(await sdk.makeDir('/made'), true);
    await refused(sdk.makeDir('/made'), 40600002);
    same((await sdk.headFile('/made')).type, 'folder');
    await refused(sdk.putFile('/made', 'x'), 40600001);
    await refused(sdk.putFile('/empty/below', 'x'), 40600001);
    await refused(sdk.deleteDir('/dir'), 40300005);
    same(await sdk.deleteDir('/made'), true);
    same(await sdk.headFile('/made'), false);
    same((await sdk.headFile('/dir/sub')).type, 'folder');
});

await test('SDK: lists, in pages, in the order of writing', async () => {
    for (const name of ['z', 'b', 'a'])
        await sdk.putFile(`/list/${name}`, name);
    await sdk.makeDir('/list/m');
    await sdk.putFile('/list/z', 'zz');
    const all = await sdk.listDir('/list');
    same([all.files.map(f => [f.name, f.type, f.size]), all.next], [[['b', 'N', 1], ['a', 'N', 1], ['m', 'F', 0], ['z', 'N', 2]], LIST_END]);
    const first = await sdk.listDir('/list', { limit: 3 });
    const rest = await sdk.listDir('/list', { limit: 3, iter: first.next });
    same([first.files.map(f => f.name), rest.files.map(f => f.name), rest.next], [['b', 'a', 'm'], ['z'], LIST_END]);
    same((await sdk.listDir('/list', { order: 'desc' })).files.map(f => f.name), ['z', 'm', 'a', 'b']);
    same(await sdk.listDir('/list/none'), false);
    const type = 'application/x-www-form-urlencoded'; // what the SDK sends of itself
    const json = (await raw('GET', 'list/', { headers: { accept: 'application/json', 'x-list-limit': '2' } })).json;
    same(json.files.map(f => [f.name, f.type, f.length, f.etag]), [['b', type, 1, md5('b')], ['a', type, 1, md5('a')]]);
    same(json.iter !== LIST_END, true);
    same((await raw('GET', 'list/', { headers: { 'x-list-iter': 'bm9uc2Vuc2U=' } })).code, 40001005);
});

await test('SDK: copy, move, metadata', async () => {
    await sdk.putFile('/src', 'copied', { 'Content-Type': 'text/old', 'x-upyun-meta-a': '1', 'x-upyun-meta-b': '2' });
    same(await sdk.copy('/dst/copy', '/src', { 'x-upyun-metadata-directive': 'replace', 'x-upyun-meta-c': '3' }), true);
    same([await sdk.getFile('/dst/copy'), await sdk.getMetadata('/dst/copy')], ['copied', { 'x-upyun-meta-c': '3' }]);
    same(await sdk.copy('/dst/merged', '/src', { 'x-upyun-metadata-directive': 'merge', 'x-upyun-meta-b': '9' }), true);
    same(await sdk.getMetadata('/dst/merged'), { 'x-upyun-meta-a': '1', 'x-upyun-meta-b': '9' });
    same(await sdk.move('/dst/moved', '/src'), true);
    same([await sdk.headFile('/src'), await sdk.getMetadata('/dst/moved')], [false, { 'x-upyun-meta-a': '1', 'x-upyun-meta-b': '2' }]);
    same(await sdk.updateMetadata('/dst/moved', { b: '5', d: '6' }), true);
    same(await sdk.getMetadata('/dst/moved'), { 'x-upyun-meta-a': '1', 'x-upyun-meta-b': '5', 'x-upyun-meta-d': '6' });
    same(await sdk.updateMetadata('/dst/moved', { d: '' }, 'delete'), true);
    same(await sdk.updateMetadata('/dst/moved', { e: '7' }, 'replace'), true);
    same(await sdk.getMetadata('/dst/moved'), { 'x-upyun-meta-e': '7' });
    same((await raw('GET', 'dst/moved')).headers.etag, `"${md5('copied')}"`);
    same(await sdk.copy('/dst/x', '/absent'), false);
    same(await sdk.deleteFile('/dst/moved', true), true);
    same(await sdk.deleteFile('/dst/moved'), false);
});

await test('SDK: parts in any order, and one after another', async () => {
    const data = crypto.randomBytes(2 * 1048576 + 100);
    const up = await sdk.initMultipartUpload('/mp/any', data, { 'x-upyun-meta-m': 'v' });
    same([up.partCount, (await control('GET', 'uploads')).map(u => [u.key, u.meta])], [3, [['mp/any', { m: 'v' }]]]);
    for (const id of [2, 0])
        same(await sdk.multipartUpload('/mp/any', data, up.uuid, id), true);
    await refused(sdk.multipartUpload('/mp/any', data, up.uuid, 0), 40001031);
    await refused(sdk.completeMultipartUpload('/mp/any', up.uuid), 40001030);
    const list = headers => raw('GET', 'mp/any', { headers: { 'x-upyun-multi-uuid': up.uuid, ...headers } });
    same((await list({})).json.parts.map(p => [p.id, p.size]), [[0, 1048576], [2, 100]]);
    same((await list({ 'x-upyun-part-id': '1' })).json.parts, [{ etag: md5(data.subarray(2 * 1048576)), size: 100, id: 2 }]);
    same(await sdk.multipartUpload('/mp/any', data, up.uuid, 1), true);
    const open = (await raw('GET', '', { headers: { 'x-upyun-list-type': 'multi' } })).json.files;
    same([open.map(f => [f.key, f.uuid, f.completed]), open[0].created_at > 1e9], [[['/mp/any', up.uuid, false]], true]);
    same(await sdk.completeMultipartUpload('/mp/any', up.uuid), true);
    same((await raw('GET', 'mp/any')).bytes.equals(data), true);
    same((await sdk.headFile('/mp/any'))['Content-Md5'], '');
    same((await list({})).code, 40001035);
    await refused(sdk.completeMultipartUpload('/mp/any', up.uuid), 40001035);
    fs.writeFileSync(`${UPYUN_LOG}.tmp`, data);
    same(await sdk.blockUpload('/mp/ordered', `${UPYUN_LOG}.tmp`), true);
    same((await raw('GET', 'mp/ordered')).bytes.equals(data), true);
});

await test('parts: what is refused, and cancelling', async () => {
    const stage = (name, more, options = {}) => raw('PUT', 'mp/k', { headers: { 'x-upyun-multi-stage': name, ...more }, ...options });
    const begin = more => stage('initiate', { 'x-upyun-multi-disorder': 'true', 'x-upyun-multi-type': 'a/b', ...more });
    same((await begin({ 'x-upyun-multi-type': undefined })).code, 40001024);
    same((await begin({ 'x-upyun-multi-part-size': '1048577' })).code, 40001027);
    same((await begin({ 'x-upyun-multi-part-size': String(51 * 1048576) })).code, 40001027);
    same((await begin({ 'x-upyun-multi-disorder': undefined })).code, 40001025);
    const uuid = (await begin({ 'x-upyun-multi-part-size': String(2 * 1048576) })).headers['x-upyun-multi-uuid'];
    const part = (id, size, more = {}) => stage('upload', { 'x-upyun-multi-uuid': uuid, 'x-upyun-part-id': id, ...more }, { body: Buffer.alloc(size, 7) });
    same((await part('10000', 5)).code, 40001030);
    same((await part('0', 2 * 1048576 + 1)).code, 40001032);
    same((await part('0', 5, { 'content-md5': md5('other') })).code, 40000006);
    same([(await part('0', 5)).status, (await part('1', 5)).status], [204, 204]);
    same((await stage('complete', { 'x-upyun-multi-uuid': uuid })).code, 40001030, 'a short part before the last');
    same((await stage('nonsense', {})).code, 40001022);
    same((await raw('PUT', 'mp/other', { headers: { 'x-upyun-multi-stage': 'complete', 'x-upyun-multi-uuid': uuid } })).code, 40001023);
    same((await stage('cancel', { 'x-upyun-multi-uuid': uuid })).status, 204);
    same((await part('2', 5)).code, 40001035);
});

await test('ranges', async () => {
    await sdk.putFile('/ranged', '0123456789');
    const get = async range => {
        const r = await raw('GET', 'ranged', { headers: { range } });
        return [r.status, r.headers['content-range'], r.code ?? r.text];
    };
    same(await get('bytes=2-4'), [206, 'bytes 2-4/10', '234']);
    same(await get('bytes=8-100'), [206, 'bytes 8-9/10', '89']);
    same(await get('bytes=10-11'), [400, undefined, 40001161]);
});

await test('paths and headers a client must not send', async () => {
    for (const key of ['a//b', 'a/../b', './a', '/a'])
        same((await raw('PUT', key, { body: Buffer.from('x') })).code, 40001000, key);
    same((await raw('PUT', 'a%0ab', { body: Buffer.from('x') })).code, 40300001);
    same((await raw('PUT', 'a%ff', { body: Buffer.from('x') })).code, 40001021);
    same((await raw('PUT', 'a/', { body: Buffer.from('x') })).code, 40600001);
    same((await raw('PUT', 'k'.repeat(1025), { body: Buffer.from('x') })).code, 40300002);
    same((await raw('PUT', 'ttl', { headers: { 'x-upyun-meta-ttl': '1' }, body: Buffer.from('x') })).code, 40001003);
    same((await raw('PUT', 'big', { headers: { 'x-upyun-meta-a': 'v'.repeat(2048) }, body: Buffer.from('x') })).code, 40001003);
    same((await raw('GET', 'dir', { headers: { 'x-upyun-folder': 'false' } })).code, 40300015);
    same((await raw('DELETE', 'dir/sub/a.txt', { headers: { 'x-upyun-folder': 'true' } })).code, 40400001);
});

await test('signatures: every kind of wrong one is refused', async () => {
    const code = async (sign, headers = {}) => (await raw('GET', 'ranged', { sign, headers })).code;
    same(await code({}), undefined);
    same(await code({ path: '/elsewhere' }), 40100005);
    same(await code({ method: 'PUT' }), 40100005);
    same(await code({}, { date: new Date(Date.now() - 5000).toUTCString() }), 40100005);
    same(await code({ date: new Date(Date.now() - 3600000).toUTCString() }), 40100002);
    same(await code({ date: 'yesterday' }), 40100016);
    same(await code({}, { authorization: undefined }), 40100004);
    same(await code({ authorization: 'UPYUN nobody:abc' }), 40100006);
    same(await code({ authorization: 'Basic abc' }), 40100003);
    same((await raw('GET', 'ranged', { query: '?usage', sign: { path: `/${UPYUN_BUCKET}/ranged` } })).code, 40100005, 'query not signed');
    same((await raw('PUT', 'signed', { headers: { 'content-md5': md5('x') }, body: Buffer.from('x'), sign: { contentMd5: undefined } })).code, 40100005);
    await refused(client('wrong').usage(), 40100005);
    await refused(client(UPYUN_PASSWORD, 'absent').usage(), 40100012);
});

await test('signatures: recorded requests are accepted, and refused with one character changed', async () => {
    const vectors = JSON.parse(fs.readFileSync(new URL('../../vectors/upyun.json', import.meta.url)));
    const { operator, password } = vectors.credentials, known = new Map([[operator, { password }]]);
    let n = 0;
    for (const c of vectors.cases) {
        const good = c.expected.authorization, at = good.length - 5;
        const request = authorization => ({ method: c.method, target: c.path + (c.wire_query ? `?${c.wire_query}` : ''),
            headers: new Map([...Object.entries(c.headers).map(([k, v]) => [k.toLowerCase(), v]), ['authorization', authorization]]) });
        authenticate(request(good), known, c.time + 60);
        const bad = good.slice(0, at) + (good[at] === 'A' ? 'B' : 'A') + good.slice(at + 1);
        same((() => { try { return authenticate(request(bad), known, c.time); } catch (err) { return err.code; } })(), 40100005, c.name);
        n++;
    }
    same(n, 21);
});

await test('faults: refusal, lost reply, late write, cut, truncation; the clock', async () => {
    const objects = async prefix => (await control('GET', `objects/${UPYUN_BUCKET}?prefix=${prefix}`)).map(o => o.key);
    const send = (key, body = Buffer.from('x')) => raw('PUT', key, { body }).then(r => r.code ?? r.status, e => e.code);
    await control('POST', 'fault', { op: 'PutFile', key: '^f/', action: 'status', status: 429, code: 42900001, count: 2 });
    same([await send('f/1'), await send('g'), await send('f/1'), await send('f/1')], [42900001, 200, 42900001, 200]);
    await control('POST', 'fault', { op: 'PutFile', action: 'lost' });
    same([await send('f/2'), await objects('f/2')], ['ECONNRESET', ['f/2']]);
    const late = await control('POST', 'fault', { op: 'PutFile', action: 'late', ms: -1 });
    same([await send('f/3'), await objects('f/3')], ['ECONNRESET', []]);
    await control('DELETE', `fault/${late.id}`);
    for (let i = 0; i < 1000 && !(await objects('f/3')).length; i++)
        await new Promise(r => setTimeout(r, 10));
    same(await objects('f/3'), ['f/3']);
    await control('POST', 'fault', { op: 'PutFile', action: 'cut', bytes: 10 });
    same([(await send('f/4', Buffer.alloc(3000000))).length > 0, await objects('f/4')], [true, []]);
    await send('f/long', Buffer.alloc(5000, 1));
    await control('POST', 'fault', { op: 'GetFile', action: 'truncate', bytes: 100 });
    same(await raw('GET', 'f/long').then(() => 'whole', e => e.code), 'ECONNRESET');
    await control('POST', 'fault', { op: 'GetFile', action: 'corrupt', offset: 4999 });
    same((await raw('GET', 'f/long')).bytes.at(-1), 0);
    await control('POST', 'clock', { offset_s: 7200 });
    same((await raw('GET', 'f/long')).code, 40100002);
    await control('POST', 'clock', { offset_s: 0 });
});

await test('log: one line a request, with what it carried', async () => {
    const lines = fs.readFileSync(UPYUN_LOG, 'utf8').trim().split('\n').map(JSON.parse);
    const one = lines.findLast(l => l.op === 'PutFile' && l.key === 'ranged');
    same([one.method, one.path, one.status, one.req_bytes, one.body], ['PUT', `/${UPYUN_BUCKET}/ranged`, 200, 10, true]);
    same(lines.filter(l => l.op === 'CopyFile').every(l => !l.body), true);
});

tap.finish();
