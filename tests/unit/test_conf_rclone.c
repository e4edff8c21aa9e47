/* Remotes of an rclone.conf: what each is here, and what is refused. */
#include "unit.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "conf.h"
#include "mem.h"

static char dir[64], file[96];

static void write_file(const char *path, const char *text, mode_t mode)
{
    (void)unlink(path);
    CLEANUP(mem_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
}

static int setup(void **state)
{
    static const char *const names[] = {"AWS_ACCESS_KEY_ID",
                                        "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN",
                                        "AWS_REGION",
                                        "AWS_DEFAULT_REGION",
                                        "AWS_PROFILE",
                                        "AWS_SHARED_CREDENTIALS_FILE",
                                        "AWS_CONFIG_FILE",
                                        "COS_SECRET_ID",
                                        "COS_SECRET_KEY",
                                        "TENCENTCLOUD_SECRET_ID",
                                        "GOOGLE_APPLICATION_CREDENTIALS",
                                        "GS_ACCESS_KEY_ID",
                                        "XDG_CONFIG_HOME",
                                        "AZURE_STORAGE_CONNECTION_STRING",
                                        "AZURE_STORAGE_ACCOUNT",
                                        "AZURE_STORAGE_KEY"};
    (void)snprintf(dir, sizeof(dir), "/tmp/objmig-test-rclone-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(file, sizeof(file), "%s/rclone.conf", dir);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)unsetenv(names[i]);
    }
    return setenv("HOME", dir, 1) | setenv("RCLONE_CONFIG", file, 1);
}

static int teardown(void **state)
{
    (void)unsetenv("RCLONE_CONFIG");
    (void)unlink(file);
    return rmdir(dir);
}

static void say(struct buf *b, const char *name, const char *value)
{
    if (value && value[0] != '\0') {
        assert_int_equal(buf_addf(b, " %s=%s", name, value), 0);
    }
}

/* All of a remote that differs from a remote of nothing. */
static void describe(struct buf *b, const struct conf_remote *r, const char *below)
{
    assert_int_equal(buf_addf(b, "%s: %s", r->name, r->provider), 0);
    say(b, "bucket", r->bucket);
    say(b, "path", r->path);
    say(b, "prefix", r->prefix);
    say(b, "below", below);
    say(b, "region", r->region);
    say(b, "endpoint", r->endpoint);
    say(b, "https", r->https ? "" : "off");
    say(b, "path_style", r->path_style ? "on" : "");
    say(b, "id", r->access_key_id);
    say(b, "secret", r->access_key_secret ? r->access_key_secret->bytes : "");
    say(b, "token", r->security_token ? r->security_token->bytes : "");
    say(b, "class", r->storage_class);
    say(b, "encryption", r->encryption);
    say(b, "signature", strcmp(r->signature, "v4") == 0 ? "" : r->signature);
    say(b, "list", r->list_version == 2 ? "" : "1");
}

/* The remote; or the fault, whose file's name is left out. */
static void resolve(const char *text, const char *spec, struct buf *ret, struct buf *ret_notes)
{
    struct conf *c = conf_new("");
    const struct conf_remote *r = NULL, *again = NULL;
    struct errinfo err = {0};
    char *prefix = NULL;
    write_file(file, text, 0600);
    buf_clear(ret);
    int rc = conf_resolve(c, spec, NULL, &r, &prefix, &err);
    if (rc == 0) {
        describe(ret, r, prefix);
        assert_string_equal(c->file, file);
        assert_int_equal(buf_adds(ret_notes, c->notes ? c->notes : ""), 0);
        free(prefix);
        assert_int_equal(conf_resolve(c, spec, NULL, &again, &prefix, &err), 0);
        assert_ptr_equal(again, r); /* asked again, the same */
        free(prefix);
    } else {
        const char *at = strstr(err.message, file);
        assert_int_equal(err.cls, ERR_INVALID);
        assert_int_equal(buf_addf(ret, "!%s", at == err.message ? at + strlen(file) : err.message),
                         0);
    }
    conf_free(c);
}

static void expect(const char *text, const char *spec, const char *want)
{
    CLEANUP(buf_fini) struct buf got = BUF_INIT;
    CLEANUP(buf_fini) struct buf notes = BUF_INIT;
    resolve(text, spec, &got, &notes);
    if (want[0] != '!' || strncmp(buf_str(&got), want, strlen(want)) != 0) {
        assert_string_equal(buf_str(&got), want);
    }
    assert_string_equal(buf_str(&notes), "");
}

struct row {
    const char *text, *spec, *want; /* "!…": the fault's beginning */
};

static void expect_rows(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        expect(rows[i].text, rows[i].spec, rows[i].want);
    }
}

