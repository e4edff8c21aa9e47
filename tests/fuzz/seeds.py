#!/usr/bin/env python3
"""Writes the seeds that are made, not found: corpus/TARGET/seed-NAME. Run it after a change here; what it wrote is committed.

Findings are kept beside them, by what they are (fix-…), and are not touched.
"""
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE.parent / 'vectors'
MD5 = '0123456789abcdef0123456789abcdef'


def xml_list(rows, more='', root='ListBucketResult'):
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{more}{rows}</{root}>'


def contents(key, size=5, etag=f'&quot;{MD5}&quot;', more=''):
    return (f'<Contents><Key>{key}</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><ETag>{etag}</ETag>'
            f'<Size>{size}</Size>{more}</Contents>')


def error(code, more=''):
    return f'<Error><Code>{code}</Code><Message>why</Message>{more}<RequestId>id</RequestId></Error>'


def lists():
    two = contents('a') + contents('b/c', more='<StorageClass>GLACIER</StorageClass><Owner><ID>me</ID></Owner>')
    yield 'v1', '07' + xml_list(two + '<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>', '<IsTruncated>false</IsTruncated>')
    yield 'v1-marker', '03' + xml_list('<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>',
                                       '<IsTruncated>true</IsTruncated><NextMarker>d/</NextMarker>')
    yield 'v2', '15' + xml_list(two, '<IsTruncated>true</IsTruncated><NextContinuationToken>1ueGcxLPRx</NextContinuationToken>')
    yield 'v2-url', '31' + xml_list(contents('a+b%2Fc%0A') + contents('%00') + contents('%E4%B8%AD'),
                                    '<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>')
    yield 'cos-url', '02' + xml_list(contents('a+b%2Fc'), '<Encoding-Type>url</Encoding-Type><IsTruncated>true</IsTruncated>'
                                                          '<NextMarker>a%2Bb</NextMarker>')
    yield 'ceph-references', '19' + xml_list(contents('a%01b'), '<Prefix>&#x01;</Prefix><EncodingType>url</EncodingType>'
                                             '<Marker>\x01</Marker><IsTruncated>true</IsTruncated>')
    yield 'error', '09' + error('SlowDown')
    yield 'blanks-first', '04 \r\n \n' + xml_list('')
    yield 'empty-key', '04' + xml_list(contents('') + contents('a'))
    yield 'cut', '08' + xml_list(two)[:150]
    yield 'doctype', '04<!DOCTYPE a [<!ENTITY b "c">]><ListBucketResult>&b;</ListBucketResult>'


def pages():
    part = '<Part><PartNumber>{0}</PartNumber><ETag>"{1}"</ETag><Size>{2}</Size></Part>'
    parts = part.format(1, MD5, 5) + part.format(7, 'x-2', 6)
    yield 'parts', '0' + xml_list(parts, '<IsTruncated>true</IsTruncated><NextPartNumberMarker>7</NextPartNumberMarker>',
                                  'ListPartsResult')
    uploads = '<Upload><Key>a+%2Fb</Key><UploadId>u1</UploadId><Initiated>2023-11-14T22:13:20.000Z</Initiated></Upload>'
    more = '<IsTruncated>true</IsTruncated><NextKeyMarker>a%2F</NextKeyMarker><NextUploadIdMarker>u1</NextUploadIdMarker>'
    yield 'uploads', '1' + xml_list(uploads, more, 'ListMultipartUploadsResult')
    yield 'uploads-url', '2' + xml_list(uploads, more + '<EncodingType>url</EncodingType>', 'ListMultipartUploadsResult')
    yield 'deletes', '3' + xml_list('<Error><Key>a</Key><Code>AccessDenied</Code><Message>no</Message></Error>' * 2, '',
                                    'DeleteResult')
    yield 'error', '4' + error('NoSuchKey', '<Region>eu</Region><Endpoint>e</Endpoint><ServerTime>2023-11-14T22:13:20Z</ServerTime>')
    yield 'error-cut', '4' + error('NoSuchKey')[:50]


