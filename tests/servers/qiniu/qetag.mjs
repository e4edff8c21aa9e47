// The hash of an object, in its three forms.
import crypto from 'node:crypto';
import { qiniu } from './auth.mjs';

const BLOCK = 4 << 20;
const sha1 = bytes => crypto.createHash('sha1').update(bytes).digest();
const text = (form, hash) => qiniu.util.urlsafeBase64Encode(Buffer.concat([Buffer.from([form]), hash]));

// Of the bytes of a Body.
export async function hashOf(body) {
    const blocks = [];
    let hash = crypto.createHash('sha1'), room = BLOCK;
    for await (let part of body.read()) {
        while (part.length) {
            if (room === 0) {
                blocks.push(hash.digest());
                [hash, room] = [crypto.createHash('sha1'), BLOCK];
            }
            const some = part.subarray(0, room);
            hash.update(some);
            room -= some.length;
            part = part.subarray(some.length);
        }
    }
    blocks.push(hash.digest());
    return blocks.length === 1 ? text(0x16, blocks[0]) : text(0x96, sha1(Buffer.concat(blocks)));
}

// Of an object made of parts [{ body, etag }]: as of its bytes when the parts are blocks, else of their own hashes.
export async function hashOfParts(body, parts) {
    if (parts.every((p, i) => i + 1 < parts.length ? p.body.size === BLOCK : p.body.size <= BLOCK))
        return hashOf(body);
    const own = parts.map(p => Buffer.from(qiniu.util.urlSafeToBase64(p.etag), 'base64').subarray(1));
    return text(0x9e, sha1(Buffer.concat(own)));
}
