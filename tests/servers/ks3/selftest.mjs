// Proves the KS3 server with the official SDK as a client, as far as that one goes (it knows no metadata, no copies and no batches), and
// with requests made by hand for the rest. Prints TAP. KS3_PORT and the rest come from `service ks3 start`.
import crypto from 'node:crypto';
import dns from 'node:dns';
import fs from 'node:fs';
import { require } from '../common.mjs';
import { test, same, crc, md5, control as controlOf, send, finish } from '../tap.mjs';
import * as xml from '../xml.mjs';
import { KS3, authenticate, kssAuthorization, sdkCan, textToSign } from './auth.mjs';

const { KS3_PORT, KS3_CONTROL, KS3_BUCKET, KS3_REGION, KS3_SECRET_ID, KS3_SECRET_KEY, KS3_LOG } = process.env;
const control = controlOf(KS3_CONTROL);
const endpoint = `ks3-${KS3_REGION}.ksyuncs.com`, host = `${KS3_BUCKET}.${endpoint}`;
// The SDK asks for the provider's own names; whatever they are, this machine answers.
dns.lookup = (name, options, done) => (done ?? options)(null, ...((done ? options : {}).all ? [[{ address: '127.0.0.1', family: 4 }]] : ['127.0.0.1', 4]));
const client = (id = KS3_SECRET_ID, secret = KS3_SECRET_KEY) => {
    const ks3 = new KS3(id, secret, KS3_BUCKET);
    ks3.config({ baseUrl: `${endpoint}:${KS3_PORT}` });
    return ks3;
};
const ks3 = client();
// The SDK's functions, as promises of the answer: { status, headers, data }.
const ask = (fn, params) => new Promise((resolve, reject) => fn(params, (err, data, res, raw) =>
    err ? reject(Object.assign(new Error(String(err.error)), { status: err.code, code: /<Code>(.*)<\/Code>/.exec(String(raw ?? err.error))?.[1] }))
        : resolve({ status: res.statusCode, headers: res.headers, data, raw })));
async function refused(promise, status, code) {
    const err = await promise.then(() => null, e => e);
    same([err?.status, err?.code], [status, code]);
}
// A request made by hand, signed as the SDK's signer does or, where it cannot, by the recorded rule.
function raw(method, target, headers = {}, body = Buffer.alloc(0), secret = KS3_SECRET_KEY) {
    const [path, query = ''] = target.split('?');
    const all = { 'host': host, 'date': new Date().toUTCString(), 'content-length': String(body.length), ...headers };
    const signed = query.split('&').filter(p => /^(uploads|uploadId|partNumber|delete|restore)\b/.test(p)).sort().join('&');
    return send(KS3_PORT, method, target, { ...all, authorization:
        kssAuthorization(KS3_SECRET_ID, secret, method, all, `/${KS3_BUCKET}${path}${signed && `?${signed}`}`) }, body);
}

await test('SDK: put, head, get, ranges, what is absent, delete', async () => {
    const body = Buffer.from('hello world');
    const made = await ask(ks3.object.put, { Key: 'dir/a b+c%25ü.txt', Body: body });
    same([made.headers.etag, made.headers['x-kss-checksum-crc64ecma']], [`"${md5(body)}"`, '5981764153023615706']);
    same((await ask(ks3.object.head, { Key: 'dir/a b+c%25ü.txt' })).headers['content-length'], '11');
    same((await ask(ks3.object.get, { Key: 'dir/a b+c%25ü.txt' })).raw.toString(), 'hello world');
    const part = await ask(ks3.object.get, { Key: 'dir/a b+c%25ü.txt', range: 'bytes=2-4' });
    same([part.status, part.raw.toString(), part.headers['content-range']], [206, 'llo', 'bytes 2-4/11']);
    await refused(ask(ks3.object.get, { Key: 'absent' }), 404, 'NoSuchKey');
    same((await ask(ks3.object.del, { Key: 'dir/a b+c%25ü.txt' })).status, 204);
    await refused(ask(ks3.object.get, { Key: 'dir/a b+c%25ü.txt' }), 404, 'NoSuchKey');
});

await test('SDK: list with delimiter', async () => {
    for (const Key of ['l/a', 'l/b/c', 'l/b/d'])
        await ask(ks3.object.put, { Key, Body: 'x' });
    const page = xml.parse((await ask(ks3.bucket.get, { prefix: 'l/', delimiter: '/' })).data);
    const all = (name, field) => page.children.filter(c => c.name === name).map(c => xml.childText(c, field));
    same([all('Contents', 'Key'), all('CommonPrefixes', 'Prefix')], [['l/a'], ['l/b/']]);
});

