// A COS server for tests on 127.0.0.1. See ../s3like/server.mjs; here is what only COS does.
//
// More options: [--accelerate]. Buckets answer at <bucket>.cos.<region>.myqcloud.com, also cos-internal and tencentcos.cn.
import { serve } from '../s3like/server.mjs';
import { StoreError } from '../s3like/errors.mjs';
import { pathStyle, percentEncoded } from '../s3like/skins.mjs';
import { world } from '../s3like/world.mjs';
import { el } from '../xml.mjs';
import { authenticate } from './auth.mjs';

const VIRTUAL = /^([a-z0-9][a-z0-9-]*-\d+)\.cos(-internal)?\.([a-z0-9-]+)\.(?:myqcloud\.com|tencentcos\.cn)$/;

await serve({
    env: 'COS', server: 'tencent-cos', vendor: 'x-cos-', crc: 'hash-crc64ecma', crcElement: true, clockCode: 'AccessDenied',
    options: { region: 'ap-test', bucket: ['test-1250000000'], cred: ['AKIDtestTESTtestTEST:testSecretKeyForTestsOnly'],
        max_key: 850, accelerate: false },
    classes: ['STANDARD', 'STANDARD_IA', 'INTELLIGENT_TIERING', 'ARCHIVE', 'DEEP_ARCHIVE', 'MAZ_STANDARD', 'MAZ_STANDARD_IA',
        'MAZ_INTELLIGENT_TIERING', 'MAZ_ARCHIVE'],
    archived: ['ARCHIVE', 'DEEP_ARCHIVE', 'MAZ_ARCHIVE'],
    encryptions: ['AES256', 'cos/kms'],
    directives: ['Copy', 'Replaced'],
    encode: percentEncoded,
    restoreNeedsMd5: true,
    authenticate,
    requestHeaders: id => ({ 'x-cos-request-id': id, 'x-cos-trace-id': 'dGVzdA==' }),
    errorElements: r => [el('Resource', r.host + r.rawPath), el('TraceId', 'dGVzdA==')],

    locate(host, path) {
        const virtual = VIRTUAL.exec(host);
        if (virtual)
            return { bucketName: virtual[1], region: virtual[3], key: path.slice(1) };
        return host.startsWith('service.cos.') ? { bucketName: '', key: '' } : pathStyle(path);
    },

    elsewhere(r) {
        if (r.region !== 'accelerate')
            return new StoreError(404, 'NoSuchBucket', 'The specified bucket does not exist.');
        return world.opt.accelerate ? undefined
            : new StoreError(400, 'BucketAccelerateNotEnabled', 'Acceleration is not enabled for this bucket.');
    },

    keyFault: byteKey => /[\x18-\x1b]/.test(byteKey)
        && new StoreError(400, 'InvalidArgument', 'The key holds a control character which is not allowed.'),

    // <bucket>.<endpoint>/<encoded key>: the bucket and object named, whatever the region.
    copySource(r, source, bad) {
        const cut = source.indexOf('/');
        if (cut <= 0)
            throw bad('no key');
        const host = source.slice(0, cut).toLowerCase(), rawKey = source.slice(cut + 1);
        const virtual = VIRTUAL.exec(host.replace(/:\d+$/, ''));
        if (virtual)
            return { bucketName: virtual[1], region: virtual[3], rawKey };
        // Without a COS name, the endpoint has to be the one this request came to.
        const dot = host.indexOf('.');
        if (dot < 0 || host.slice(dot + 1) !== r.host.toLowerCase())
            throw bad(`${host} is not <bucket>.<endpoint>`);
        return { bucketName: host.slice(0, dot), rawKey };
    },
});