def xmls():
    yield 'document', '05<?xml version="1.0"?><a:b x="1"><c>t&amp;&#65;<![CDATA[<]]></c><!-- d --><?p i?><e/></a:b>'
    yield 'deep', '01' + '<a>' * 17
    yield 'text', '10a<b>&"\'\t\r\n中\U0001f600'


def heads():
    head = f'ETag: "{MD5}"\r\nContent-Length: 5\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n'
    yield 'head', head + "x-cos-meta-a: UTF-8''%E4%B8%AD\r\nX-Cos-Meta-A: 2\r\nserver: x\r\nset-cookie: s\r\n"
    yield 'leading-returns', 'a:\r \r b\nc:\r\r\n'
    yield 'odd', 'no header\r\n: empty\r\n folded: x\r\na:\r\nb: \tx \t\r\nAccept: */*\nc;d: e\n'
    yield 'url', 'https://user:p@ss@host:443/path?signature=x#f'


def texts():
    for i, s in enumerate(('Tue, 14 Nov 2023 22:13:20 GMT', '2023-11-14T22:13:20.123Z', '18446744073709551615', 'bytes 0-4/10',
                           'bytes */10', f'"{MD5}"', f'{MD5}-3', '512MiB', '1KB', 'true', '3600', "UTF-8''%E4%B8%AD%0A", 'aGVsbG8=',
                           'a%2Fb+c', ' blank around ', '中')):
        yield f'text{i:02}', s
    with open(VECTORS / 'checksums.json') as f:
        vectors = json.load(f)
    yield 'vectors', json.dumps(vectors['algorithms'])[:300]