#define KEYS "access_key_id = I\nsecret_access_key = S\n"
#define AWS "[a]\ntype = s3\nprovider = AWS\n"
#define OTHER "[o]\ntype = s3\nprovider = Other\nendpoint = http://127.0.0.1:9000/\n"

static void test_s3(void **state)
{
    static const struct row rows[] = {
        {AWS KEYS "region = eu-west-1\n", "rclone:a:photos",
         "photos@a: s3 bucket=photos region=eu-west-1 id=I secret=S"},
        {AWS KEYS "region = eu-west-1\n", "rclone:a:photos/2024/x",
         "photos@a: s3 bucket=photos below=2024/x/ region=eu-west-1 id=I secret=S"},
        {AWS KEYS, "rclone:a:/photos//2024//x//",
         "photos@a: s3 bucket=photos below=2024//x// region=us-east-1 id=I secret=S"},
        {AWS KEYS
         "session_token = T\nstorage_class = STANDARD_IA\nserver_side_encryption = AES256\n",
         "rclone:a:b",
         "b@a: s3 bucket=b region=us-east-1 id=I secret=S token=T class=STANDARD_IA "
         "encryption=AES256"},
        {AWS KEYS "server_side_encryption = aws:kms\nsse_kms_key_id = arn:x\nlist_version = 1\n",
         "rclone:a:b",
         "b@a: s3 bucket=b region=us-east-1 id=I secret=S encryption=aws:kms:arn:x list=1"},
        {AWS KEYS "sse_kms_key_id = arn:x\n", "rclone:a:b",
         "!:6: [a] sse_kms_key_id: given without server_side_encryption"},
        /* As rclone asks: by path and with old lists, of whoever is not known to be better. */
        {OTHER KEYS, "rclone:o:b",
         "b@o: s3 bucket=b endpoint=http://127.0.0.1:9000 https=off path_style=on id=I secret=S "
         "list=1"},
        {OTHER KEYS "force_path_style = false\nlist_version = 2\nv2_auth = true\n", "rclone:o:b",
         "b@o: s3 bucket=b endpoint=http://127.0.0.1:9000 https=off id=I secret=S signature=v2"},
        {"[c]\ntype = s3\nprovider = Ceph\nendpoint = rgw.example\nregion = "
         "other-v2-signature\n" KEYS,
         "rclone:c:b",
         "b@c: s3 bucket=b endpoint=rgw.example path_style=on id=I secret=S signature=v2 list=1"},
        {"[m]\ntype = s3\nprovider = Minio\nendpoint = https://m.example:9000\n" KEYS, "rclone:m:b",
         "b@m: s3 bucket=b endpoint=https://m.example:9000 path_style=on id=I secret=S"},
        {"[r2]\ntype = s3\nprovider = Cloudflare\nendpoint = "
         "https://x.r2.cloudflarestorage.com\nregion = auto\n" KEYS,
         "rclone:r2:b",
         "b@r2: s3 bucket=b region=auto endpoint=https://x.r2.cloudflarestorage.com path_style=on "
         "id=I secret=S"},
        {"[w]\ntype = s3\nprovider = Wasabi\nendpoint = s3.wasabisys.com\nforce_path_style = "
         "true\n" KEYS,
         "rclone:w:b", "b@w: s3 bucket=b endpoint=s3.wasabisys.com id=I secret=S"},
        {"[g]\ntype = s3\nprovider = GCS\nendpoint = https://storage.googleapis.com\n" KEYS,
         "rclone:g:b", "b@g: s3 bucket=b endpoint=https://storage.googleapis.com id=I secret=S"},
        {"[q]\ntype = s3\nprovider = Qiniu\nregion = cn-east-1\nendpoint = "
         "s3-cn-east-1.qiniucs.com\n" KEYS,
         "rclone:q:b",
         "b@q: s3 bucket=b region=cn-east-1 endpoint=s3-cn-east-1.qiniucs.com path_style=on id=I "
         "secret=S"},
        {"[w]\ntype = s3\nprovider = Wasabi\n" KEYS, "rclone:w:b", "!:1: [w] endpoint: missing"},
        {AWS, "rclone:a:b", "!:1: [a] access_key_id: missing, and env_auth is off"},
        {AWS "access_key_id = I\n", "rclone:a:b",
         "!:1: [b@a] accessKeySecret: missing beside accessKeyId"},
        {AWS KEYS "env_auth = perhaps\n", "rclone:a:b",
         "!:6: [a] env_auth: neither true nor false"},
        {AWS KEYS, "rclone:a:", "!:1: [a] which bucket? write rclone:a:BUCKET"},
        {AWS KEYS, "rclone:a:b?", "!:1: [b?@a] bucket: \"b?\" is no bucket name"},
        {AWS KEYS "list_version = 3\n", "rclone:a:b",
         "!:6: [b@a] listVersion: \"3\" is not a number from 1 to 2"},
    };
    expect_rows(rows, ARRAY_LEN(rows));
}

