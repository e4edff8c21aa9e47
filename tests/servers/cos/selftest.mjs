// Proves the COS server with the official SDK as a client: a server written beside our own client could share its mistakes.
// Prints TAP. The server must run: COS_PORT and COS_CONTROL come from `service cos start`.
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { Crc64, combine } from '../crc64.mjs';
import { COS, authenticate } from './auth.mjs';
import { controlOf, end, same, test } from '../tap.mjs';
import * as xml from './xml.mjs';

const { COS_PORT, COS_CONTROL, COS_BUCKET, COS_REGION, COS_SECRET_ID, COS_SECRET_KEY, COS_LOG } = process.env;
const Bucket = COS_BUCKET, Region = COS_REGION;
const host = `${Bucket}.cos.${Region}.myqcloud.com`;
const client = (extra = {}) => new COS({ SecretId: COS_SECRET_ID, SecretKey: COS_SECRET_KEY, Protocol: 'http:', Ip: `127.0.0.1:${COS_PORT}`,
    AutoSwitchHost: false, ...extra });
const cos = client();
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'cos-selftest-'));
process.on('exit', () => fs.rmSync(dir, { recursive: true, force: true }));

async function refused(promise, status, code) {
    const err = await promise.then(() => null, e => e);
    if (!err)
        throw new Error(`not refused with ${code}`);
    same([err.statusCode, err.code], [status, code], err.message);
}
const crc = data => String(new Crc64().update(data).value());
const md5 = (data, form = 'hex') => crypto.createHash('md5').update(data).digest(form);
const control = controlOf(COS_CONTROL);

// A request made by hand, signed by the SDK, for what the SDK itself would not send.
function raw(method, target, { headers = {}, body = Buffer.alloc(0), sign = {}, authorization, hostName = host } = {}) {
    const url = new URL(`http://x${target}`);
    const all = { host: hostName, ...headers };
    authorization ??= COS.getAuthorization({ SecretId: COS_SECRET_ID, SecretKey: COS_SECRET_KEY, Method: method,
        Pathname: decodeURIComponent(url.pathname), Query: Object.fromEntries(url.searchParams), Headers: all, ...sign });
    return new Promise((resolve, reject) => {
        const req = http.request({ host: '127.0.0.1', port: COS_PORT, method, path: target, headers: { ...all, authorization } }, async res => {
            const parts = [];
            try {
                for await (const p of res)
                    parts.push(p);
            } catch (err) {
                return reject(err);
            }
            const text = Buffer.concat(parts).toString();
            resolve({ status: res.statusCode, headers: res.headers, text, code: /<Code>(.*)<\/Code>/.exec(text)?.[1] });
        });
        req.on('error', reject);
        req.end(body);
    });
}
const put = (Key, Body, extra = {}) => cos.putObject({ Bucket, Region, Key, Body, ...extra });

await test('checksum: known values and combination', async () => {
    same(crc(Buffer.from('123456789')), '11051210869376104954');
    const a = crypto.randomBytes(100001), b = crypto.randomBytes(5003);
    const value = d => new Crc64().update(d).value();
    same(String(combine(value(a), value(b), b.length)), crc(Buffer.concat([a, b])));
});

await test('SDK: list buckets', async () => {
    const data = await cos.getService({ Domain: `service.cos.myqcloud.com`, Region });
    same(data.Buckets.some(b => b.Name === Bucket && b.Location === Region), true);
});

await test('SDK: head bucket, and one which is not there', async () => {
    same((await cos.headBucket({ Bucket, Region })).statusCode, 200);
    await refused(cos.headBucket({ Bucket: 'absent-1250000000', Region }), 404, '404');
    await refused(cos.getBucket({ Bucket: 'absent-1250000000', Region }), 404, 'NoSuchBucket');
    await refused(cos.getBucket({ Bucket, Region: 'ap-other' }), 404, 'NoSuchBucket');
});