await test('SDK: multipart: begin, parts, list, complete, abort', async () => {
    const Key = 'mp/k', mib = crypto.randomBytes(1048576), tail = Buffer.from('tail');
    const begin = async () => xml.childText(xml.parse((await ask(ks3.object.multitpart_upload_init, { Key })).data), 'UploadId');
    const UploadId = await begin();
    const tags = [];
    for (const [i, body] of [mib, tail].entries())
        tags.push((await ask(ks3.object.upload_part, { Key, UploadId, PartNumber: i + 1, body })).headers.etag);
    same(tags, [`"${md5(mib)}"`, `"${md5(tail)}"`]);
    const listed = xml.parse((await ask(ks3.object.upload_list_part, { Key, UploadId })).data);
    same(listed.children.filter(c => c.name === 'Part').map(p => xml.childText(p, 'Size')), ['1048576', '4']);
    const body = `<CompleteMultipartUpload>${tags.map((t, i) => `<Part><PartNumber>${i + 1}</PartNumber><ETag>${t}</ETag></Part>`).join('')}</CompleteMultipartUpload>`;
    await ask(ks3.object.upload_complete, { Key, UploadId, body });
    const whole = await ask(ks3.object.get, { Key });
    same([md5(whole.raw), whole.headers['x-kss-checksum-crc64ecma']], [md5(Buffer.concat([mib, tail])), crc(Buffer.concat([mib, tail]))]);
    const second = await begin();
    same((await ask(ks3.object.upload_abort, { Key, UploadId: second })).status, 204);
    await refused(ask(ks3.object.upload_list_part, { Key, UploadId: second }), 404, 'NoSuchUpload');
});

await test('SDK: wrong id, wrong secret', async () => {
    await refused(ask(client('nobody').object.get, { Key: 'l/a' }), 403, 'InvalidAccessKeyId');
    await refused(ask(client(KS3_SECRET_ID, 'wrong').object.get, { Key: 'l/a' }), 403, 'SignatureDoesNotMatch');
});

await test('by hand: metadata, copies, batch, archived, overwriting, lists encoded as a form is', async () => {
    const body = Buffer.from('x'), code = async (...request) => (await raw(...request)).code ?? 'none';
    same((await raw('PUT', '/h/a%20b%2Bc', { 'x-kss-meta-md5': '1', 'x-kss-meta-md5-from': '2', 'x-kss-storage-class': 'STANDARD_IA' }, body)).status, 200);
    const source = { 'x-kss-copy-source': `/${KS3_BUCKET}/h/a%20b%2Bc` };
    same(await code('PUT', '/h/copy', { ...source, 'x-kss-copy-source-if-match': '"0"' }), 'PreconditionFailed');
    same((await raw('PUT', '/h/copy', source)).status, 200);
    const head = (await raw('HEAD', '/h/copy')).headers;
    same([head['x-kss-meta-md5'], head['x-kss-meta-md5-from']], ['1', '2']);
    same(await code('PUT', '/h/copy', { 'x-kss-forbid-overwrite': 'true' }, body), 'FileAlreadyExists');
    same(/<Key>h%2Fa\+b%2Bc<\/Key>/.test((await raw('GET', '/?prefix=h%2Fa&encoding-type=url')).text), true);
    const list = Buffer.from('<Delete><Object><Key>h/copy</Key></Object></Delete>');
    same(await code('POST', '/?delete', {}, list), 'MissingContentMD5');
    same((await raw('POST', '/?delete', { 'content-md5': md5(list, 'base64') }, list)).status, 200);
    await raw('PUT', '/h/ice', { 'x-kss-storage-class': 'ARCHIVE' }, body);
    same(await code('GET', '/h/ice'), 'InvalidObjectState');
    same(await code('GET', '/h/copy', {}, undefined, 'wrong'), 'SignatureDoesNotMatch');
    same(await code('GET', '/h/copy', { date: new Date(0).toUTCString() }), 'RequestTimeTooSkewed');
    same((await send(KS3_PORT, 'GET', '/h/copy', { host })).code, 'AccessDenied');
    same((await raw('PUT', '/a/%2Fb', {}, body)).status, 200);
    same([(await control('GET', `objects/${KS3_BUCKET}?prefix=a//`)).length, await code('GET', '/a//b')], [1, 'SignatureDoesNotMatch']);
});

