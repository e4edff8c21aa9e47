#include "unit.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "conf.h"
#include "mem.h"

static char dir[64], file[96];
static struct buf faults;
static struct conf *conf;

static void write_file(const char *path, const char *text, size_t n, mode_t mode)
{
    (void)unlink(path);
    CLEANUP(mem_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), (ssize_t)n);
    assert_int_equal(fchmod(fd, mode), 0);
}

static int load_mode(const char *text, mode_t mode)
{
    conf_free(conf);
    conf = NULL;
    buf_clear(&faults);
    write_file(file, text, strlen(text), mode);
    return conf_load(file, &conf, &faults);
}

static int load(const char *text)
{
    return load_mode(text, 0600);
}

/* The one fault, without the file's name. */
static void expect_fault(const char *text, const char *want)
{
    assert_int_equal(load(text), -EINVAL);
    assert_null(conf);
    assert_memory_equal(buf_str(&faults), file, strlen(file));
    const char *got = buf_str(&faults) + strlen(file);
    const char *nl = strchr(got, '\n');
    assert_non_null(nl);
    assert_string_equal(nl + 1, ""); /* one */
    if (strncmp(got, want, strlen(want)) != 0) {
        assert_string_equal(got, want);
    }
}

#define KEYS "accessKeyId=AKID\naccessKeySecret=hush\n"
#define PROVIDERS "local, s3, cos, oss, ks3, azure, gcs, bos, upyun, qiniu, http"
#define GCS "[g]\nprovider=gcs\nbucket=b\n"
#define S3 "[s]\nprovider=s3\nbucket=b\nregion=us-east-1\n"

static void clear_env(void)
{
    static const char *const names[] = {
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "OSS_ACCESS_KEY_ID",
        "OSS_ACCESS_KEY_SECRET",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GS_ACCESS_KEY_ID",
        "GS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
        "AWS_CONFIG_FILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "COS_REGION",
        "TENCENTCLOUD_REGION",
        "OSS_REGION",
        "ALIBABA_CLOUD_REGION_ID",
        "AZURE_STORAGE_ACCOUNT_NAME",
        "AZURE_STORAGE_ACCESS_KEY",
        "AWS_SHARED_CREDENTIALS_FILE",
        "COS_SECRET_ID",
        "COS_SECRET_KEY",
        "COS_TOKEN",
        "TENCENTCLOUD_SECRET_ID",
        "TENCENTCLOUD_SECRET_KEY",
        "TENCENTCLOUD_TOKEN",
        "AZURE_STORAGE_ACCOUNT",
        "AZURE_STORAGE_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_CONNECTION_STRING",
        "UPYUN_OPERATOR",
        "UPYUN_PASSWORD",
        "QINIU_ACCESS_KEY",
        "QINIU_SECRET_KEY",
        "OBJMIG_CONFIG",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)unsetenv(names[i]);
    }
}

