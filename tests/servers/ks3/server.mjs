// A KS3 server for tests on 127.0.0.1. See ../s3like/server.mjs; here is what only KS3 does. A request signed with AWS's version 4 has
// AWS's header names, and so has its answer.
//
// Buckets answer at <bucket>.ks3-<region>[-internal].ksyuncs.com.
import { serve } from '../s3like/server.mjs';
import { StoreError } from '../s3like/errors.mjs';
import { formEncoded, pathStyle, sourcePath } from '../s3like/skins.mjs';
import { el } from '../xml.mjs';
import { authenticate } from './auth.mjs';

const VIRTUAL = /^([a-z0-9][a-z0-9-]*)\.ks3-([a-z0-9-]+?)(-internal)?\.ksyuncs\.com$/;

await serve({
    env: 'KS3', server: 'Tengine', vendor: 'x-kss-', crc: 'checksum-crc64ecma', clockCode: 'RequestTimeTooSkewed',
    options: { region: 'cn-test', bucket: ['test-bucket'], cred: ['AKLTtestTESTtestTEST:testSecretKeyForTestsOnly'], min_part: 102400 },
    classes: ['STANDARD', 'STANDARD_IA', 'DEEP_IA', 'ARCHIVE', 'COLD_ARCHIVE', 'DEEP_COLD_ARCHIVE', 'EXTREME_PL1', 'EXTREME_PL2', 'EXTREME_PL3'],
    archived: ['ARCHIVE', 'COLD_ARCHIVE', 'DEEP_COLD_ARCHIVE'],
    encryptions: ['AES256'],
    directives: ['COPY', 'REPLACE'],
    encode: formEncoded,
    copiesInRegion: true,
    etagInHead: true,
    authenticate,
    vendorOf: r => r.headers.get('authorization')?.startsWith('AWS4-') ? 'x-amz-' : 'x-kss-',
    requestHeaders: id => ({ 'x-kss-request-id': id, 'x-amz-request-id': id }),
    errorElements: r => el('Resource', r.host + r.rawPath),

    locate(host, path) {
        const virtual = VIRTUAL.exec(host);
        if (virtual)
            return { bucketName: virtual[1], region: virtual[2], key: path.slice(1) };
        return { ...pathStyle(path), pathStyle: true };
    },

    elsewhere: (r, bucket) => new StoreError(301, 'PermanentRedirect', 'The bucket must be addressed using the specified endpoint.',
        { Endpoint: `ks3-${bucket.region}.ksyuncs.com` }),
    copySource: sourcePath,
});