static void test_s3_environment(void **state)
{
    expect(AWS "env_auth = true\n", "rclone:a:b",
           "!:1: [b@a] accessKeyId: missing; add accessKeyId");
    (void)setenv("AWS_ACCESS_KEY_ID", "E", 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY", "ES", 1);
    expect(AWS "env_auth = true\n", "rclone:a:b",
           "b@a: s3 bucket=b region=us-east-1 id=E secret=ES");
    /* Nobody's keys stay nobody's. */
    expect(AWS, "rclone:a:b", "!:1: [a] access_key_id: missing, and env_auth is off");
    (void)unsetenv("AWS_ACCESS_KEY_ID");
    (void)unsetenv("AWS_SECRET_ACCESS_KEY");
}

#define COS "[t]\ntype = s3\nprovider = TencentCOS\n" KEYS
#define OSS "[l]\ntype = s3\nprovider = Alibaba\n" KEYS

/* Their own protocols; the region is in the endpoint, which is kept when it is another than the
 * public one. */
static void test_tencent_and_alibaba(void **state)
{
    static const struct row rows[] = {
        {COS "endpoint = cos.ap-guangzhou.myqcloud.com\nstorage_class = ARCHIVE\n",
         "rclone:t:b-125",
         "b-125@t: cos bucket=b-125 region=ap-guangzhou id=I secret=S class=ARCHIVE"},
        {COS "endpoint = https://cos.ap-tokyo.myqcloud.com/\n", "rclone:t:b-125",
         "b-125@t: cos bucket=b-125 region=ap-tokyo id=I secret=S"},
        {COS "endpoint = http://cos.ap-tokyo.myqcloud.com\n", "rclone:t:b-125",
         "b-125@t: cos bucket=b-125 endpoint=http://cos.ap-tokyo.myqcloud.com https=off id=I "
         "secret=S"},
        {COS "endpoint = cos.accelerate.myqcloud.com\n", "rclone:t:b-125",
         "b-125@t: cos bucket=b-125 endpoint=cos.accelerate.myqcloud.com id=I secret=S"},
        {COS "endpoint = cos-internal.ap-tokyo.tencentcos.cn\n", "rclone:t:b-125",
         "b-125@t: cos bucket=b-125 endpoint=cos-internal.ap-tokyo.tencentcos.cn id=I secret=S"},
        {COS, "rclone:t:b-125",
         "!:1: [t] endpoint: missing; write endpoint = cos.ap-guangzhou.myqcloud.com"},
        {COS "endpoint = cos.ap-tokyo.myqcloud.com\n", "rclone:t:b",
         "!:1: [b@t] bucket: \"b\" lacks the APPID"},
        {OSS "endpoint = oss-cn-hangzhou.aliyuncs.com\nstorage_class = STANDARD_IA\n", "rclone:l:b",
         "b@l: oss bucket=b region=cn-hangzhou id=I secret=S class=IA"},
        {OSS "endpoint = oss-cn-hangzhou-internal.aliyuncs.com\nstorage_class = GLACIER\n",
         "rclone:l:b",
         "b@l: oss bucket=b endpoint=oss-cn-hangzhou-internal.aliyuncs.com id=I secret=S "
         "class=Archive"},
        {OSS "endpoint = oss-accelerate.aliyuncs.com\nregion = cn-hangzhou\n", "rclone:l:b",
         "b@l: oss bucket=b region=cn-hangzhou endpoint=oss-accelerate.aliyuncs.com id=I secret=S"},
    };
    expect_rows(rows, ARRAY_LEN(rows));
}

#define AZ "[z]\ntype = azureblob\n"
#define EMULATOR_KEY                                                                               \
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

static void test_azure(void **state)
{
    static const struct row rows[] = {
        {AZ "account = acc\nkey = a2V5\naccess_tier = cool\n", "rclone:z:c/p",
         "c@z: azure bucket=c below=p/ id=acc secret=a2V5 class=cool"},
        {AZ "account = acc\nkey = a2V5\nendpoint = https://acc.blob.core.chinacloudapi.cn\n",
         "rclone:z:c",
         "c@z: azure bucket=c endpoint=https://acc.blob.core.chinacloudapi.cn id=acc secret=a2V5"},
        {AZ "account = acc\nkey = a2V5\nendpoint = blob.core.chinacloudapi.cn\n", "rclone:z:c",
         "c@z: azure bucket=c endpoint=acc.blob.core.chinacloudapi.cn id=acc secret=a2V5"},
        {AZ "account = acc\nkey = a2V5\ntenant = t\nuse_msi = true\n", "rclone:z:c",
         "c@z: azure bucket=c id=acc secret=a2V5"},
        {AZ "sas_url = https://acc.blob.core.windows.net/?sv=1&sig=x%3D\n", "rclone:z:c",
         "c@z: azure bucket=c id=acc token=sv=1&sig=x%3D"},
        {AZ "sas_url = https://acc.blob.core.windows.net/c?sv=1&sig=x\n", "rclone:z:c/d",
         "c@z: azure bucket=c below=d/ id=acc token=sv=1&sig=x"},
        {AZ "sas_url = https://acc.blob.core.windows.net/c?sv=1&sig=x\n", "rclone:z:d",
         "!:3: [z] sas_url: is of another container"},
        {AZ "sas_url = http://127.0.0.1:10000/devstoreaccount1/c?sv=1&sig=x\n", "rclone:z:c",
         "c@z: azure bucket=c endpoint=http://127.0.0.1:10000/devstoreaccount1 https=off "
         "id=devstoreaccount1 "
         "token=sv=1&sig=x"},
        {AZ "sas_url = https://acc.blob.core.chinacloudapi.cn/c?sv=1&sig=x\n", "rclone:z:c",
         "c@z: azure bucket=c endpoint=https://acc.blob.core.chinacloudapi.cn id=acc "
         "token=sv=1&sig=x"},
        {AZ "sas_url = sv=1&sig=x\n", "rclone:z:c", "!:3: [z] sas_url: is no URL with a SAS"},
        {AZ "use_emulator = true\n", "rclone:z:c",
         "c@z: azure bucket=c endpoint=http://127.0.0.1:10000/devstoreaccount1 https=off "
         "id=devstoreaccount1 "
         "secret=" EMULATOR_KEY},
        {AZ "use_emulator = true\nendpoint = http://10.0.0.1:1/devstoreaccount1\n", "rclone:z:c",
         "c@z: azure bucket=c endpoint=http://10.0.0.1:1/devstoreaccount1 https=off "
         "id=devstoreaccount1 "
         "secret=" EMULATOR_KEY},
        {AZ "connection_string = AccountName=acc;AccountKey=a2V5;EndpointSuffix=core.windows.net\n",
         "rclone:z:c",
         "c@z: azure bucket=c endpoint=https://acc.blob.core.windows.net id=acc secret=a2V5"},
        {AZ "connection_string = AccountName=acc\n", "rclone:z:c",
         "!:3: [z] connection_string: lacks the account"},
        {AZ "account = acc\nenv_auth = true\n", "rclone:z:c",
         "!:4: [z] env_auth: signs in at Entra ID"},
        {AZ "account = acc\nuse_msi = true\n", "rclone:z:c",
         "!:1: [z] key: missing; objmig signs with the key"},
    };
    expect_rows(rows, ARRAY_LEN(rows));
}

#define GCS                                                                                        \
    "[g]\ntype = google cloud storage\nproject_number = 1\nobject_acl = private\nbucket_acl = "    \
    "private\n"
#define JSON                                                                                       \
    "{\"type\": \"service_account\",\"client_email\":\"me@x\",\"private_key\":\"-----BEGIN "       \
    "K\\n\"}"

static void test_google(void **state)
{
    CLEANUP(mem_freep) char *key = mem_printf("%s/key.json", dir);
    CLEANUP(mem_freep)
    char *text = mem_printf(GCS "service_account_file = %s\nstorage_class = NEARLINE\n", key);
    write_file(key, JSON, 0600);
    expect(text, "rclone:g:b", "b@g: gcs bucket=b id=me@x secret=" JSON " class=NEARLINE");
    expect(GCS "service_account_file = ~/key.json\n", "rclone:g:b",
           "b@g: gcs bucket=b id=me@x secret=" JSON);
    (void)unlink(key);
    static const struct row rows[] = {
        {GCS "service_account_credentials = " JSON "\ntoken = {}\n", "rclone:g:b/p",
         "b@g: gcs bucket=b below=p/ id=me@x secret=" JSON},
        {GCS "service_account_credentials = nonsense\n", "rclone:g:b",
         "!:6: [g] service_account_credentials: is no key"},
        {GCS "service_account_credentials = {\"type\":\"x\"}\n", "rclone:g:b",
         "!:6: [b@g] accessKeySecret: is no key file"},
        {GCS "service_account_file = key.json\n", "rclone:g:b",
         "!:6: [b@g] serviceAccountFile: \"key.json\" is not absolute"},
        {GCS "client_id = x\ntoken = {\"access_token\":\"y\"}\n", "rclone:g:b",
         "!:7: [g] token: is a person's sign-in"},
        {GCS "anonymous = true\n", "rclone:g:b", "!:6: [g] anonymous: objmig signs"},
        {GCS "env_auth = true\n", "rclone:g:b", "!:1: [b@g] accessKeyId: missing"},
    };
    expect_rows(rows, ARRAY_LEN(rows));
}

static void test_local_and_alias(void **state)
{
    static const char aliases[] =
        "[disk]\ntype = local\n"
        "[a]\ntype = s3\nprovider = AWS\n" KEYS "[way]\ntype = alias\nremote = a:photos/2024/\n"
        "[far]\ntype = alias\nremote = way:x\n[all]\ntype = alias\nremote = a:\n"
        "[dir]\ntype = alias\nremote = /srv/data/\n[root]\ntype = alias\nremote = /\n"
        "[loop]\ntype = alias\nremote = pool:\n[pool]\ntype = alias\nremote = loop:x\n"
        "[self]\ntype = alias\nremote = self:\n[rel]\ntype = alias\nremote = ../x\n"
        "[fly]\ntype = alias\nremote = :s3,provider=AWS:b\n[opt]\ntype = alias\nremote = "
        "a,region=x:b\n"
        "[none]\ntype = alias\n[gone]\ntype = alias\nremote = wayy:b\n";
    static const struct row rows[] = {
        {aliases, "rclone:disk:/srv/a b/", "srv_a b@disk: local path=/srv/a b"},
        {aliases, "rclone:disk:/", "_@disk: local path=/"},
        {aliases, "rclone:disk:/.x", "_.x@disk: local path=/.x"},
        {aliases, "rclone:disk:srv", "!:1: [disk] which directory? write rclone:disk:/DIRECTORY"},
        {aliases,
         "rclone:way:", "photos@a: s3 bucket=photos below=2024/ region=us-east-1 id=I secret=S"},
        {aliases, "rclone:far:y",
         "photos@a: s3 bucket=photos below=2024/x/y/ region=us-east-1 id=I secret=S"},
        {aliases, "rclone:all:b/y", "b@a: s3 bucket=b below=y/ region=us-east-1 id=I secret=S"},
        {aliases, "rclone:all:", "!:3: [a] which bucket?"},
        {aliases, "rclone:dir:/sub", "srv_data_sub@dir: local path=/srv/data/sub"},
        {aliases, "rclone:root:etc", "etc@root: local path=/etc"},
        {aliases, "rclone:loop:b",
         "!:25: [loop] remote: an alias of an alias, and so on in a circle"},
        {aliases, "rclone:self:", "!:31: [self] remote: an alias of an alias"},
        {aliases, "rclone:rel:", "!:34: [rel] remote: neither a remote's name"},
        {aliases, "rclone:fly:", "!:37: [fly] remote: neither a remote's name"},
        {aliases, "rclone:opt:", "!:40: [opt] remote: neither a remote's name"},
        {aliases, "rclone:none:", "!:41: [none] remote: missing"},
        {aliases, "rclone:gone:", "!: no remote [wayy]; did you mean way?"},
    };
    expect_rows(rows, ARRAY_LEN(rows));
}

static void test_refusals(void **state)
{
    static const struct row rows[] = {
        {"[x]\ntype = crypt\nremote = a:b\n", "rclone:x:b",
         "!:2: [x] type: crypt encrypts names and contents; name the remote below"},
        {"[x]\ntype = compress\nremote = a:b\n", "rclone:x:b",
         "!:2: [x] type: compress compresses"},
        {"[x]\ntype = chunker\n", "rclone:x:b", "!:2: [x] type: chunker cuts"},
        {"[x]\ntype = union\n", "rclone:x:b", "!:2: [x] type: union shows several"},
        {"[x]\ntype = hasher\n", "rclone:x:b", "!:2: [x] type: hasher keeps sums"},
        {"[x]\ntype = drive\n", "rclone:x:b", "!:2: [x] type: drive is none that objmig reads"},
        {"[x]\ntype = b2\n", "rclone:x:b",
         "!:2: [x] type: b2 is none that objmig reads (s3, azureblob, google cloud storage, local, "
         "alias); make an s3 remote of Backblaze's S3 endpoint"},
        {"[x]\ntype = http\nurl = https://u:p@h\n", "rclone:x:b",
         "!:2: [x] type: is http: pages of links"},
        {"[x]\n", "rclone:x:b", "!:1: [x] type: missing"},
        {"[x]\ntype = s3\n", "rclone:y:b", "!: no remote [y]; did you mean x?"},
        {AWS KEYS, "rclone:/srv:b", "!: no remote [/srv]; rclone listremotes"},
        {"", "rclone:y:b", "!: no remote [y]; rclone listremotes"},
        {"[x]\ntype = s3\nnothing\n", "rclone:x:b", "!:3: [x] not a \"key = value\" line"},
        {AWS KEYS "requester_pays = true\n", "rclone:a:b", "!:6: [a] requester_pays: who asks"},
        {AWS KEYS "sse_customer_key = 0123\n", "rclone:a:b",
         "!:6: [a] sse_customer_key: the customer's own keys"},
        {AWS KEYS "versions = true\n", "rclone:a:b", "!:6: [a] versions: old versions"},
        {AWS KEYS "version_at = 2024-01-01\n", "rclone:a:b", "!:6: [a] version_at: old versions"},
        {AWS "env_auth = true\nprofile = work\n", "rclone:a:b",
         "!:5: [a] profile: set AWS_PROFILE"},
        {AWS KEYS "role_arn = x\n", "rclone:a:b", "!:6: [a] role_arn: no role"},
        {"# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nAAAA\n", "rclone:a:b",
         "!: is encrypted; make an open copy"},
        {"RCLONE_ENCRYPT_V9:\nAAAA\n", "rclone:a:b", "!: is encrypted"},
    };
    expect_rows(rows, ARRAY_LEN(rows));
    expect(AWS KEYS, "rclone:a", "!which bucket? write rclone:a:BUCKET");
}

/* What is not kept and does no harm is said; what asks for nothing is not. */
static void test_notes(void **state)
{
    static const char text[] = AWS KEYS "chunk_size = 64Mi\nacl = public-read\nrequester_pays = "
                                        "false\nversions = f\ndescription = mine\n"
                                        "version_at = off\nencoding = Slash\nfuture_option = "
                                        "1\nuse_dual_stack =\nno_check_bucket = true\n"
                                        "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY = 1\n";
    CLEANUP(buf_fini) struct buf got = BUF_INIT;
    CLEANUP(buf_fini) struct buf notes = BUF_INIT;
    CLEANUP(mem_freep)
    char *want =
        mem_printf("%s:7: [a] acl: is not set: objects get what the bucket gives\n"
                   "%s:12: [a] encoding: names are shown as objmig shows them, see its README\n"
                   "%s:13: [a] future_option: an option of rclone's that is not known here\n"
                   "%s:16: [a] an option of rclone's that is not known here\n",
                   file, file, file, file);
    resolve(text, "rclone:a:b", &got, &notes);
    assert_string_equal(buf_str(&got), "b@a: s3 bucket=b region=us-east-1 id=I secret=S");
    assert_string_equal(buf_str(&notes), want);
}

/* The last of two counts, and two sections of a name are one; other sections do not matter. */
static void test_merged(void **state)
{
    expect("[other]\ntype = drive\nregion = no\n" AWS KEYS
           "region = x\nregion = y\n[b]\nregion = no\n[a]\nregion = z\n",
           "rclone:a:b", "b@a: s3 bucket=b region=z id=I secret=S");
}

/* No fault repeats what may be a secret. */
static void test_secrets_unsaid(void **state)
{
#define SECRET "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
    static const char *const texts[] = {
        AWS "secret_access_key = " SECRET "\n",
        AWS "access_key_id = I\nsecret_access_key = " SECRET " x\n",
        AWS KEYS "session_token = " SECRET "\x01\n",
        AWS KEYS "sse_customer_key = " SECRET "\n",
        AWS KEYS "endpoint = https://u:" SECRET "@h\n",
        AWS KEYS "env_auth = " SECRET "\n",
        AWS KEYS SECRET "\n",
        "[a]\ntype = azureblob\nsas_url = " SECRET "\n",
        "[a]\ntype = azureblob\nsas_url = https://x.blob.core.windows.net/other?sig=" SECRET "\n",
        "[a]\ntype = azureblob\nconnection_string = AccountKey=" SECRET "\n",
        "[a]\ntype = gcs\nservice_account_credentials = " SECRET "\n",
        "[a]\ntype = gcs\ntoken = " SECRET "\n",
        "[a]\ntype = http\nurl = https://u:" SECRET "@h\n",
        "[a]\ntype = alias\nremote = :s3,secret_access_key=" SECRET ":b\n",
        "RCLONE_ENCRYPT_V0:\n" SECRET "\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        CLEANUP(buf_fini) struct buf got = BUF_INIT;
        CLEANUP(buf_fini) struct buf notes = BUF_INIT;
        resolve(texts[i], "rclone:a:b", &got, &notes);
        assert_int_equal(buf_str(&got)[0], '!');
        assert_null(strstr(buf_str(&got), "wJalrX"));
    }
}

static void test_files(void **state)
{
    struct conf *c = conf_new("");
    const struct conf_remote *r = NULL;
    char *prefix = NULL;
    struct errinfo err = {0};
    CLEANUP(kv_fini) struct kvlist options = {0};
    /* as for our own */
    write_file(file, AWS KEYS, 0644);
    assert_int_equal(conf_resolve(c, "rclone:a:b", NULL, &r, &prefix, &err), -EPERM);
    assert_non_null(strstr(err.message, "chmod 600 "));
    err_clear(&err);
    (void)unlink(file);
    assert_int_equal(conf_resolve(c, "rclone:a:b", NULL, &r, &prefix, &err), -ENOENT);
    assert_non_null(strstr(err.message, "RCLONE_CONFIG"));
    err_clear(&err);
    (void)unsetenv("RCLONE_CONFIG");
    /* ~/.rclone.conf, then ~/.config/rclone/, then $XDG_CONFIG_HOME, then the option */
    CLEANUP(mem_freep) char *config = mem_printf("%s/.config", dir);
    CLEANUP(mem_freep) char *folder = mem_printf("%s/rclone", config);
    CLEANUP(mem_freep) char *xdg = mem_printf("%s/xdg", dir);
    CLEANUP(mem_freep) char *xdg_folder = mem_printf("%s/rclone", xdg);
    CLEANUP(mem_freep)
    char *paths[4] = {mem_printf("%s/.rclone.conf", dir), mem_printf("%s/rclone.conf", folder),
                      mem_printf("%s/rclone.conf", xdg_folder), mem_strdup(file)};
    (void)mkdir(config, 0700);
    (void)mkdir(folder, 0700);
    (void)mkdir(xdg, 0700);
    (void)mkdir(xdg_folder, 0700);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        CLEANUP(mem_freep) char *text = mem_printf(AWS KEYS "region = r%zu\n", i);
        write_file(paths[i], text, 0600);
        if (i == 2) {
            (void)setenv("XDG_CONFIG_HOME", xdg, 1);
        } else if (i == 3) {
            kv_set(&options, "rclone_config", file);
        }
        assert_int_equal(conf_resolve(c, "rclone:a:b", &options, &r, &prefix, &err), 0);
        assert_int_equal(r->region[1], '0' + (int)i);
        free(prefix);
    }
    kv_set(&options, "region", "x");
    assert_int_equal(conf_resolve(c, "rclone:a:b", &options, &r, &prefix, &err), -EINVAL);
    assert_non_null(strstr(err.message, "region: an option of URLs"));
    (void)unsetenv("XDG_CONFIG_HOME");
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        (void)unlink(paths[i]);
        if (i > 0) {
            free(paths[i]);
        }
    }
    (void)rmdir(xdg_folder);
    (void)rmdir(xdg);
    (void)rmdir(folder);
    (void)rmdir(config);
    (void)setenv("RCLONE_CONFIG", file, 1);
    conf_free(c);
}

static void test_kinds(void **state)
{
    assert_int_equal(conf_spec_kind("rclone:a:b/c"), CONF_RCLONE);
    assert_int_equal(conf_spec_kind("rclone:a:"), CONF_RCLONE);
    assert_int_equal(conf_spec_kind("rclone:a"), CONF_RCLONE);
    assert_int_equal(conf_spec_kind("rclone"), CONF_SECTION);
    assert_int_equal(conf_spec_kind("a:b"), CONF_SECTION);
    assert_int_equal(conf_spec_kind("s3://b"), CONF_URL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_s3),
        TEST(test_s3_environment),
        TEST(test_tencent_and_alibaba),
        TEST(test_azure),
        TEST(test_google),
        TEST(test_local_and_alias),
        TEST(test_refusals),
        TEST(test_notes),
        TEST(test_merged),
        TEST(test_secrets_unsaid),
        TEST(test_files),
        TEST(test_kinds),
    };
    return cmocka_run_group_tests_name("conf_rclone", tests, NULL, NULL);
}