def answers():
    head = f'ETag: "{MD5}"\nContent-Length: 5\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\nDate: Tue, 14 Nov 2023 22:13:20 GMT\n'
    cos = head + ("x-cos-meta-name: UTF-8''%E4%B8%AD\nx-cos-hash-crc64ecma: 18446744073709551615\nx-cos-version-id: v\n"
                  'x-cos-storage-class: ARCHIVE\nContent-Type: text/plain\nCache-Control: no-cache\n')
    yield 'stat-cos', '2a00\n' + cos + '\n'
    yield 'no-etag', '0a00\nContent-Length: 5\nx-amz-meta-a: b\n\n'
    yield 'part-no-etag', '2i00\nContent-Length: 5\n\n'
    yield 'region-lines', '0a40\n\n' + error('AuthorizationHeaderMalformed', '<Region>a\nb</Region>')
    yield 'stat-s3', '0a00\n' + head + 'x-amz-meta-md5: ' + MD5 + '\nx-amz-server-side-encryption: aws:kms\n\n'
    yield 'read', '0b15\n' + head + 'Content-Range: bytes 1-5/6\n\n'
    yield 'read-whole', '2b08\n' + cos + '\n'
    yield 'write', '2c00\n' + cos + '\n'
    yield 'list', '0e00\n\n' + xml_list(contents('a'))
    yield 'list-error', '1e00\n\n' + error('InternalError')
    yield 'copy', '0f00\n\n<CopyObjectResult><ETag>"' + MD5 + '"</ETag><LastModified>2023-11-14T22:13:20Z</LastModified></CopyObjectResult>'
    yield 'copy-error', '2f00\n\n' + error('SlowDown')
    yield 'many', '0g00\n\n' + xml_list('<Error><Key>k&amp;</Key><Code>AccessDenied</Code><Message>no</Message></Error>', '', 'DeleteResult')
    yield 'begin', '2h00\n\n<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>'
    yield 'part', '2i00\n' + cos + '\n'
    yield 'commit', '2j00\n\n<CompleteMultipartUploadResult><ETag>"x-2"</ETag><CRC64>7</CRC64></CompleteMultipartUploadResult>'
    yield 'parts', '0l00\n\n' + xml_list('<Part><PartNumber>1</PartNumber><ETag>"a"</ETag><Size>5</Size></Part>', '', 'ListPartsResult')
    yield 'uploads', '0m00\n\n' + xml_list('<Upload><Key>k</Key><UploadId>u</UploadId></Upload>', '', 'ListMultipartUploadsResult')
    yield 'stat-oss', '3a00\n' + head + 'x-oss-meta-xattr-user--2ex: y\nx-oss-storage-class: Standard\nx-oss-object-type: Normal\n\n'
    yield 'head-error-oss', '3a60\nx-oss-err: PEVycm9yPjxDb2RlPk5vU3VjaEtleTwvQ29kZT48L0Vycm9yPg==\n\n'
    yield 'many-oss', '3g00\n\n' + xml_list('<Deleted><Key>k&amp;</Key></Deleted>', '', 'DeleteResult')
    yield 'endpoint-oss', '3a50\n\n' + error('AccessDenied', '<Endpoint>oss-cn-y.aliyuncs.com</Endpoint>')
    yield 'write-ks3', '4c00\n' + head + 'x-kss-checksum-crc64ecma: 7\n\n'
    yield 'throttled', '0a90\nRetry-After: 7\n\n' + error('SlowDown')
    yield 'region', '0a40\nx-amz-bucket-region: eu-north-1\n\n' + error('AuthorizationHeaderMalformed', '<Region>us-west-2</Region>')
    yield 'redirect', '0a30\n\n' + error('PermanentRedirect', '<Endpoint>b.example.com</Endpoint>')
    blob = head + ("x-ms-meta-md5_2dfrom: UTF-8''%E4%B8%AD\nx-ms-meta-_expires: x\nx-ms-access-tier: Archive\n"
                   'x-ms-encryption-scope: s\nContent-Type: text/plain\n')
    yield 'azure-stat', '5a00\n' + blob + '\n'
    yield 'azure-read', '5b15\n' + blob + 'Content-Range: bytes 1-5/6\n\n'
    yield 'azure-behind', '5b10\n' + blob + 'Content-Range: bytes 1-0/1\n\n'
    yield 'azure-list', ('5e00\n\n<EnumerationResults><Blobs><Blob><Name Encoded="true">a%07</Name><Properties><Etag>0x1</Etag>'
                         '<Content-Length>0</Content-Length></Properties></Blob><BlobPrefix><Name>b/</Name></BlobPrefix></Blobs>'
                         '<NextMarker>m</NextMarker></EnumerationResults>')
    yield 'azure-copy', '5f00\n' + blob + 'x-ms-copy-status: success\n\n'
    yield 'azure-parts', '5l00\n\n<BlockList><UncommittedBlocks><Block><Name>YWFh</Name><Size>5</Size></Block></UncommittedBlocks></BlockList>'
    yield 'azure-error', ('5a50\nx-ms-request-id: id\n\n<Error><Code>AuthenticationFailed</Code><Message>m\nTime:1</Message>'
                          '<AuthenticationErrorDetail>Request date header too old</AuthenticationErrorDetail></Error>')
    gcs = head + ('x-goog-hash: crc32c=jE0SWg==,md5=XUFAKrxLKna5cZ2REBfFkg==\nx-goog-meta-objmig-expires: later\n'
                  'Cache-Control: private, max-age=0\nx-goog-storage-class: NEARLINE\n')
    yield 'stat-gcs', '6a00\n' + gcs + '\n'
    yield 'read-gcs', '6b18\n' + gcs + 'Content-Range: bytes 0-7/8\n\n'
    yield 'token-gcs', '6a40\nDate: Tue, 14 Nov 2023 22:13:20 GMT\n\n' + error('AuthenticationRequired')
    bos = [('list', 'e', '{"isTruncated":true,"nextMarker":"z","contents":[{"key":"b","lastModified":"2023-11-14T22:13:20Z",'
            '"eTag":"e","size":5,"storageClass":"COLD"},{"key":"\\u0000"}],"commonPrefixes":[{"prefix":"a/"}]}'),
           ('copy', 'f', '  {"eTag":"%s","lastModified":"2023-11-14T22:13:20Z"}' % MD5), ('copy-error', 'f', '{"code":"SlowDown","message":"m","requestId":"i"}'),
           ('many', 'g', '{"errors":[{"key":"k&","code":"AccessDenied","message":"no"}]}'), ('begin', 'h', '{"uploadId":"u"}'),
           ('commit', 'j', '{"eTag":"-%s"}' % MD5), ('parts', 'l', '{"parts":[{"partNumber":1,"eTag":"a","size":5}],"isTruncated":true,"nextPartNumberMarker":1}'),
           ('uploads', 'm', '{"uploads":[{"key":"k","uploadId":"u","initiated":"2023-11-14T22:13:20Z"},{"key":"kk","uploadId":"v"}],"isTruncated":false}')]
    for name, kind, body in bos:
        yield f'bos-{name}', f'7{kind}00\nx-bce-content-crc32c: 7\n\n{body}'
    yield 'bos-archived', '7a50\nx-bce-storage-class: ARCHIVE\n\n{"code":"InvalidObjectState","message":"m"}'
    upyun = f'ETag: "{MD5}"\nContent-Md5: {MD5}\nx-upyun-file-type: file\nx-upyun-file-size: 5\nx-upyun-file-date: 1700000000\nx-upyun-meta-objmig-expires: x\nx-upyun-meta-a: b\n\n'
    yield 'upyun-stat', '8a00\n' + upyun
    yield 'upyun-list', '8e00\n\n{"files":[{"type":"folder","name":"d"},{"type":"x","name":"f","length":5,"last_modified":1700000000,"etag":"e"}],"iter":"i"}'
    yield 'upyun-begin', '8h20\nX-Upyun-Multi-Uuid: u\n\n'
    yield 'upyun-parts', '8l00\n\n{"parts":[{"etag":"a","size":5,"id":0}]}'
    yield 'upyun-uploads', '8m00\n\n{"files":[{"key":"/k","uuid":"u","completed":false,"created_at":1700000000}]}'
    yield 'upyun-error', '8d40\n\n{"code":40300005,"msg":"directory not empty","id":"r"}'
    part = '--b\r\nContent-Type: application/http\r\nContent-ID: %d\r\n\r\nHTTP/1.1 %s\r\n\r\n'
    yield 'azure-many', '5g00\n\n' + part % (1, '202 Accepted') + part % (0, '404 no\r\nx-ms-error-code: BlobNotFound') + '--b--\r\n'
    yield 'restore', '2n00\n\n'
    yield 'restore-refused', '0n50\n\n' + error('InvalidObjectState')
    yield 'restore-azure', '5n60\n\n<Error><Code>BlobBeingRehydrated</Code></Error>'
    yield 'skew', '2a50\nDate: Tue, 14 Nov 2023 22:33:20 GMT\n\n'
    stat = ('{"fsize":5,"hash":"Fto5o-5ea0sNMlW_75VgGJCv2AcJ","mimeType":"text/plain","putTime":17000000000000007,"type":2,'
            '"x-qn-meta":{"a":"utf8-base64,5Lit","!Expires":"x\\ny","esc-x_2ey":"1"}}')
    yield 'stat-qiniu', '9a00\n\n' + stat
    yield 'read-qiniu', '9b08\nETag: "Fto5o-5ea0sNMlW_75VgGJCv2AcJ"\nX-Qn-Meta-Esc-X_2ey: 1\nCache-Control: no-store\n\n'
    yield 'write-qiniu', '9c00\n\n{"hash":"Fto5o-5ea0sNMlW_75VgGJCv2AcJ","key":"k"}'
    yield 'list-qiniu', '9e00\n\n{"marker":"M","items":[{"key":"b","hash":"h","fsize":1,"putTime":1},{"key":"a\\u0000","hash":"h","fsize":1}],"commonPrefixes":["a/"]}'
    yield 'copy-qiniu', '9f00\n\n' + stat
    yield 'many-qiniu', '9g00\n\n[{"code":200},{"code":612,"data":{"error":"x\\ny"}},{"code":573}]'
    yield 'begin-qiniu', '9h00\n\n{"uploadId":"u","expireAt":1}'
    yield 'part-qiniu', '9i00\n\n{"etag":"Fto5o-5ea0sNMlW_75VgGJCv2AcJ","md5":"0cc175b9c0f1b6a831c399e269772661"}'
    yield 'parts-qiniu', '9l00\n\n{"uploadId":"u","partNumberMarker":1,"parts":[{"size":5,"etag":"e","partNumber":1}]}'
    yield 'refused-qiniu', '9a50\nX-Reqid: r\n\n{"error":"expired\\ttoken"}'