await test('SDK: put, head, get with metadata and headers', async () => {
    const body = Buffer.from('hello world');
    const made = await put('dir/a b+c%25ü.txt', body, { CacheControl: 'no-cache', ContentDisposition: 'attachment', ContentType: 'text/x-test',
        Expires: 'Thu, 01 Jan 2032 00:00:00 GMT', StorageClass: 'STANDARD_IA', ServerSideEncryption: 'AES256',
        Headers: { 'Content-Language': 'de', 'x-cos-meta-Mtime': '1700000000.5', 'x-cos-meta-name': 'a%20b' } });
    same([made.ETag, made.headers['x-cos-hash-crc64ecma']], [`"${md5(body)}"`, '5981764153023615706']);
    const head = (await cos.headObject({ Bucket, Region, Key: 'dir/a b+c%25ü.txt' })).headers;
    same(['cache-control', 'content-disposition', 'content-language', 'content-type', 'expires', 'x-cos-meta-mtime', 'x-cos-meta-name',
        'x-cos-storage-class', 'x-cos-server-side-encryption', 'content-length', 'x-cos-hash-crc64ecma'].map(n => head[n]),
    ['no-cache', 'attachment', 'de', 'text/x-test', 'Thu, 01 Jan 2032 00:00:00 GMT', '1700000000.5', 'a%20b',
        'STANDARD_IA', 'AES256', '11', '5981764153023615706']);
    const got = await cos.getObject({ Bucket, Region, Key: 'dir/a b+c%25ü.txt' });
    same(got.Body.toString(), 'hello world');
    same(Boolean(got.headers['x-cos-request-id']), true);
});

await test('SDK: ranges and conditions', async () => {
    await put('ranged', Buffer.from('0123456789'));
    const get = (Range, more = {}) => cos.getObject({ Bucket, Region, Key: 'ranged', Range, ...more });
    const part = await get('bytes=2-4');
    same([part.statusCode, part.Body.toString(), part.headers['content-range'], part.headers['x-cos-hash-crc64ecma']],
        [206, '234', 'bytes 2-4/10', crc(Buffer.from('0123456789'))]);
    same((await get('bytes=8-99')).Body.toString(), '89');
    same((await get('bytes=-3')).Body.toString(), '789');
    await refused(get('bytes=10-'), 416, 'InvalidRange');
    await refused(get('bytes=0-1', { IfMatch: '"0"' }), 412, 'PreconditionFailed');
    same((await get('bytes=0-1', { IfMatch: `"${md5('0123456789')}"` })).Body.toString(), '01');
    await refused(cos.headObject({ Bucket, Region, Key: 'ranged', IfNoneMatch: `"${md5('0123456789')}"` }), 304, '304');
    await refused(cos.getObject({ Bucket, Region, Key: 'absent' }), 404, 'NoSuchKey');
    await refused(cos.headObject({ Bucket, Region, Key: 'absent' }), 404, '404');
});

