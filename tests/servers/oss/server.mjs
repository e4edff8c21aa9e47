// An OSS server for tests on 127.0.0.1. See ../s3like/server.mjs; here is what only OSS does.
//
// More options: [--v1-closed], as for new buckets. Buckets answer at <bucket>.oss-<region>[-internal].aliyuncs.com.
import { serve } from '../s3like/server.mjs';
import { StoreError } from '../s3like/errors.mjs';
import { pathStyle, percentEncoded, sourcePath } from '../s3like/skins.mjs';
import { world } from '../s3like/world.mjs';
import { el } from '../xml.mjs';
import { authenticate } from './auth.mjs';

const VIRTUAL = /^([a-z0-9][a-z0-9-]*)\.oss-([a-z0-9-]+?)(-internal)?\.aliyuncs\.com$/;
const SERVICE = /^oss-([a-z0-9-]+?)(-internal)?\.aliyuncs\.com$/;
const typeOf = object => object.etag.includes('-') ? 'Multipart' : 'Normal';

await serve({
    env: 'OSS', server: 'AliyunOSS', vendor: 'x-oss-', crc: 'hash-crc64ecma', clockCode: 'RequestTimeTooSkewed',
    options: { region: 'cn-test', bucket: ['test-bucket'], cred: ['LTAItestTESTtestTEST:testSecretKeyForTestsOnly'],
        min_part: 102400, max_meta: 8192, max_key: 1023, v1_closed: false },
    classes: ['Standard', 'IA', 'Archive', 'ColdArchive', 'DeepColdArchive'],
    archived: ['Archive', 'ColdArchive', 'DeepColdArchive'],
    alwaysClass: true,
    encryptions: ['AES256', 'KMS', 'SM4'],
    directives: ['COPY', 'REPLACE'],
    encode: percentEncoded,
    upperEtags: true,
    etagInHead: true,
    lenientRanges: true,
    quietIsMute: true,
    badDigest: 'InvalidDigest',
    listPage: 100,
    copiesInRegion: true,
    badMetaName: /[^a-z0-9-]/,
    headError: 'x-oss-err',
    objectHeaders: object => ({ 'x-oss-object-type': typeOf(object) }),
    listFacts: object => el('Type', typeOf(object)),
    requestHeaders: id => ({ 'x-oss-request-id': id }),
    errorElements: (r, err) => [el('HostId', r.host), el('EC', err.ec ?? '0000-00000000')],

    authenticate(r, credentials, now_s, skewCode) {
        if (world.opt.v1_closed && r.headers.get('authorization')?.startsWith('OSS '))
            throw Object.assign(new StoreError(403, 'AccessDenied', 'Signature version 1 is not allowed.', {},
                { 'x-oss-ec': '0002-00000080' }), { ec: '0002-00000080' });
        r.signingRegion = r.region ?? world.buckets.get(r.bucketName)?.region;
        authenticate(r, credentials, now_s, skewCode);
    },

    locate(host, path) {
        const virtual = VIRTUAL.exec(host);
        if (virtual)
            return { bucketName: virtual[1], region: virtual[2], key: path.slice(1) };
        if (!SERVICE.test(host))
            return pathStyle(path);
        if (path !== '/')
            throw new StoreError(403, 'SecondLevelDomainForbidden', 'The bucket you are attempting to access must be addressed using OSS third level domain.');
        return { bucketName: '', key: '' };
    },

    elsewhere: (r, bucket) => new StoreError(403, 'AccessDenied',
        'The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.',
        { Endpoint: `oss-${bucket.region}.aliyuncs.com`, Bucket: bucket.name }),

    keyFault: byteKey => /^[/\\]|[\r\n]/.test(byteKey) && new StoreError(400, 'InvalidObjectName', 'The specified object is not valid.'),
    copySource: sourcePath,
});