def names():
    keys = ['a//b', '/', '..', '.objmig', 'a\nb', 'a^0Ab', '^5E0A', 'é中', 'x' * 300, 'x' * 253, '^' * 130, '中' * 90, '50^', 'dir/']
    for i, key in enumerate(keys):
        yield f'key{i:02}', '0' + key
    yield 'key-bytes', b'0\xff\xc3\xa9\xc3/\x00\x7f'
    for i, path in enumerate(('a/^2F/b', 'dir^2F', 'dir/^2F', '^2E./y', 'a^5E0Ab', 'x' * 249 + '^2F^2F/' + 'x' * 51, '^5E2F', '../x')):
        yield f'path{i:02}', '1' + path


def confs():
    yield 'three', ('# remotes\n[aws-prod]\nprovider = s3\nbucket = my-photos\nregion = eu-west-1\naccessKeyId = AKIA\n'
                    'accessKeySecret = abc123 ; comment\n\n[cos-prod]\nprovider = cos\nbucket = photos-1250000000\n'
                    'region = ap-guangzhou\nsecretId = AKID\nsecretKey = xyz789\nsecurityToken = ' + 'T' * 250 +
                    '\nbigFileUploadPartSize = 16M\nentireFileMd5Attached = strict\n[nas]\nprovider=local\npath=/srv\n')
    yield 'faults', ('provider = s3\n[all]\n[a/b]\nregoin = x\nnothing\n[c\n[d]\nprovider = s4\nhttps = maybe\n[d]\n'
                     'accessKeySecret = only this\nsmallFileThreshold = 9E\nendPoint = user:pass@host\n')
    yield 'aws', ('[default]\naws_access_key_id = I\naws_secret_access_key = S\n[s]\nprovider = s3\nbucket = b\nendPoint = http://127.0.0.1:7480/\nhttps = off\nconnectTo = [::1]:80\n'
                  'proxyHost = p\nproxyPort = 3128\n')
    yield 'qiniu', '[q]\nprovider = qiniu\nbucket = b\nregion = z0\ndomain = http://d.example\ndomainPrivate = off\naccessKeyId = I\naccessKeySecret = S\n'
    yield 'bom', '\ufeff[n]\r\nprovider = memory\r\nprefix = a/b\r\n'


