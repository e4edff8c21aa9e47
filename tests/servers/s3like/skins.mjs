// What more than one skin needs.

// encoding-type=url as COS and OSS do it: %XX and nothing else; a plus sign stays one, which a decoder of forms would turn into a
// blank. `bytes`: one character a byte.
export const percentEncoded = bytes => bytes.replace(/[^A-Za-z0-9\-_.~+*]/g, c => '%' + c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0'));
// … and as a form does it.
export const formEncoded = bytes => percentEncoded(bytes).replace(/\+/g, '%2B').replace(/%20/g, '+');

// /<bucket>/<key>, for hosts which are nobody's.
export function pathStyle(path) {
    const [, bucketName, ...rest] = path.split('/');
    return { bucketName, key: rest.join('/') };
}

// A copy source which is such a path, encoded.
export function sourcePath(r, source, bad) {
    const m = /^\/([^/]+)\/(.+)$/.exec(source);
    if (!m)
        throw bad('it is not /<bucket>/<key>');
    return { bucketName: m[1], rawKey: m[2] };
}

// … or without the slash before it.
export function sourceName(r, source, bad) {
    return sourcePath(r, `/${source.replace(/^\//, '')}`, bad);
}