static int setup(void **state)
{
    (void)snprintf(dir, sizeof(dir), "/tmp/objmig-test-conf-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(file, sizeof(file), "%s/objmig.conf", dir);
    clear_env();
    return setenv("HOME", dir, 1);
}

static int teardown(void **state)
{
    conf_free(conf);
    conf = NULL;
    buf_fini(&faults);
    clear_env();
    (void)unlink(file);
    return rmdir(dir);
}

static void test_full(void **state)
{
    static const char text[] =
        "\xef\xbb\xbf; remotes\r\n"
        "# of this machine\r\n"
        "\r\n"
        "[cos-prod]   ; production\r\n"
        "provider = cos                     ; cos s3 oss\r\n"
        "bucketName = examplebucket-1250000000\r\n"
        "REGION = ap-guangzhou\r\n"
        "prefix = photos/2024               ; optional\r\n"
        "endPoint =                         ; optional\r\n"
        "  secretId = AKID;x\r\n"
        "secretKey = hush=hush:#\r\n"
        "token =\r\n"
        "https = on\r\n"
        "pathStyle = off\r\n"
        "connectTo = 127.0.0.1:9000\r\n"
        "proxyHost = proxy.example\r\n"
        "proxyPort = 3128\r\n"
        "storageClass = Standard\r\n"
        "encryptionType = sse-cos\r\n"
        "smallFileThreshold = 6M\r\n"
        "smallFileExecutorNum = 1024\r\n"
        "bigFileExecutorNum = 64\r\n"
        "bigFileUploadPartSize = 1048576\r\n"
        "entireFileMd5Attached = strict\r\n"
        "requestTimeoutMs = 1000\r\n"
        "requestTryCount = 7\r\n"
        "copyPartThreshold = 1\r\n"
        "putLimit = 2\r\n"
        "maxPartSize = 4\r\n"
        "minPartSize = 3\r\n"
        "[nas]\n"
        "provider = local\n"
        "path = /data\n"
        "[s]\nprovider=S3\nbucket=b\nendPoint=http://[::1]:9000/\nhttps=off\n" KEYS
        "signatureVersion=V2\nlistVersion=1\nsecurityToken=t\n"
        "[mem]\nprovider: memory";
    assert_int_equal(load(text), 0);
    assert_string_equal(buf_str(&faults), "");
    assert_string_equal(conf->file, file);
    assert_int_equal(conf->n_remotes, 4);
    const struct conf_remote *r = conf_find(conf, "cos-prod");
    assert_non_null(r);
    assert_string_equal(r->provider, "cos");
    assert_string_equal(r->bucket, "examplebucket-1250000000");
    assert_string_equal(r->region, "ap-guangzhou");
    assert_string_equal(r->prefix, "photos/2024/");
    assert_string_equal(r->endpoint, "");
    assert_string_equal(r->access_key_id, "AKID;x");
    assert_string_equal(r->access_key_secret->bytes, "hush=hush:#");
    assert_int_equal(r->access_key_secret->len, 11);
    assert_null(r->security_token);
    assert_true(r->https);
    assert_false(r->path_style);
    assert_string_equal(r->connect_to, "127.0.0.1:9000");
    assert_string_equal(r->proxy_host, "proxy.example");
    assert_int_equal(r->proxy_port, 3128);
    assert_string_equal(r->storage_class, "Standard");
    assert_string_equal(r->encryption, "sse-cos");
    assert_int_equal(r->small_file_threshold, 6 << 20);
    assert_int_equal(r->small_slots, 1024);
    assert_int_equal(r->big_slots, 64);
    assert_int_equal(r->part_size, 1 << 20);
    assert_int_equal(r->file_md5, CONF_MD5_STRICT);
    assert_int_equal(r->request_timeout_ms, 1000);
    assert_int_equal(r->request_try_count, 7);
    assert_int_equal(r->limits.max_copy, 1);
    assert_int_equal(r->limits.max_put, 2);
    assert_int_equal(r->limits.max_part, 4);
    assert_int_equal(r->limits.min_part, 3);
    assert_string_equal(r->signature, "v4");
    assert_int_equal(r->list_version, 2);
    r = conf_find(conf, "s");
    assert_string_equal(r->provider, "s3");
    assert_string_equal(r->endpoint, "http://[::1]:9000");
    assert_false(r->https);
    assert_string_equal(r->signature, "v2");
    assert_int_equal(r->list_version, 1);
    assert_string_equal(r->security_token->bytes, "t");
    r = conf_find(conf, "nas");
    assert_string_equal(r->path, "/data");
    assert_int_equal(r->small_file_threshold, 5242880);
    assert_int_equal(r->small_slots, 64);
    assert_int_equal(r->big_slots, 8);
    assert_int_equal(r->part_size, 8388608);
    assert_int_equal(r->file_md5, CONF_MD5_ON);
    assert_int_equal(r->request_timeout_ms, 300000);
    assert_int_equal(r->request_try_count, 5);
    assert_true(r->https);
    assert_non_null(conf_find(conf, "mem"));
    assert_null(conf_find(conf, "NAS"));
}

static void test_faults(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", ": names no remote"},
        {"x=1\n", ":1: x: a key before any section"},
        {"[a\n", ":1: not a section head"},
        {"[a] b\n", ":1: not a section head"},
        {"[]\nprovider=memory\n", ":1: [] a section needs a name"},
        {"[all]\nprovider=memory\n", ":1: [all] \"all\" means every remote"},
        {"[.x]\nprovider=memory\n", ":1: [.x] a name must not start with '.'"},
        {"[a/b]\nprovider=memory\n", ":1: [a/b] a name must not contain"},
        {"[a:b]\nprovider=memory\n", ":1: [a:b] a name must not contain"},
        {"[a]\nprovider=memory\n[a]\nprovider=memory\n", ":3: [a] already at line 1"},
        {"[a]\n", ":1: [a] provider: missing; add provider = one of " PROVIDERS "\n"},
        {"[a]\nprovider=tape\n",
         ":2: [a] provider: \"tape\" is unknown; write one of " PROVIDERS "\n"},
        {"[a]\nprovider=qiniu\nbucket=b\nregion=z0\n" KEYS, ":1: [a] domain: missing; add domain = HOST"},
        {"[a]\nprovider=qiniu\nbucket=b\nregion=z0\ndomain=http://h/p\n" KEYS, ":5: [a] domain: neither a host"},
        {"[a]\nprovider=qiniu\nbucket=b\nregion=z0\ndomain=h\nsecurityToken=t\n" KEYS,
         ":6: [a] securityToken: means nothing with provider = qiniu"},
        {"[a]\nprovider=cos\nbucket=b-1\nregion=r\ndomain=h\n" KEYS, ":5: [a] domain: means nothing with provider = cos"},
        {"[a]\nprovider=memory\nnonsense\n", ":3: [a] not a \"key = value\" line"},
        {"[a]\nprovider=memory\nnonsense", ":3: [a] not a \"key = value\" line"},
        {"[a]\nprovider=memory\nbuket=x\n", ":3: [a] buket: unknown key; did you mean bucket?\n"},
        {"[a]\nprovider=memory\nsecretkay=x\n",
         ":3: [a] secretkay: unknown key; did you mean secretKey?\n"},
        {"[a]\nprovider=memory\nquux=x\n", ":3: [a] quux: unknown key; remove the line\n"},
        {"[a]\nprovider=memory\nbucket=x\nbucketName=y\n",
         ":4: [a] bucket: given twice, first at line 3"},
        {"[a]\nprovider=local\n", ":1: [a] path: missing; write path = /DIRECTORY\n"},
        {"[a]\nprovider=local\npath=data\n", ":3: [a] path: not absolute"},
        {"[a]\nprovider=local\npath=/d\nbucket=b\n",
         ":4: [a] bucket: means nothing with provider = local"},
        {"[a]\nprovider=memory\npath=/d\n", ":3: [a] path: means nothing with provider = memory"},
        {"[a]\nprovider=http\n",
         ":1: [a] urllistPath: missing; write urllistPath = /FILE or /DIRECTORY"},
        {"[a]\nprovider=http\nurllistPath=x\n",
         ":3: [a] urllistPath: not absolute; write urllistPath ="},
        {"[a]\nprovider=http\nurllistPath=/x\nbucket=b\n",
         ":4: [a] bucket: means nothing with provider = http"},
        {"[a]\nprovider=http\nurllistPath=/x\naccessKeyId=u\n",
         ":1: [a] accessKeySecret: missing beside accessKeyId"},
        {"[a]\nprovider=http\nurllistPath=/x\naccessKeyId=u:v\naccessKeySecret=p\n",
         ":4: [a] accessKeyId: a user's name has no ':'"},
        {"[a]\nprovider=local\npath=/d\nurllistPath=/x\n",
         ":4: [a] urllistPath: means nothing with provider = local"},
        {"[a]\nprovider=s3\nregion=r\n" KEYS, ":1: [a] bucket: missing; add bucket = NAME\n"},
        {"[a]\nprovider=s3\nregion=r\nbucket=a/b\n" KEYS,
         ":4: [a] bucket: \"a/b\" is no bucket name"},
        {"[a]\nprovider=s3\nbucket=b\n" KEYS, ":1: [a] region: missing; add region = us-east-1"},
        {"[a]\nprovider=s3\nbucket=b\nregion=evil.example/\n" KEYS,
         ":4: [a] region: \"evil.example/\""},
        {S3, ":1: [s] accessKeyId: missing; add accessKeyId and accessKeySecret, or set "
             "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or fill ~/.aws/credentials\n"},
        {S3 "accessKeyId=x\n", ":1: [s] accessKeySecret: missing beside accessKeyId"},
        {S3 "secretKey=x\n", ":1: [s] accessKeyId: missing beside accessKeySecret"},
        {S3 "token=x\n", ":5: [s] securityToken: given without accessKeyId"},
        {S3 "accessKeyId=x\nsecretKey=hu sh\n", ":6: [s] accessKeySecret: holds blanks"},
        {"[c]\nprovider=cos\nregion=r\nbucket=plain\n" KEYS,
         ":4: [c] bucket: \"plain\" lacks the APPID; write NAME-APPID"},
        {"[c]\nprovider=cos\nregion=r\nbucket=a-12b\n" KEYS, ":4: [c] bucket: \"a-12b\" lacks"},
        {"[c]\nprovider=cos\nregion=r\nbucket=-12\n" KEYS, ":4: [c] bucket: \"-12\" lacks"},
        {S3 KEYS "endPoint=http://h\n", ":7: [s] endPoint: http sends everything in the clear"},
        {S3 KEYS "endPoint=http://h\nhttps=on\n", ":7: [s] endPoint: http sends"},
        {S3 KEYS "endPoint=https://h\nhttps=off\n", ":7: [s] endPoint: https contradicts"},
        {S3 KEYS "endPoint=https://user:hush@h\n", ":7: [s] endPoint: neither a host nor a URL"},
        {S3 KEYS "endPoint=h:0\n", ":7: [s] endPoint: neither"},
        {S3 KEYS "endPoint=h:70000\n", ":7: [s] endPoint: neither"},
        {S3 KEYS "endPoint=[::1\n", ":7: [s] endPoint: neither"},
        {S3 KEYS "endPoint=[::1]x\n", ":7: [s] endPoint: neither"},
        {S3 KEYS "endPoint=https://\n", ":7: [s] endPoint: neither"},
        {S3 KEYS "connectTo=host\n", ":7: [s] connectTo: \"host\" is not host:port"},
        {S3 KEYS "proxyHost=host\n", ":1: [s] proxyPort: proxyHost and proxyPort belong together"},
        {S3 KEYS "proxyPort=1\n", ":1: [s] proxyHost: proxyHost and proxyPort belong together"},
        {S3 KEYS "proxyPort=0\nproxyHost=h\n",
         ":7: [s] proxyPort: \"0\" is not a number from 1 to 65535"},
        {S3 KEYS "https=maybe\n", ":7: [s] https: \"maybe\" is neither on nor off"},
        {S3 KEYS "entireFileMd5Attached=x\n",
         ":7: [s] entireFileMd5Attached: \"x\" is not on, off"},
        {S3 KEYS "signatureVersion=v3\n", ":7: [s] signatureVersion: \"v3\" is neither"},
        {S3 KEYS "listVersion=3\n", ":7: [s] listVersion: \"3\" is not a number from 1 to 2"},
        {S3 KEYS "smallFileThreshold=0\n",
         ":7: [s] smallFileThreshold: \"0\" is not a size from 1 to"},
        {S3 KEYS "smallFileThreshold=5368709121\n", ":7: [s] smallFileThreshold: "},
        {S3 KEYS "bigFileUploadPartSize=1048575\n", ":7: [s] bigFileUploadPartSize: "},
        {S3 KEYS "smallFileExecutorNum=1025\n", ":7: [s] smallFileExecutorNum: "},
        {S3 KEYS "bigFileExecutorNum=65\n", ":7: [s] bigFileExecutorNum: "},
        {S3 KEYS "requestTryCount=-1\n", ":7: [s] requestTryCount: "},
        {S3 KEYS "requestTryCount=5x\n", ":7: [s] requestTryCount: "},
        {S3 KEYS "requestTimeoutMs=99999999999999999999999\n", ":7: [s] requestTimeoutMs: "},
        {S3 KEYS "minPartSize=2\nmaxPartSize=1\n", ":7: [s] minPartSize: above maxPartSize"},
        {S3 KEYS "prefix=/x\n", ":7: [s] prefix: keys do not start with '/'"},
        {"[b]\nprovider=bos\nbucket=b\n" KEYS, ":1: [b] region: missing; add region = bj"},
        {GCS, ":1: [g] accessKeyId: missing; add accessKeyId and accessKeySecret, or set "
              "GS_ACCESS_KEY_ID and GS_SECRET_ACCESS_KEY, or name a serviceAccountFile\n"},
        {GCS KEYS "serviceAccountFile=/f\n",
         ":6: [g] serviceAccountFile: given beside accessKeyId"},
        {GCS "serviceAccountFile=f\n", ":4: [g] serviceAccountFile: \"f\" is not absolute"},
        {GCS "serviceAccountFile=/no/such\n",
         ":4: [g] serviceAccountFile: \"/no/such\" cannot be read"},
        {GCS "serviceAccountFile=/etc/passwd\n",
         ":4: [g] serviceAccountFile: \"/etc/passwd\" is no key file of a service account"},
        {S3 KEYS "serviceAccountFile=/f\n",
         ":7: [s] serviceAccountFile: means nothing with provider = s3"},
        {"[c]\nprovider=cos\nregion=r\nbucket=a-1\nlistVersion=1\n" KEYS,
         ":5: [c] listVersion: means nothing with provider = cos"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        expect_fault(cases[i].text, cases[i].want);
    }
}

/* All at once, in the order of lines. */
static void test_many_faults(void **state)
{
    assert_int_equal(load("[a]\nprovider=tape\n\n[b]\nprovider=s3\nhttps=perhaps\nbucket=\nfoo\n"),
                     -EINVAL);
    CLEANUP(mem_freep)
    char *want =
        mem_printf("%s:2: [a] provider: \"tape\" is unknown; write one of " PROVIDERS "\n"
                   "%s:4: [b] region: missing; add region = us-east-1 or its like, or endPoint\n"
                   "%s:4: [b] accessKeyId: missing; add accessKeyId and accessKeySecret, or set "
                   "AWS_ACCESS_KEY_ID "
                   "and AWS_SECRET_ACCESS_KEY, or fill ~/.aws/credentials\n"
                   "%s:6: [b] https: \"perhaps\" is neither on nor off; write one of them\n"
                   "%s:7: [b] bucket: missing; add bucket = NAME\n"
                   "%s:8: [b] not a \"key = value\" line; mend or remove it\n",
                   file, file, file, file, file, file);
    assert_string_equal(buf_str(&faults), want);
}

/* Wherever a secret is put by mistake, no fault repeats it. */
static void test_secrets_unsaid(void **state)
{
#define SECRET "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
    static const char *const texts[] = {
        SECRET "\n",
        SECRET "=\n",
        "[a]\n" SECRET "\n",
        "[a]\nprovider=memory\n" SECRET "==\n",
        "[a]\nprovider=memory\nsecretKay=" SECRET "\n",
        "[a]\nprovider=local\nsecretKey=" SECRET "\n",
        "[a]\nprovider=memory\nsecretKey=" SECRET "\nsecretKey=" SECRET "\n",
        S3 "secretKey=" SECRET "\n",
        S3 "token=" SECRET "\n",
        S3 "accessKeyId=x\nsecretKey=" SECRET " x\n",
        S3 KEYS "endPoint=https://x:" SECRET "@h\n",
        S3 KEYS "proxyHost=x:" SECRET "@h\nproxyPort=1\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_int_equal(load(texts[i]), -EINVAL);
        assert_true(faults.len > 0);
        assert_null(strstr(buf_str(&faults), "wJalrX"));
    }
}

static void test_mode(void **state)
{
    static const mode_t good[] = {0600, 0640, 0400, 0440}, bad[] = {0644, 0604, 0660, 0666, 0601};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(load_mode(S3 KEYS, good[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(load_mode(S3 KEYS, bad[i]), -EPERM);
        assert_non_null(strstr(buf_str(&faults), "chmod 600 "));
        assert_int_equal(load_mode("[n]\nprovider=local\npath=/\n", bad[i]), 0);
    }
}

static void test_odd_files(void **state)
{
    expect_fault("[rclone]\nprovider=memory\n", ":1: [rclone] \"rclone:\" means the remotes of");
    buf_clear(&faults);
    assert_int_equal(conf_load("/nonexistent/objmig.conf", &conf, &faults), -ENOENT);
    assert_non_null(strstr(buf_str(&faults), "No such file"));
    assert_int_equal(conf_load(dir, &conf, &faults), -EISDIR);
    assert_int_equal(conf_load("/dev/null", &conf, &faults), -EINVAL);
    write_file(file, "[a]\nprov\0ider=memory\n", 21, 0600);
    buf_clear(&faults);
    assert_int_equal(conf_load(file, &conf, &faults), -EINVAL);
    assert_non_null(strstr(buf_str(&faults), "not a text file"));
    CLEANUP(mem_freep) char *big = mem_zalloc((1 << 20) + 2);
    memset(big, '\n', (1 << 20) + 1);
    write_file(file, big, (1 << 20) + 1, 0600);
    assert_int_equal(conf_load(file, &conf, &faults), -EFBIG);
    assert_null(conf);
}

/* inih's own buffer holds 200 bytes. */
static void test_long_values(void **state)
{
    char token[3001];
    for (size_t n = 150; n <= 3000; n += n < 260 ? 1 : 137) {
        memset(token, 'T', n);
        token[n] = '\0';
        CLEANUP(mem_freep)
        char *text = mem_printf(S3 KEYS "token =  %s   ; from sts\nhttps=off", token);
        assert_int_equal(load(text), 0);
        assert_string_equal(conf->remotes[0]->security_token->bytes, token);
        assert_false(conf->remotes[0]->https);
        /* A long comment, and a long line that is nothing. */
        CLEANUP(mem_freep) char *comment = mem_printf(S3 KEYS "; %s = x\n", token);
        assert_int_equal(load(comment), 0);
        CLEANUP(mem_freep) char *nothing = mem_printf(S3 KEYS "%s\n", token);
        expect_fault(nothing, ":7: [s] not a \"key = value\" line");
        CLEANUP(mem_freep) char *name = mem_printf(S3 KEYS "%s=1\n", token);
        assert_int_equal(load(name), -EINVAL);
        assert_null(strstr(buf_str(&faults), "TTT"));
    }
}

static void test_search(void **state)
{
    buf_clear(&faults);
    if (access("/etc/objmig/objmig.conf", F_OK) != 0) {
        assert_int_equal(conf_load(NULL, &conf, &faults), -ENOENT);
        assert_string_equal(buf_str(&faults), "");
    }
    char a[96], b[96], own[128];
    (void)snprintf(a, sizeof(a), "%s/.config", dir);
    (void)snprintf(b, sizeof(b), "%s/.config/objmig", dir);
    (void)snprintf(own, sizeof(own), "%s/objmig.conf", b);
    assert_int_equal(mkdir(a, 0700), 0);
    assert_int_equal(mkdir(b, 0700), 0);
    static const char text[] = "[own]\nprovider=memory\n";
    write_file(own, text, strlen(text), 0644);
    assert_int_equal(conf_load(NULL, &conf, &faults), 0);
    assert_string_equal(conf->file, own);
    assert_int_equal(setenv("OBJMIG_CONFIG", file, 1), 0);
    assert_int_equal(load("[env]\nprovider=memory\n"), 0);
    conf_free(conf);
    conf = NULL;
    assert_int_equal(conf_load(NULL, &conf, &faults), 0);
    assert_non_null(conf_find(conf, "env"));
    conf_free(conf);
    conf = NULL;
    assert_int_equal(conf_load(own, &conf, &faults), 0);
    assert_non_null(conf_find(conf, "own"));
    (void)unlink(own);
    (void)rmdir(b);
    (void)rmdir(a);
}

static void test_environment(void **state)
{
    (void)setenv("AWS_ACCESS_KEY_ID", "envid", 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY", "envsecret", 1);
    (void)setenv("AWS_SESSION_TOKEN", "envtoken", 1);
    assert_int_equal(load_mode(S3, 0644), 0);
    assert_string_equal(conf->remotes[0]->access_key_id, "envid");
    assert_string_equal(conf->remotes[0]->access_key_secret->bytes, "envsecret");
    assert_string_equal(conf->remotes[0]->security_token->bytes, "envtoken");
    /* Keys of the file are not mixed with the token of the environment. */
    assert_int_equal(load(S3 KEYS), 0);
    assert_string_equal(conf->remotes[0]->access_key_id, "AKID");
    assert_null(conf->remotes[0]->security_token);
    (void)setenv("AWS_SECRET_ACCESS_KEY", "envsecret\n", 1);
    expect_fault(S3, ":1: [s] accessKeySecret: holds blanks");
    clear_env();

    static const char cos[] = "[c]\nprovider=cos\nbucket=a-1\nregion=r\n";
    expect_fault(cos, ":1: [c] accessKeyId: missing; add accessKeyId and accessKeySecret, or set "
                      "COS_SECRET_ID and COS_SECRET_KEY, or fill ~/.cos.conf\n");
    (void)setenv("TENCENTCLOUD_SECRET_ID", "t1", 1);
    (void)setenv("TENCENTCLOUD_SECRET_KEY", "t2", 1);
    assert_int_equal(load(cos), 0);
    assert_string_equal(conf->remotes[0]->access_key_id, "t1");
    (void)setenv("COS_SECRET_ID", "c1", 1);
    (void)setenv("COS_SECRET_KEY", "c2", 1);
    assert_int_equal(load(cos), 0);
    assert_string_equal(conf->remotes[0]->access_key_id, "c1");
    assert_string_equal(conf->remotes[0]->access_key_secret->bytes, "c2");
}

#define AZURE "[z]\nprovider=azure\nbucket=box\n"

static const struct conf_remote *azure(const char *more)
{
    CLEANUP(mem_freep) char *text = mem_printf(AZURE "%s", more);
    assert_int_equal(load(text), 0);
    return conf->remotes[0];
}

/* A key or a SAS, from one place; the account says where it is. */
static void test_azure(void **state)
{
    const struct conf_remote *r = azure("accessKeyId=acc\naccessKeySecret=a2V5\n");
    assert_string_equal(r->region, "");
    assert_null(r->security_token);
    assert_string_equal(azure("accessKeyId=acc\nsasToken=?sv=1&sig=x\n")->security_token->bytes,
                        "?sv=1&sig=x");
    assert_null(conf->remotes[0]->access_key_secret);
    expect_fault(AZURE, ":1: [z] accessKeyId: missing; add accessKeyId (the account) and "
                        "accessKeySecret or sasToken, or set AZURE_STORAGE_ACCOUNT and "
                        "AZURE_STORAGE_KEY, or AZURE_STORAGE_CONNECTION_STRING\n");
    expect_fault(AZURE "accessKeyId=acc\n",
                 ":1: [z] accessKeySecret: missing beside accessKeyId; add it, or sasToken\n");
    expect_fault(AZURE "sasToken=sig=x\n", ":1: [z] accessKeyId: missing; name the storage account\n");
    expect_fault(AZURE KEYS "sasToken=sig=x\n",
                 ":6: [z] securityToken: given beside accessKeySecret; keep one of them\n");
    expect_fault(AZURE KEYS "region=eu\n", ":6: [z] region: means nothing with provider = azure");

    (void)setenv("AZURE_STORAGE_ACCOUNT", "envacc", 1);
    (void)setenv("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=env", 1);
    assert_string_equal(azure("")->access_key_id, "envacc");
    assert_string_equal(conf->remotes[0]->security_token->bytes, "sv=1&sig=env");
    (void)setenv("AZURE_STORAGE_KEY", "a2V5", 1); /* better than a SAS, and not mixed with one */
    assert_string_equal(azure("")->access_key_secret->bytes, "a2V5");
    assert_null(conf->remotes[0]->security_token);
    clear_env();

    static const char string[] = "AZURE_STORAGE_CONNECTION_STRING";
    (void)setenv(string, "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5PQ==;"
                         "EndpointSuffix=core.chinacloudapi.cn", 1);
    r = azure("");
    assert_string_equal(r->access_key_id, "acc");
    assert_string_equal(r->access_key_secret->bytes, "a2V5PQ==");
    assert_string_equal(r->endpoint, "https://acc.blob.core.chinacloudapi.cn");
    assert_true(r->https);
    assert_string_equal(azure("endPoint=elsewhere\n")->endpoint, "elsewhere");
    (void)setenv(string, "BlobEndpoint=http://127.0.0.1:1/acc;SharedAccessSignature=sv=1&sig=x", 1);
    r = azure("");
    assert_string_equal(r->access_key_id, "acc");
    assert_string_equal(r->security_token->bytes, "sv=1&sig=x");
    assert_false(r->https);
    (void)setenv(string, "AccountName=acc;AccountKey=", 1);
    expect_fault(AZURE, ":1: [z] accessKeyId: AZURE_STORAGE_CONNECTION_STRING lacks");
    clear_env();
}

/* A key file gives the account's name and the secret; the section's own keys come before all of the
 * environment. */
static void test_google_file(void **state)
{
    static const char key[] =
        "{\"type\":\"service_account\",\"client_email\":\"a@b\",\"private_key\":\"PEM\"}";
    static const char *const bad[] = {
        "{}", "[1]",
        "{\"type\":\"authorized_user\",\"client_email\":\"a@b\",\"private_key\":\"P\"}",
        "{\"type\":\"service_account\",\"client_email\":\"a\",\"private_key\":\"P\"}",
        "{\"type\":\"service_account\",\"client_email\":\"a@b\"}",
        "{\"type\":\"service_account\",\"client_email\":\"a@b\",\"private_key\":\"P\",\"private_key\":\"Q\"}"};
    CLEANUP(mem_freep) char *path = mem_printf("%s/account.json", dir);
    CLEANUP(mem_freep) char *section = mem_printf(GCS "serviceAccountFile=%s\n", path);
    write_file(path, key, strlen(key), 0600);
    assert_int_equal(load(section), 0);
    assert_string_equal(conf->remotes[0]->access_key_id, "a@b");
    assert_string_equal(conf->remotes[0]->access_key_secret->bytes, key);
    (void)setenv("GOOGLE_APPLICATION_CREDENTIALS", path, 1);
    assert_int_equal(load(GCS), 0);
    assert_string_equal(conf->remotes[0]->access_key_id, "a@b");
    assert_int_equal(load(GCS KEYS), 0);
    assert_string_equal(conf->remotes[0]->access_key_id, "AKID");
    (void)setenv("GS_ACCESS_KEY_ID", "envid", 1);
    (void)setenv("GS_SECRET_ACCESS_KEY", "envsecret", 1);
    assert_int_equal(load(GCS), 0);
    assert_string_equal(conf->remotes[0]->access_key_id, "envid");
    clear_env();
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        write_file(path, bad[i], strlen(bad[i]), 0600);
        assert_int_equal(load(section), -EINVAL);
        assert_non_null(strstr(buf_str(&faults), "is no key file of a service account"));
    }
    (void)unlink(path);
}

static void test_aws_file(void **state)
{
    char folder[96], path[128];
    (void)snprintf(folder, sizeof(folder), "%s/.aws", dir);
    (void)snprintf(path, sizeof(path), "%s/credentials", folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    static const char text[] = "[other]\naws_access_key_id = o\naws_secret_access_key = os\n"
                               "[default]\n# mine\naws_access_key_id=fileid\n"
                               "aws_secret_access_key=filesecret\nregion=x\n";
    write_file(path, text, strlen(text), 0600);
    assert_int_equal(load(S3), 0);
    assert_string_equal(conf->remotes[0]->access_key_id, "fileid");
    assert_string_equal(conf->remotes[0]->access_key_secret->bytes, "filesecret");
    assert_null(conf->remotes[0]->security_token);
    (void)setenv("AWS_PROFILE", "other", 1);
    assert_int_equal(load(S3), 0);
    assert_string_equal(conf->remotes[0]->access_key_id, "o");
    (void)unlink(path);
    (void)rmdir(folder);
}

#define OSS "[o]\nprovider=oss\nbucket=b\nregion=cn-hangzhou\n"

/* ~/.ossutilconfig, of both versions of the tool; never half of one section and half of another. */
static void test_ossutil_file(void **state)
{
    static const char *const texts[] = {
        "[Credentials]\nlanguage=EN\nendpoint=e\naccessKeyID=fileid\naccessKeySecret=filesecret\n",
        "[default]\naccessKeyId = fileid\naccessKeySecret = filesecret\nregion = r\n",
        "[Credentials]\naccessKeyID=half\n[default]\naccessKeyID=fileid\naccessKeySecret=filesecret\n",
    };
    CLEANUP(mem_freep) char *path = mem_printf("%s/.ossutilconfig", dir);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        write_file(path, texts[i], strlen(texts[i]), 0600);
        assert_int_equal(load(OSS), 0);
        assert_string_equal(conf->remotes[0]->access_key_id, "fileid");
        assert_string_equal(conf->remotes[0]->access_key_secret->bytes, "filesecret");
        assert_null(conf->remotes[0]->security_token);
    }
    (void)setenv("OSS_ACCESS_KEY_ID", "envid", 1);
    (void)setenv("OSS_ACCESS_KEY_SECRET", "envsecret", 1);
    assert_int_equal(load(OSS), 0);
    assert_string_equal(conf->remotes[0]->access_key_id, "envid");
    clear_env();
    (void)unlink(path);
    expect_fault(OSS, ":1: [o] accessKeyId: missing; add accessKeyId and accessKeySecret, or set "
                      "ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or fill "
                      "~/.ossutilconfig\n");
}

static void write_home(const char *name, const char *text)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s", dir, name);
    write_file(path, text, strlen(text), 0600);
}

static void remove_home(const char *name)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s", dir, name);
    (void)unlink(path);
}

/* coscmd's file, as it writes it. */
static void test_cos_file(void **state)
{
    static const char section[] = "[c]\nprovider=cos\nbucket=a-1\n";
    write_home(".cos.conf", "[common]\nsecret_id = fileid\nsecret_key = filesecret\ntoken = t\n"
                            "bucket = other-2\nregion = ap-beijing\nmax_thread = 5\nschema = https\n"
                            "[elsewhere]\nsecret_id = no\n");
    assert_int_equal(load(section), 0);
    const struct conf_remote *r = conf->remotes[0];
    assert_string_equal(r->access_key_id, "fileid");
    assert_string_equal(r->access_key_secret->bytes, "filesecret");
    assert_string_equal(r->security_token->bytes, "t");
    assert_string_equal(r->region, "ap-beijing");
    assert_string_equal(r->bucket, "a-1");
    (void)setenv("COS_REGION", "ap-tokyo", 1);
    assert_int_equal(load("[c]\nprovider=cos\nbucket=a-1\n" KEYS), 0);
    r = conf->remotes[0];
    assert_string_equal(r->region, "ap-tokyo");
    assert_string_equal(r->access_key_id, "AKID"); /* keys of the section: none of the file's token */
    assert_null(r->security_token);
    assert_int_equal(load("[c]\nprovider=cos\nbucket=a-1\nendPoint=cos.example\n"), 0);
    assert_string_equal(conf->remotes[0]->region, "");
    clear_env();
    remove_home(".cos.conf");
    expect_fault("[c]\nprovider=cos\nbucket=a-1\n" KEYS, ":1: [c] region: missing; add region = ");
}

/* Region, and keys when the other file has none, of the profile that is chosen. */
static void test_aws_config(void **state)
{
    static const char section[] = "[s]\nprovider=s3\nbucket=b\n";
    CLEANUP(mem_freep) char *folder = mem_printf("%s/.aws", dir);
    assert_int_equal(mkdir(folder, 0700), 0);
    write_home(".aws/config", "[default]\nregion = eu-west-1\n"
                              "[profile work]\nregion = us-west-2\naws_access_key_id = workid\n"
                              "aws_secret_access_key = worksecret\n");
    write_home(".aws/credentials",
               "[default]\naws_access_key_id = fileid\naws_secret_access_key = filesecret\n");
    assert_int_equal(load(section), 0);
    assert_string_equal(conf->remotes[0]->region, "eu-west-1");
    assert_string_equal(conf->remotes[0]->access_key_id, "fileid");
    (void)setenv("AWS_PROFILE", "work", 1);
    assert_int_equal(load(section), 0);
    assert_string_equal(conf->remotes[0]->region, "us-west-2");
    assert_string_equal(conf->remotes[0]->access_key_id, "workid");
    (void)setenv("AWS_PROFILE", "default", 1);
    assert_int_equal(load(section), 0);
    assert_string_equal(conf->remotes[0]->region, "eu-west-1");
    (void)setenv("AWS_DEFAULT_REGION", "ap-south-1", 1);
    assert_int_equal(load(section), 0);
    assert_string_equal(conf->remotes[0]->region, "ap-south-1");
    clear_env();
    remove_home(".aws/config");
    remove_home(".aws/credentials");
    (void)rmdir(folder);
    expect_fault("[s]\nprovider=s3\nbucket=b\n" KEYS, ":1: [s] region: missing; add region = us-east-1");
}

/* A service account's key file as a value. */
static void test_google_inline(void **state)
{
#define JSON "{\"type\":\"service_account\", \"client_email\":\"me@x\",\"private_key\":\"-----BEGIN K\\n\"}"
    assert_int_equal(load(GCS "accessKeySecret=" JSON "\n"), 0);
    assert_string_equal(conf->remotes[0]->access_key_id, "me@x");
    assert_string_equal(conf->remotes[0]->access_key_secret->bytes, JSON);
    assert_int_equal(load_mode(GCS "accessKeySecret=" JSON "\n", 0644), -EPERM);
    expect_fault(GCS "accessKeySecret={\"type\": \"user\"}\n",
                 ":4: [g] accessKeySecret: is no key file of a service account; make one, of type JSON\n");
    expect_fault(GCS "accessKeyId=I\naccessKeySecret=" JSON "\n", ":4: [g] accessKeyId: is not that of");
    expect_fault(GCS "serviceAccountFile=/x\naccessKeySecret=" JSON "\n",
                 ":4: [g] serviceAccountFile: given beside accessKeySecret");
}

static void test_signature_versions(void **state)
{
    assert_int_equal(load(OSS KEYS), 0);
    assert_string_equal(conf->remotes[0]->signature, "v4");
    assert_int_equal(load(OSS KEYS "signatureVersion=V1\n"), 0);
    assert_string_equal(conf->remotes[0]->signature, "v1");
    expect_fault(OSS KEYS "signatureVersion=v2\n",
                 ":7: [o] signatureVersion: \"v2\" is neither v4 nor v1; write one of them\n");
    assert_int_equal(load("[k]\nprovider=ks3\nbucket=b\nregion=cn-beijing\n" KEYS), 0);
    assert_string_equal(conf->remotes[0]->signature, "kss");
    expect_fault("[c]\nprovider=cos\nbucket=b-1\nregion=r\n" KEYS "signatureVersion=v4\n",
                 ":7: [c] signatureVersion: means nothing with provider = cos; remove it\n");
}

static void test_resolve(void **state)
{
    const struct conf_remote *r = NULL;
    struct errinfo e = {0};
    char *prefix = NULL;
    assert_int_equal(load("[nas]\nprovider=local\npath=/data\n[photos]\nprovider=memory\n"), 0);
    assert_int_equal(conf_resolve(conf, "nas", NULL, &r, &prefix, &e), 0);
    assert_string_equal(r->name, "nas");
    assert_string_equal(prefix, "");
    free(prefix);
    assert_int_equal(conf_resolve(conf, "nas:a/b", NULL, &r, &prefix, &e), 0);
    assert_string_equal(prefix, "a/b/");
    free(prefix);
    assert_int_equal(conf_resolve(conf, "nas:", NULL, &r, &prefix, &e), 0);
    assert_string_equal(prefix, "");
    free(prefix);
    assert_int_equal(conf_resolve(conf, "all", NULL, &r, &prefix, &e), 0);
    assert_null(r);
    free(prefix);
    prefix = NULL;
    assert_int_equal(conf_resolve(conf, "phots", NULL, &r, &prefix, &e), -ENOENT);
    assert_non_null(strstr(e.message, "did you mean photos?"));
    assert_int_equal(conf_resolve(conf, "nas:/a", NULL, &r, &prefix, &e), -EINVAL);
    assert_int_equal(conf_resolve(conf, "gopher://x", NULL, &r, &prefix, &e), -EINVAL);
    assert_int_equal(e.cls, ERR_INVALID);
    assert_null(prefix);
}

static void test_urls(void **state)
{
    const struct conf_remote *r = NULL, *again = NULL;
    struct errinfo e = {0};
    CLEANUP(kv_fini) struct kvlist options = {0};
    char *prefix = NULL;
    conf_free(conf);
    conf = conf_new("");
    assert_int_equal(conf_resolve(conf, "cos://b-1250000000/x/y", NULL, &r, &prefix, &e), -EINVAL);
    assert_non_null(strstr(e.message, "region: missing"));
    kv_set(&options, "region", "ap-guangzhou");
    assert_int_equal(conf_resolve(conf, "cos://b-1250000000/x/y", &options, &r, &prefix, &e),
                     -EINVAL);
    assert_non_null(strstr(e.message, "COS_SECRET_ID"));
    (void)setenv("COS_SECRET_ID", "i", 1);
    (void)setenv("COS_SECRET_KEY", "hush", 1);
    assert_int_equal(conf_resolve(conf, "cos://b-1250000000/x/y", &options, &r, &prefix, &e), 0);
    assert_string_equal(r->name, "b-1250000000");
    assert_string_equal(r->provider, "cos");
    assert_string_equal(r->region, "ap-guangzhou");
    assert_string_equal(r->prefix, "");
    assert_string_equal(prefix, "x/y/");
    free(prefix);
    /* The same bucket again is the same remote; another under that name is not. */
    assert_int_equal(conf_resolve(conf, "COS://b-1250000000", &options, &again, &prefix, &e), 0);
    assert_ptr_equal(r, again);
    assert_string_equal(prefix, "");
    free(prefix);
    kv_set(&options, "region", "ap-beijing");
    assert_int_equal(conf_resolve(conf, "cos://b-1250000000/", &options, &again, &prefix, &e), 0);
    assert_string_equal(again->name, "cos-b-1250000000");
    free(prefix);
    kv_set(&options, "region", "ap-tokyo");
    assert_int_equal(conf_resolve(conf, "cos://b-1250000000", &options, &again, &prefix, &e), 0);
    assert_string_equal(again->name, "cos-b-1250000000-2");
    free(prefix);
    assert_int_equal(conf->n_remotes, 3);
    prefix = NULL;

    kv_set(&options, "secretKey", "hush-hush");
    assert_int_equal(conf_resolve(conf, "s3://b", &options, &again, &prefix, &e), -EINVAL);
    assert_non_null(strstr(e.message, "ps"));
    assert_null(strstr(e.message, "hush"));
    kv_fini(&options);
    kv_set(&options, "regoin", "x");
    assert_int_equal(conf_resolve(conf, "s3://b", &options, &again, &prefix, &e), -EINVAL);
    assert_non_null(strstr(e.message, "did you mean region?"));

    (void)setenv("GS_ACCESS_KEY_ID", "i", 1);
    (void)setenv("GS_SECRET_ACCESS_KEY", "hush", 1);
    assert_int_equal(conf_resolve(conf, "gs://b_1.c/x", NULL, &r, &prefix, &e), 0);
    assert_string_equal(r->provider, "gcs");
    assert_string_equal(r->bucket, "b_1.c");
    free(prefix);
    prefix = NULL;

    assert_int_equal(conf_resolve(conf, "file:///data/x//", NULL, &r, &prefix, &e), 0);
    assert_string_equal(r->path, "/data/x");
    assert_string_equal(r->name, "x");
    free(prefix);
    assert_int_equal(conf_resolve(conf, "file:///", NULL, &r, &prefix, &e), 0);
    assert_string_equal(r->path, "/");
    assert_string_equal(r->name, "file");
    free(prefix);
    prefix = NULL;
    assert_int_equal(conf_resolve(conf, "file://data", NULL, &r, &prefix, &e), -EINVAL);
}

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        uint64_t want; /* 0 = refused */
    } sizes[] = {
        {"1", 1},
        {"512M", 512 << 20},
        {"1GiB", 1 << 30},
        {"5 MiB", 5 << 20},
        {"2kb", 2000},
        {"3B", 3},
        {"1k", 1024},
        {"16t", 16ULL << 40},
        {"18446744073709551615", UINT64_MAX},
        {"18446744073709551616", 0},
        {"17179869184G", 0},
        {"10%", 0},
        {"", 0},
        {"-1", 0},
        {"+1", 0},
        {" 1", 0},
        {"1.5G", 0},
        {"1Gx", 0},
        {"G", 0},
        {"0x10", 0},
        {"1 ", 1},
        {"1Gi", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint64_t n = 0;
        int err = conf_parse_size(sizes[i].text, &n);
        assert_int_equal(err, sizes[i].want > 0 ? 0 : -EINVAL);
        assert_true(n == sizes[i].want);
    }
    static const char *const words[] = {"off", "on", "False", "TRUE", "no", "Yes", "0", "1"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        bool b = i % 2 == 0;
        assert_int_equal(conf_parse_bool(words[i], &b), 0);
        assert_int_equal(b, i % 2 == 1);
    }
    bool b;
    assert_int_equal(conf_parse_bool("", &b), -EINVAL);
    assert_int_equal(conf_parse_bool("2", &b), -EINVAL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_full),           TEST(test_faults),    TEST(test_many_faults),
        TEST(test_secrets_unsaid), TEST(test_mode),      TEST(test_odd_files),
        TEST(test_long_values),    TEST(test_search),    TEST(test_environment),
        TEST(test_cos_file),       TEST(test_aws_config),   TEST(test_google_inline),
        TEST(test_google_file),    TEST(test_aws_file),  TEST(test_resolve),
        TEST(test_urls),           TEST(test_ossutil_file), TEST(test_signature_versions),
        TEST(test_azure),          TEST(test_numbers),
    };
    return cmocka_run_group_tests_name("conf", tests, NULL, NULL);
}