def rclones():
    s3 = '[a]\ntype = s3\nprovider = %s\naccess_key_id = I\nsecret_access_key = S\n%s'
    yield 'aws', 'a:b/c\n' + s3 % ('AWS', 'region = eu-west-1\nsession_token = T\nacl = private\n')
    yield 'other', 'a:/b//c/\n' + s3 % ('Other', 'endpoint = http://127.0.0.1:9000/\nv2_auth = true\nlist_version = 2\nnew = 1\n')
    yield 'cos', 'a:b-1\n' + s3 % ('TencentCOS', 'endpoint = cos.ap-tokyo.myqcloud.com\nrequester_pays = true\n')
    yield 'oss', 'a:b\n' + s3 % ('Alibaba', 'endpoint = oss-cn-hangzhou-internal.aliyuncs.com\nstorage_class = GLACIER\n')
    yield 'kms', 'a:b\n' + s3 % ('AWS', 'server_side_encryption = aws:kms\nsse_kms_key_id = k\nsse_customer_key = c\n')
    yield 'azure', 'a:c\n[a]\ntype = azureblob\naccount = acc\nkey = a2V5\nendpoint = blob.example\n'
    yield 'sas', 'a:c\n[a]\ntype = azureblob\nsas_url = http://127.0.0.1:1/acc/c?sv=1&sig=x\n'
    yield 'string', 'a:c\n[a]\ntype = azureblob\nconnection_string = AccountName=acc;AccountKey=k;EndpointSuffix=x\n'
    yield 'google', 'a:b\n[a]\ntype = gcs\nservice_account_credentials = {"type":"service_account","client_email":"a@b","private_key":"k"}\n'
    yield 'alias', 'x:y\n[x]\ntype = alias\nremote = z:b/c\n[z]\ntype = alias\nremote = a:\n' + s3 % ('AWS', '')
    yield 'loop', 'x:\n[x]\ntype = alias\nremote = x:y\n'
    yield 'local', 'x:z\n[x]\ntype = alias\nremote = /srv/./a:b/\n'
    yield 'crypt', 'x:b\n[x]\ntype = crypt\n'
    yield 'closed', 'x:b\n# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nAAAA\n'


