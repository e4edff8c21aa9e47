// What a test asks of the store behind a server, whatever it speaks: routes for controlServer. A server supplies its state and
//   facts(key, object)                    what is told of an object
//   uploadFacts(upload)                   what is told of an upload but its key and parts
//   makeObject(bytes, query, headers)     => [object, answer]: one put behind the clients' back
//   makeBucket(spec)
import { toBytes, toText } from './store.mjs';

const split = rest => {
    const cut = rest.indexOf('/');
    return cut < 0 ? [rest, ''] : [rest.slice(0, cut), rest.slice(cut + 1)];
};

export function storeRoutes({ buckets, credentials, clock, opt, makeBucket, facts, uploadFacts, makeObject }) {
    const objectOf = rest => {
        const [bucket, key] = split(rest);
        return buckets.get(bucket)?.objects.get(toBytes(key));
    };
    return {
        'POST /_ctl/cred': (rest, body) => {
            const { id, ...wanted } = JSON.parse(body);
            credentials.set(id, { ...credentials.get(id), ...wanted });
            return { id };
        },
        'POST /_ctl/clock': (rest, body) => Object.assign(clock, JSON.parse(body)),
        'POST /_ctl/set': (rest, body) => {
            const wanted = JSON.parse(body);
            for (const name of Object.keys(wanted))
                if (!(name in opt))
                    throw new Error(`unknown setting ${name}`);
            return Object.assign(opt, wanted);
        },
        'GET /_ctl/uploads': () => [...buckets.values()].flatMap(b => [...b.uploads].map(([id, u]) => ({
            bucket: b.name, key: toText(u.byteKey), id, ...uploadFacts(u),
            parts: [...u.parts].map(([number, p]) => ({ number, size: p.body.size, etag: p.etag })),
        }))),
        'GET /_ctl/objects': (rest, body, query) => buckets.get(rest) && [...buckets.get(rest).keys]
            .filter(k => k.startsWith(toBytes(query.get('prefix') ?? ''))).map(k => facts(k, buckets.get(rest).objects.get(k))),
        'GET /_ctl/stat': async (rest, body, query) => {
            const object = objectOf(rest);
            if (!object)
                return undefined;
            // Of an object made of parts nobody has the MD5 yet.
            object.md5 ??= (await object.body.digest()).md5;
            let value = facts(toBytes(split(rest)[1]), object);
            if (!query.has('field'))
                return value;
            for (const name of query.get('field').split('.'))
                value = value?.[name];
            return Buffer.from(`${value ?? ''}\n`);
        },
        'GET /_ctl/object': async rest => {
            const object = objectOf(rest);
            if (!object)
                return undefined;
            const parts = [];
            for await (const part of object.body.read())
                parts.push(part);
            return Buffer.concat(parts);
        },
        'PUT /_ctl/object': async (rest, bytes, query, headers) => {
            const [bucket, key] = split(rest);
            const sent = Object.entries(headers).filter(([n, v]) => !(n === 'content-type' && v === 'application/x-www-form-urlencoded'));
            const [object, answer] = await makeObject(bytes, query, new Map(sent));
            buckets.get(bucket).put(toBytes(key), object);
            return answer;
        },
        'DELETE /_ctl/object': rest => {
            const [bucket, key] = split(rest);
            return { deleted: buckets.get(bucket).remove(toBytes(key)) };
        },
        'PUT /_ctl/bucket': rest => ({ bucket: makeBucket(rest).name }),
        'DELETE /_ctl/bucket': rest => {
            buckets.get(rest)?.dropAll();
            return { deleted: buckets.delete(rest) };
        },
    };
}