await test('by hand: another region, and temporary keys', async () => {
    await control('PUT', 'bucket/far-bucket@cn-far');
    const date = new Date().toUTCString();
    const get = (name, id, secret, headers = {}) => send(KS3_PORT, 'GET', '/k', { host: `${name}.${endpoint}`, date, ...headers,
        authorization: kssAuthorization(id, secret, 'GET', { date, ...headers }, `/${name}/k`) });
    const far = await get('far-bucket', KS3_SECRET_ID, KS3_SECRET_KEY);
    same([far.status, far.code, /<Endpoint>ks3-cn-far\.ksyuncs\.com</.test(far.text)], [301, 'PermanentRedirect', true]);
    await control('DELETE', 'bucket/far-bucket');
    await control('POST', 'cred', { id: 'AKLTtemporary', secret: 's', token: 'the-token' });
    same((await get(KS3_BUCKET, 'AKLTtemporary', 's', { 'x-kss-security-token': 'the-token' })).code, 'NoSuchKey');
    same((await get(KS3_BUCKET, 'AKLTtemporary', 's', { 'x-kss-security-token': 'other' })).code, 'InvalidToken');
});

const { SignatureV4 } = require('@smithy/signature-v4');
const { Sha256 } = require('@aws-crypto/sha256-js');
await test("AWS's signer: version 4, with AWS's names in the answer", async () => {
    const ask4 = async (method, path, headers = {}, secretAccessKey = KS3_SECRET_KEY) => {
        const signed = await new SignatureV4({ service: 's3', region: 'TEST', sha256: Sha256, uriEscapePath: false,
            credentials: { accessKeyId: KS3_SECRET_ID, secretAccessKey } }).sign({ method, hostname: host, path, query: {}, headers: { host, ...headers } });
        return send(KS3_PORT, method, path, { ...signed.headers, 'content-length': '0' });
    };
    const made = await ask4('PUT', '/four/k', { 'x-amz-meta-a': '1' });
    same([made.status, made.headers['x-amz-checksum-crc64ecma']], [200, '0']);
    same((await ask4('HEAD', '/four/k')).headers['x-amz-meta-a'], '1');
    same((await ask4('GET', '/four/k', {}, 'wrong')).code, 'SignatureDoesNotMatch');
});

await test('signatures: the rule holds for all recorded requests, and the SDK for those it can be asked for', async () => {
    const vectors = JSON.parse(fs.readFileSync(new URL('../../vectors/ks3.json', import.meta.url)));
    const { access_key_id: id, secret_access_key: secret } = vectors.credentials;
    const resource = c => c.canonicalized_resource ?? c.string_to_sign.slice(c.string_to_sign.indexOf('\n/') + 1);
    let n = 0, asked = 0;
    for (const c of vectors.cases.filter(c => c.expected.authorization)) {
        const headers = Object.fromEntries(Object.entries(c.headers).map(([k, v]) => [k.toLowerCase(), v]));
        same(textToSign(c.method, headers, resource(c)), c.string_to_sign, c.name);
        same(kssAuthorization(id, secret, c.method, headers, resource(c)), c.expected.authorization, c.name);
        asked += sdkCan(headers);
        n++;
        if (c.canonicalized_resource)
            continue;
        const known = new Map([[id, { secret }]]);
        const request = authorization => ({ method: c.method, rawPath: c.path, bucketName: c.bucket ?? '', query: new Map(Object.entries(c.query)),
            headers: new Map([...Object.entries(headers), ['authorization', authorization]]) });
        await authenticate(request(c.expected.authorization), known, c.time, '');
        const bad = c.expected.authorization.replace(/:./, m => m === ':0' ? ':1' : ':0');
        same(await authenticate(request(bad), known, c.time, '').then(() => 'taken', e => e.code), 'SignatureDoesNotMatch', c.name);
    }
    same([n, asked], [20, 19]);
});

await test('log: one line a request, with what it carried', async () => {
    const lines = fs.readFileSync(KS3_LOG, 'utf8').trim().split('\n').map(JSON.parse);
    const one = lines.findLast(l => l.op === 'UploadPart');
    same([one.method, one.status, one.req_bytes, one.body], ['PUT', 200, 4, true]);
});

finish();