def specs():
    for i, s in enumerate(('nas', 'cos-prod:a/b', 'all', 'nsa', 's3://bucket/prefix\nregion=eu-west-1\nhttps=on',
                           's3://b\nendPoint=http://127.0.0.1:1\nhttps=off\npathStyle=on', 'cos://b-1/p/\nregion=ap-x', 'file:///srv//',
                           'ftp://x', 'nas\nregion=x', 's3://b\nregion=r\nsecretKey=s', 'cos://all-1\nregion=r', 'nas:/x', 'n\x07a')):
        yield f'spec{i:02}', s


def rows():
    yield 'extents', f'0B 10\nL 5\nR 10 5 1 20 -7 {MD5} =etag =v =a%20key\nR 5 0 ^\nH 3\nP 7 2\n'
    yield 'pairs', '1content-type=text%2Fplain&meta-mode=33188&meta-a='
    yield 'error', '2class=4&status=403&retry=0&attempts=2&unknown=0&code=AccessDenied&request=id&message=no%20way'
    # the state of an MD5 after "hello": format, A B C D, bits low and high, the block, how much of it is filled
    block = b'hello'.ljust(64, b'\0')
    state = struct.pack('<I4I2I', 0x4d443501, 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 40, 0) + block + struct.pack('<I', 5)
    yield 'md5', b'3' + state + b' world'


def journals():
    yield 'nothing', ''
    yield 'types', '0btfile\n0ctx\n0ei99\n0gr1.5\n0sb\xff\n1fn\n1hbshort\n2bt\xff\n2oi1\n'
    yield 'ranges', '0ci4611686018427387904\n0hi-1\n0fi32\n0ni1\n0ob\n1ci0\n1di-1\n2gb0123456789abcdef\n7bi-5\n'
    yield 'texts', '0rtclass=99\n0stx=1\n0ttL 0\n0xtB 3\n3db\n4ct\n5et\n6bt\n8bt\n'
    yield 'rows', '0zbnew\n1zbx\n2zbnew\n3zbx\n'


def wires():
    remote = {'name': 'r', 'provider': 's3', 'bucket': 'b', 'region': 'eu%20x', 'prefix': '', 'endpoint': '', 'path': '',
              'access_key_id': 'i', 'connect_to': '', 'proxy_host': '', 'storage_class': '', 'encryption': '', 'signature': 'v4',
              'access_key_secret': 's', 'security_token': 't%FF', 'https': True, 'path_style': False, 'proxy_port': 0,
              'small_file_threshold': 5, 'part_size': 8, 'small_slots': 1, 'big_slots': 1, 'request_timeout_ms': 1,
              'request_try_count': 1, 'list_version': 2, 'limits.max_copy': 0, 'limits.max_put': 0, 'limits.max_part': 0,
              'limits.min_part': 0, 'file_md5': 1, 'defaults': {'conditionalWrites': 'on'}}
    yield 'remote', json.dumps(remote) + '\n'
    yield 'commands', '{"cmd":"status","remote":"a","prefix":"b%2F"}\n{"ok":false,"status":-5,"error":"x"}\n[]\n{"a":1,"a":2}\n\n{'