await test('SDK: listing pages, delimiter, order of bytes, odd names', async () => {
    const keys = ['l/', 'l/a+b', 'l/a b', 'l/%41', 'l//x', 'l/sub/1', 'l/sub/2', 'l/sub0', 'l/\u{10000}', 'l/\uffee', 'l/é', 'l/\x01', 'l/<&>"'];
    for (const k of keys)
        await put(k, 'x');
    const order = keys.slice().sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const pages = async (Delimiter, MaxKeys) => {
        const found = [];
        let Marker = '';
        for (let n = 0; ; n++) {
            const page = await cos.getBucket({ Bucket, Region, Prefix: 'l/', Delimiter, MaxKeys, Marker, EncodingType: 'url' });
            // An EncodingType given by the caller leaves the decoding to him.
            const decode = text => decodeURIComponent(text);
            found.push(...page.Contents.map(c => decode(c.Key)), ...page.CommonPrefixes.map(c => decode(c.Prefix)));
            same(page.Contents.length + page.CommonPrefixes.length <= MaxKeys, true);
            if (page.IsTruncated !== 'true')
                return found;
            Marker = decode(page.NextMarker);
            if (n > 50)
                throw new Error('the listing does not end');
        }
    };
    for (const size of [1, 2, 3, 1000])
        same(await pages(undefined, size), order, `pages of ${size}`);
    const top = order.filter(k => !/^l\/.*\//.test(k)).concat('l//', 'l/sub/').sort();
    for (const size of [1, 2, 1000])
        same((await pages('/', size)).sort(), top, `groups, pages of ${size}`);
});

await test('SDK: delete one, delete many (also what is not there)', async () => {
    await put('d1', '1');
    await put('d&<2>', '2');
    const gone = await cos.deleteMultipleObject({ Bucket, Region, Objects: [{ Key: 'd1' }, { Key: 'd&<2>' }, { Key: 'd3' }] });
    same(gone.Deleted.map(d => d.Key), ['d1', 'd&<2>', 'd3']);
    await refused(cos.headObject({ Bucket, Region, Key: 'd&<2>' }), 404, '404');
    same((await cos.deleteObject({ Bucket, Region, Key: 'd1' })).statusCode, 204);
});

await test('SDK: copy, metadata kept and replaced, conditions, itself', async () => {
    await put('src/ü 1', 'source', { ContentType: 'text/x-src', Headers: { 'x-cos-meta-a': '1' } });
    const CopySource = `${host}/${encodeURIComponent('src/ü 1')}`;
    const copy = (Key, more) => cos.putObjectCopy({ Bucket, Region, Key, CopySource, ...more });
    const made = await copy('copied', {});
    same(made.ETag, `"${md5('source')}"`);
    let head = (await cos.headObject({ Bucket, Region, Key: 'copied' })).headers;
    same([head['content-type'], head['x-cos-meta-a']], ['text/x-src', '1']);
    await copy('copied', { MetadataDirective: 'Replaced', ContentType: 'text/x-new', Headers: { 'x-cos-meta-b': '2' } });
    head = (await cos.headObject({ Bucket, Region, Key: 'copied' })).headers;
    same([head['content-type'], head['x-cos-meta-a'], head['x-cos-meta-b']], ['text/x-new', undefined, '2']);
    await refused(copy('copied', { CopySourceIfMatch: '"0"' }), 412, 'PreconditionFailed');
    await refused(copy('src/ü 1', {}), 400, 'InvalidRequest');
    await copy('src/ü 1', { MetadataDirective: 'Replaced', Headers: { 'x-cos-meta-c': '3' } });
    await refused(cos.putObjectCopy({ Bucket, Region, Key: 'x', CopySource: `${host}/absent` }), 404, 'NoSuchKey');
});

await test('SDK: sliceUploadFile of 12 MiB + 1, with retries of its own', async () => {
    const data = crypto.randomBytes(12 * 1048576 + 1);
    fs.writeFileSync(`${dir}/big`, data);
    const made = await cos.sliceUploadFile({ Bucket, Region, Key: 'big', FilePath: `${dir}/big`, ChunkSize: 2097152 });
    same(/^"[0-9a-f]{32}-7"$/.test(made.ETag), true, made.ETag);
    const got = await cos.getObject({ Bucket, Region, Key: 'big' });
    same(md5(got.Body), md5(data));
    same(got.headers['x-cos-hash-crc64ecma'], crc(data));
});

await test('SDK: sliceCopyFile, part copies', async () => {
    await cos.sliceCopyFile({ Bucket, Region, Key: 'big2', CopySource: `${host}/big`, CopySliceSize: 1048576, CopyChunkSize: 5 * 1048576 });
    const head = (await cos.headObject({ Bucket, Region, Key: 'big2' })).headers;
    same([head['content-length'], head['x-cos-hash-crc64ecma']], [String(12 * 1048576 + 1), crc(fs.readFileSync(`${dir}/big`))]);
});

await test('SDK: multipart by hand: list, pages, errors, abort', async () => {
    const Key = 'mp/k';
    const { UploadId } = await cos.multipartInit({ Bucket, Region, Key, Headers: { 'x-cos-meta-m': 'v' } });
    const part = (PartNumber, Body, more = {}) => cos.multipartUpload({ Bucket, Region, Key, UploadId, PartNumber, Body, ...more });
    const mib = Buffer.alloc(1048576, 7);
    const tags = [];
    for (const n of [1, 2, 3])
        tags[n] = (await part(n, mib)).ETag;
    tags[4] = (await part(4, Buffer.from('tail'))).ETag;
    const uploads = await cos.multipartList({ Bucket, Region, Prefix: 'mp/' });
    same(uploads.Upload.map(u => [u.Key, u.UploadId]), [[Key, UploadId]]);
    const page = await cos.multipartListPart({ Bucket, Region, Key, UploadId, MaxParts: 2 });
    same([page.Part.map(p => p.PartNumber), page.IsTruncated, page.NextPartNumberMarker], [['1', '2'], 'true', '2']);
    const rest = await cos.multipartListPart({ Bucket, Region, Key, UploadId, PartNumberMarker: 2 });
    same(rest.Part.map(p => [p.PartNumber, p.Size, p.ETag]), [['3', '1048576', tags[3]], ['4', '4', tags[4]]]);
    const complete = Parts => cos.multipartComplete({ Bucket, Region, Key, UploadId, Parts: Parts.map(([PartNumber, ETag]) => ({ PartNumber, ETag })) });
    await refused(complete([[2, tags[2]], [1, tags[1]]]), 400, 'InvalidPartOrder');
    await refused(complete([[1, tags[4]], [2, tags[2]]]), 400, 'InvalidPart');
    await refused(complete([[1, tags[1]], [4, tags[4]], [5, tags[1]]]), 400, 'InvalidPart');
    await part(5, mib);
    await refused(complete([[1, tags[1]], [4, tags[4]], [5, tags[1]]]), 400, 'EntityTooSmall');
    await refused(part(6, mib, { ContentMD5: md5('other', 'base64') }), 400, 'BadDigest');
    await refused(part(10001, mib), 400, 'InvalidArgument');
    await complete([[1, tags[1]], [3, tags[3]], [4, tags[4]]]);
    const head = (await cos.headObject({ Bucket, Region, Key })).headers;
    same([head['content-length'], head['x-cos-meta-m'], head['x-cos-hash-crc64ecma']], [String(2 * 1048576 + 4), 'v', crc(Buffer.concat([mib, mib, Buffer.from('tail')]))]);
    await refused(complete([[1, tags[1]]]), 404, 'NoSuchUpload');
    const second = await cos.multipartInit({ Bucket, Region, Key });
    same((await cos.multipartAbort({ Bucket, Region, Key, UploadId: second.UploadId })).statusCode, 204);
    await refused(cos.multipartListPart({ Bucket, Region, Key, UploadId: second.UploadId }), 404, 'NoSuchUpload');
    same((await control('GET', 'uploads')).filter(u => u.key === Key), []);
});

await test('SDK: restore of an archived object', async () => {
    await put('frozen', 'ice', { StorageClass: 'ARCHIVE' });
    await refused(cos.getObject({ Bucket, Region, Key: 'frozen' }), 403, 'InvalidObjectState');
    await control('POST', 'set', { restore_ms: 3600000 });
    const restore = Key => cos.restoreObject({ Bucket, Region, Key, RestoreRequest: { Days: 1, CASJobParameters: { Tier: 'Expedited' } } });
    same((await restore('frozen')).statusCode, 202);
    await refused(restore('frozen'), 409, 'RestoreAlreadyInProgress');
    same((await cos.headObject({ Bucket, Region, Key: 'frozen' })).headers['x-cos-restore'], 'ongoing-request="true"');
    await refused(cos.getObject({ Bucket, Region, Key: 'frozen' }), 403, 'InvalidObjectState');
    await control('POST', 'set', { restore_ms: 0 });
    await put('thawed', 'ice', { StorageClass: 'ARCHIVE' });
    same((await restore('thawed')).statusCode, 202);
    same((await cos.getObject({ Bucket, Region, Key: 'thawed' })).Body.toString(), 'ice');
});

await test('SDK: signed URL', async () => {
    await put('url', 'by url');
    const url = COS.getAuthorization({ SecretId: COS_SECRET_ID, SecretKey: COS_SECRET_KEY, Method: 'GET', Pathname: '/url', Headers: { host } });
    const got = await raw('GET', '/url?' + url.replace(/;/g, '%3b'), { authorization: [] });
    same([got.status, got.text], [200, 'by url']);
});

await test('SDK: 64 uploads and downloads at once', async () => {
    const bodies = Array.from({ length: 64 }, (_, i) => crypto.randomBytes(1000 + i * 40000));
    await Promise.all(bodies.map((b, i) => put(`many/${i}`, b)));
    const got = await Promise.all(bodies.map((_, i) => cos.getObject({ Bucket, Region, Key: `many/${i}` })));
    same(got.every((g, i) => g.Body.equals(bodies[i])), true);
});

await test('limits: key, metadata, control characters, digests', async () => {
    await put('k'.repeat(850), 'x');
    await refused(put('k'.repeat(851), 'x'), 400, 'KeyTooLong');
    await refused(put('a\x19', 'x'), 400, 'InvalidArgument');
    await put('meta', 'x', { Headers: { 'x-cos-meta-a': 'v'.repeat(2047) } });
    await refused(put('meta', 'x', { Headers: { 'x-cos-meta-a': 'v'.repeat(2048) } }), 400, 'MetadataTooLarge');
    await refused(put('md5', 'x', { ContentMD5: md5('y', 'base64') }), 400, 'BadDigest');
    await refused(put('md5', 'x', { ContentMD5: 'nonsense' }), 400, 'InvalidDigest');
    same((await raw('PUT', '/chunked', { headers: { 'transfer-encoding': 'chunked' }, body: Buffer.from('x') })).code, 'MissingContentLength');
    same((await raw('POST', '/?delete', { body: Buffer.from('<Delete><Object><Key>a</Key></Object></Delete>') })).code, 'MissingContentMD5');
    const bad = Buffer.from('<Delete><Object><Key>a</Object></Delete>');
    same((await raw('POST', '/?delete', { headers: { 'content-md5': md5(bad, 'base64') }, body: bad })).code, 'MalformedXML');
});

await test('paths arrive as they are: double slash, dots, leading slash; path style', async () => {
    for (const target of ['/a//b', '/a/./b', '/a/../b', '//lead', '/%2Flead2', '/a%2Fb'])
        same((await raw('PUT', target, { headers: { 'content-length': 1 }, body: Buffer.from('x'),
            sign: { Pathname: decodeURIComponent(target) } })).status, 200, target);
    const keys = (await control('GET', `objects/${Bucket}`)).map(o => o.key);
    same(['a//b', 'a/./b', 'a/../b', '/lead', '/lead2', 'a/b'].filter(k => !keys.includes(k)), []);
    const got = await raw('GET', `/${Bucket}/a//b`, { hostName: `127.0.0.1:${COS_PORT}` });
    same([got.status, got.text], [200, 'x']);
});

await test('signatures: every kind of wrong one is refused', async () => {
    await put('sig', 'x');
    const sign = opt => COS.getAuthorization({ SecretId: COS_SECRET_ID, SecretKey: COS_SECRET_KEY, Method: 'GET', Pathname: '/sig', Headers: { host }, ...opt });
    const code = async (opt, more = {}) => (await raw('GET', '/sig', { authorization: sign(opt), ...more })).code;
    const now = Math.floor(Date.now() / 1000);
    same(await code({}), undefined);
    same(await code({ SecretId: 'nobody' }), 'InvalidAccessKeyId');
    same(await code({ SecretKey: 'wrong' }), 'SignatureDoesNotMatch');
    same(await code({ Method: 'PUT' }), 'SignatureDoesNotMatch');
    same(await code({ Pathname: '/other' }), 'SignatureDoesNotMatch');
    same(await code({ Headers: { host: 'elsewhere' } }), 'SignatureDoesNotMatch');
    same(await code({ Headers: {} }), 'SignatureDoesNotMatch', 'host not signed');
    same(await code({}, { headers: { 'x-cos-meta-a': '1' } }), 'SignatureDoesNotMatch', 'x-cos header not signed');
    same(await code({ Headers: { host, range: 'bytes=0-1' } }, { headers: { range: 'bytes=0-0' } }), 'SignatureDoesNotMatch', 'signed header changed');
    same(await code({ KeyTime: `${now - 900};${now - 10}` }), 'AccessDenied', 'expired');
    same(await code({ KeyTime: `${now + 100};${now + 900}` }), 'AccessDenied', 'not yet valid');
    same(await code({}, { authorization: sign({}).replace(/q-signature=.*/, '') }), 'AuthorizationHeaderMalformed');
    same((await raw('GET', '/sig', { authorization: [] })).code, 'AccessDenied', 'anonymous');
    same((await raw('GET', '/sig?prefix=b', { authorization: sign({ Query: { prefix: 'a' } }) })).code, 'SignatureDoesNotMatch', 'parameter changed');
});

await test('signatures: recorded requests are accepted, and refused with one digit changed', async () => {
    const vectors = JSON.parse(fs.readFileSync(new URL('../../vectors/cos.json', import.meta.url)));
    let n = 0;
    for (const c of vectors.cases.filter(c => c.expected.authorization)) {
        const token = c.headers['x-cos-security-token'];
        const known = new Map([[vectors.credentials.secret_id, { secret: vectors.credentials.secret_key, token }]]);
        const request = authorization => ({ method: c.method, path: decodeURIComponent(c.path), query: new Map(Object.entries(c.query)),
            headers: new Map([...Object.entries(c.headers).map(([k, v]) => [k.toLowerCase(), v]), ['authorization', authorization]]) });
        const now = Number(c.sign_time.split(';')[0]) + 1, good = c.expected.authorization;
        authenticate(request(good), known, now, 'AccessDenied');
        const bad = good.slice(0, -1) + (good.endsWith('0') ? '1' : '0');
        same((() => { try { return authenticate(request(bad), known, now, 'AccessDenied'); } catch (err) { return err.code; } })(), 'SignatureDoesNotMatch');
        n++;
    }
    same(n >= 20, true, `${n} cases`);
});

await test('SDK: learns the time when the clocks differ', async () => {
    await control('POST', 'clock', { offset_s: 7200, code: 'RequestTimeTooSkewed' });
    try {
        await client().putObject({ Bucket, Region, Key: 'late-clock', Body: 'x' });
    } finally {
        await control('POST', 'clock', { offset_s: 0, code: 'AccessDenied' });
    }
});

await test('temporary keys need their token', async () => {
    const temporary = SecurityToken => client({ SecretId: 'AKIDtemporary', SecretKey: 'temporarySecret', SecurityToken }).headBucket({ Bucket, Region });
    same((await temporary('the-token')).statusCode, 200);
    await refused(temporary('wrong'), 403, '403');
    await refused(temporary(''), 403, '403');
});

await test('faults: refusal, lost reply, late commit, cut, truncation, error in a 200', async () => {
    const plain = client({ ChunkRetryTimes: 0 });
    const objects = async prefix => (await control('GET', `objects/${Bucket}?prefix=${prefix}`)).map(o => o.key);
    const send = (key, body = Buffer.from('x')) => raw('PUT', `/${key}`, { headers: { 'content-length': body.length }, body }).then(r => r.status, e => e.code);
    await control('POST', 'fault', { op: 'PutObject', key: '^f/', action: 'status', status: 503, code: 'SlowDown', count: 2 });
    same([await send('f/1'), await send('g'), await send('f/1'), await send('f/1')], [503, 200, 503, 200]);
    await control('POST', 'fault', { op: 'PutObject', action: 'lost' });
    same([await send('f/2'), await objects('f/2')], ['ECONNRESET', ['f/2']]);
    const late = await control('POST', 'fault', { op: 'PutObject', action: 'late', ms: -1 });
    same([await send('f/3'), await objects('f/3')], ['ECONNRESET', []]);
    await control('DELETE', `fault/${late.id}`);
    for (let i = 0; i < 1000 && !(await objects('f/3')).length; i++)
        await new Promise(r => setTimeout(r, 10));
    same(await objects('f/3'), ['f/3']);
    await control('POST', 'fault', { op: 'PutObject', action: 'cut', bytes: 10 });
    same([(await send('f/4', Buffer.alloc(3000000))).length > 0, await objects('f/4')], [true, []]);
    await control('POST', 'fault', { op: 'PutObject', action: 'reset' });
    same([await send('f/5'), await objects('f/5')], ['ECONNRESET', []]);
    await control('POST', 'fault', { op: 'PutObject', action: 'status_after', status: 500, code: 'InternalError' });
    same([await send('f/6'), await objects('f/6')], [500, ['f/6']]);
    await put('f/long', Buffer.alloc(5000, 1));
    await control('POST', 'fault', { op: 'GetObject', action: 'truncate', bytes: 100 });
    same(await raw('GET', '/f/long').then(() => 'whole', e => e.code), 'ECONNRESET');
    await control('POST', 'fault', { op: 'GetObject', action: 'corrupt', offset: 4999 });
    same(Buffer.from((await raw('GET', '/f/long')).text).at(-1), 0);
    await control('POST', 'fault', { op: 'CopyObject', action: 'error200', code: 'NoSuchThing' });
    await refused(plain.putObjectCopy({ Bucket, Region, Key: 'f/c', CopySource: `${host}/f/long` }), 200, 'NoSuchThing');
    await control('POST', 'fault', { op: 'CopyObject', action: 'keepalive', ms: 300 });
    same((await plain.putObjectCopy({ Bucket, Region, Key: 'f/c', CopySource: `${host}/f/long` })).ETag, `"${md5(Buffer.alloc(5000, 1))}"`);
    await control('POST', 'fault', { op: 'HeadObject', action: 'delay', ms: 300 });
    const start = Date.now();
    await raw('HEAD', '/f/long');
    same(Date.now() - start >= 299, true); // both clocks have whole milliseconds
    await control('DELETE', 'faults');
});

await test('control: foreign objects, deleted buckets', async () => {
    await control('PUT', `object/${Bucket}/foreign/1?opaque=3`, Buffer.from('foreign'));
    const head = (await cos.headObject({ Bucket, Region, Key: 'foreign/1' })).headers;
    same([/^"[0-9a-f]{32}-3"$/.test(head.etag), head['content-length']], [true, '7']);
    await control('PUT', 'bucket/second-1250000000@ap-far');
    await cos.putObjectCopy({ Bucket: 'second-1250000000', Region: 'ap-far', Key: 'from-afar', CopySource: `${host}/foreign/1` });
    await refused(cos.deleteBucket({ Bucket: 'second-1250000000', Region: 'ap-far' }), 409, 'BucketNotEmpty');
    await control('DELETE', 'bucket/second-1250000000');
    await refused(cos.getBucket({ Bucket: 'second-1250000000', Region: 'ap-far' }), 404, 'NoSuchBucket');
});

await test('XML reader refuses what is not well-formed', async () => {
    for (const text of ['', '<a>', '<a></b>', '<a>&b;</a>', '<a>&</a>', '<a/><b/>', '<a>\x01</a>', 'x<a/>', '<a>&#0;</a>'])
        same((() => { try { xml.parse(text); return text; } catch { return 'refused'; } })(), 'refused');
    same(xml.parse('<?xml version="1.0"?><!-- c --><a x="1">&lt;&#65;<b/></a>').text, '<A');
});

await test('log: one line a request, with what it carried', async () => {
    const lines = fs.readFileSync(COS_LOG, 'utf8').trim().split('\n').map(JSON.parse);
    const one = lines.findLast(l => l.op === 'PutObject' && l.key === 'ranged');
    same([one.method, one.path, one.status, one.req_bytes, one.body], ['PUT', '/ranged', 200, 10, true]);
    same(lines.filter(l => l.op === 'CopyObject').every(l => !l.body), true);
    same(lines.every(l => l.end_ms >= l.start_ms), true);
});

end();
