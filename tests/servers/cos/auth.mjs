// Who may do what. The signature is not computed here: the official SDK's own signer is asked what it would have sent for
// the same method, path, parameters, headers and time, so that a client is never its own judge.
import { require } from '../common.mjs';
import { StoreError } from '../s3like/errors.mjs';

export const COS = require('cos-nodejs-sdk-v5');

const FIELDS = ['q-sign-algorithm', 'q-ak', 'q-sign-time', 'q-key-time', 'q-header-list', 'q-url-param-list', 'q-signature'];

function fields(pairs) {
    const found = {};
    for (const [name, value] of pairs)
        if (FIELDS.includes(name))
            found[name] = value;
    for (const name of FIELDS)
        if (found[name] === undefined)
            throw new StoreError(400, 'AuthorizationHeaderMalformed', `${name} is missing`);
    return found;
}

const names = list => list === '' ? [] : list.split(';');

// credentials: id -> { secret, token }. request: method, path (decoded, with the leading slash), query (Map, decoded),
// headers (Map, lower-case names). Returns the id.
export function authenticate(request, credentials, now_s, skewCode) {
    const { headers, query } = request;
    const header = headers.get('authorization');
    const inUrl = header === undefined && query.has('q-signature');
    if (header === undefined && !inUrl)
        throw new StoreError(403, 'AccessDenied', 'Anonymous access is not allowed.');
    const auth = fields(inUrl ? [...query] : header.split('&').map(p => {
        const cut = p.indexOf('=');
        return [p.slice(0, cut), p.slice(cut + 1)];
    }));

    if (auth['q-sign-algorithm'] !== 'sha1')
        throw new StoreError(400, 'InvalidArgument', 'q-sign-algorithm is not sha1');
    const known = credentials.get(auth['q-ak']);
    if (!known)
        throw new StoreError(403, 'InvalidAccessKeyId', 'The access key id you provided does not exist in our records.');
    const token = headers.get('x-cos-security-token') ?? query.get('x-cos-security-token');
    if (known.token && token !== known.token)
        throw new StoreError(403, 'AccessDenied', 'The security token is missing or wrong.');
    if (known.expired)
        throw new StoreError(400, 'ExpiredToken', 'The provided token has expired.');
    if (!known.token && token)
        throw new StoreError(403, 'InvalidAccessKeyId', 'A permanent key takes no security token.');

    const time = /^(\d+);(\d+)$/.exec(auth['q-sign-time']);
    if (!time || auth['q-key-time'] !== auth['q-sign-time'])
        throw new StoreError(400, 'AuthorizationHeaderMalformed', 'q-sign-time and q-key-time must be one and the same period');
    if (now_s < Number(time[1]) || now_s > Number(time[2]))
        throw new StoreError(403, skewCode, 'Request has expired', { ServerTime: new Date(now_s * 1000).toISOString() });

    const signedHeaders = {}, signedQuery = {};
    const headerList = names(auth['q-header-list']);
    for (const name of headerList) {
        if (name !== name.toLowerCase())
            throw new StoreError(400, 'AuthorizationHeaderMalformed', 'q-header-list is not in lower case');
        if (headers.get(name) === undefined)
            throw new StoreError(403, 'SignatureDoesNotMatch', `The signed header ${name} was not sent.`);
        signedHeaders[name] = headers.get(name);
    }
    const paramList = names(auth['q-url-param-list']);
    for (const [name, value] of query)
        if (paramList.includes(encodeName(name)))
            signedQuery[name] = value;

    const own = COS.getAuthorization({
        SecretId: auth['q-ak'], SecretKey: known.secret, KeyTime: auth['q-sign-time'], Method: request.method,
        Pathname: request.path, Query: signedQuery, Headers: signedHeaders,
    });
    const wanted = fields(own.split('&').map(p => [p.slice(0, p.indexOf('=')), p.slice(p.indexOf('=') + 1)]));
    // The lists are compared too: a name the SDK would not have signed (or which was not sent) is missing from its own.
    for (const name of ['q-header-list', 'q-url-param-list', 'q-signature'])
        if (auth[name] !== wanted[name])
            throw new StoreError(403, 'SignatureDoesNotMatch',
                `The request signature we calculated does not match the signature you provided (${name}).`);

    // COS would take these unsigned; a client of ours must not rely on it.
    if (!headerList.includes('host') && !inUrl)
        throw new StoreError(403, 'SignatureDoesNotMatch', 'The Host header is not signed.');
    for (const name of headers.keys())
        if (name.startsWith('x-cos-') && name !== 'x-cos-security-token' && !headerList.includes(name))
            throw new StoreError(403, 'SignatureDoesNotMatch', `The header ${name} is not signed.`);
    for (const name of query.keys())
        if (name.startsWith('response-') && !paramList.includes(encodeName(name)))
            throw new StoreError(403, 'SignatureDoesNotMatch', `The parameter ${name} is not signed.`);
    return auth['q-ak'];
}

const encodeName = name => encodeURIComponent(name).replace(/[!'()*]/g, c => '%' + c.charCodeAt(0).toString(16)).toLowerCase();