def metas():
    yield 's3fs', 'meta-mode=33188\nmeta-uid=1000\nmeta-gid=100\nmeta-mtime=1700000000\n'
    yield 'rclone', 'meta-mode=0100644\nmeta-mtime=2023-11-14T22:13:20.123456789+02:00\nmeta-rdev=259\n'
    yield 'device', 'meta-mode=25008\nmeta-rdev=2049\nmeta-mtime=-1.5\nmeta-md5=' + MD5 + '\nmeta-md5-from=source\n'
    yield 'far-time', 'meta-mtime=9999-12-31T23:59:59Z\n'
    yield 'foreign-xattrs', 'meta-xattr-system.acl=1\nmeta-xattr-user._61=2\nmeta-a!=3\nmeta-Own=4\n'
    yield 'xattrs', ('meta-xattr-user.a_41=b%00\nmeta-xattr-trusted.x=1\nmeta-own=2\ncontent-type=text/plain\nexpires=x\n'
                     'user.mime_type=a/b\nuser.objmig.meta.own=3\nuser.B c=4\nstorage-class=IA\n')


def options():
    yield 'many', 'ro,noatime,cache_size=10G,memory=512M,list_ttl=0.5,close=remote,conflict=check,attr=head,umask=022,uid=0,gid=0'
    yield 'escaped', 'cache=/a\\,b,log=x\\\\y,region=eu,_netdev,x-systemd.automount,nofail,loglevel=debug'
    yield 'faults', 'nonsense'
    yield 'two-lines', 'non\nsense'
    yield 'values', 'stop_timeout=5,wait_timeout=1.25,writeback_delay=99999999,bwlimit=1K,dirmarker=never,suid,dev'


def mount_tables():
    yield 'table', ('22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n'
                    '36 22 0:45 / /mnt/a\\040b rw master:1 shared:2 - fuse.objmig cos-prod rw,user_id=0\n'
                    '37 22 0:46 / /mnt/a\\040b rw - tmpfs none rw\n\nnot a line\n38 22 0:47 / /x rw -\n')


def url_lists():
    yield 'lines', '0\ufeff# list\nhttp://h:81/a%20b?sig=%2B\r\n\n https://[::1]:443/c d#x\nhttp://例え.jp//a//b\n'
    yield 'faults', '0http://h/a\nhttp://i/a\nftp://h/b\nhttp://h/\nhttp://h/%00\n'
    yield 'manifest', '0Key,Url,Size,ETag,Md5\n"a, ""b""",http://h/1,5,"""e""",' + MD5 + '\nc,"http://h/2,3",,,\n'
    yield 'manifest-tabs', '0Url\tKey\nhttp://h/1\ta\n'
    yield 'manifest-faults', '0Key,Url\n"a,http://h/1\n,http://h/2\nb\n'
    for n, vector in enumerate(json.loads((VECTORS / 'http.json').read_text())['cases']):
        yield f'url{n:02}', '1' + vector['input_url'] + '\n../x?y'
    yield 'redirect-away', '1https://u:p@h/a/b\nhttps://u:p@other:443/%2e%2E/c'
    yield 'redirect-host', '1http://h/a\n//i/b'


TARGETS = {'answers': answers, 'conf': confs, 'headers': heads, 'journal': journals, 'list': lists, 'meta': metas,
           'mounts': mount_tables, 'names': names, 'options': options, 'pages': pages, 'rclone': rclones, 'rows': rows, 'spec': specs,
           'urllist': url_lists, 'values': texts, 'wire': wires, 'xml': xmls}

for target, make in TARGETS.items():
    folder = HERE / 'corpus' / target
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob('seed-*'):
        old.unlink()
    for name, data in make():
        (folder / f'seed-{name}').write_bytes(data if isinstance(data, bytes) else data.encode())
