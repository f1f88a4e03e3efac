/*
 * ctl/userns.c - id maps.
 */
#include "ctl/userns.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/proc.h"

enum {
    IDS = 65535, /* 1 to 65535 */
    SUBID_BYTES_MAX = 1 << 20,
    SUBID_FIRST = 100000, /* where adduser begins */
};
/*
 * Below 2^31, so that signed ids stay positive; above what systemd, container engines and adduser
 * hand out.
 */
static const uint64_t ROOT_RANGE = 0x7f000001;

lt_rc ctl_subid_find(lt_str text, lt_str user, uid_t uid, uint64_t *ret_first)
{
    char digits[16];
    snprintf(digits, sizeof(digits), "%u", uid);
    for (lt_str rest = text, line; lt_str_split(&rest, '\n', &line);) {
        lt_str name, first, count;
        lt_str fields = lt_str_trim(line);
        if (!lt_str_split(&fields, ':', &name) || !lt_str_split(&fields, ':', &first) ||
            !lt_str_split(&fields, ':', &count))
            continue;
        uint64_t from, n;
        bool is_ours = (user.len > 0 && lt_str_eq(name, user)) || lt_str_eqz(name, digits);
        if (is_ours && lt_str_to_u64(first, &from) == LT_OK && lt_str_to_u64(count, &n) == LT_OK &&
            n >= IDS && from < UINT32_MAX - IDS) {
            *ret_first = from;
            return LT_OK;
        }
    }
    return LT_E_NOT_FOUND;
}

uint64_t ctl_subid_next(lt_str text)
{
    uint64_t next = SUBID_FIRST;
    for (lt_str rest = text, line; lt_str_split(&rest, '\n', &line);) {
        lt_str name, first, count;
        lt_str fields = lt_str_trim(line);
        uint64_t from, n;
        if (lt_str_split(&fields, ':', &name) && lt_str_split(&fields, ':', &first) &&
            lt_str_split(&fields, ':', &count) && lt_str_to_u64(first, &from) == LT_OK &&
            lt_str_to_u64(count, &n) == LT_OK && n < UINT32_MAX && from < UINT32_MAX - n)
            next = LT_MAX(next, from + n);
    }
    return next;
}

/* The ids that one file lends to this user. */
struct lent {
    const char *path;
    const char *option; /* of usermod */
    uint64_t first;
    uint64_t next; /* that nobody has */
    bool is_there;
};

static void read_lent(struct lent *lent, const char *user)
{
    char *text = NULL;
    size_t len = 0;
    if (ctl_file_read(lent->path, SUBID_BYTES_MAX, &text, &len, NULL) != LT_OK)
        len = 0;
    lt_str all = lt_str_make(text, len);
    lent->is_there = ctl_subid_find(all, lt_str_of(user), getuid(), &lent->first) == LT_OK;
    lent->next = ctl_subid_next(all);
    free(text);
}

static void add_usermod(const struct lent *lent, char *out, size_t size)
{
    size_t len = strlen(out);
    if (!lent->is_there)
        snprintf(out + len, size - len, " %s %llu-%llu", lent->option,
                 (unsigned long long)lent->next, (unsigned long long)lent->next + IDS);
}

static lt_rc find_lent(uint64_t *ret_first_uid, uint64_t *ret_first_gid, struct lt_err *err)
{
    struct lent uids = {.path = "/etc/subuid", .option = "--add-subuids"},
                gids = {.path = "/etc/subgid", .option = "--add-subgids"};
    const struct passwd *account = getpwuid(getuid());
    const char *user = account != NULL ? account->pw_name : "";
    char options[128] = "";
    read_lent(&uids, user);
    read_lent(&gids, user);
    *ret_first_uid = uids.first;
    *ret_first_gid = gids.first;
    if (uids.is_there && gids.is_there)
        return LT_OK;
    add_usermod(&uids, options, sizeof(options));
    add_usermod(&gids, options, sizeof(options));
    return lt_err_set(err, LT_E_NOT_FOUND,
                      "%s has no line with %d ids for you; this adds one:\n"
                      "    sudo usermod%s %s",
                      uids.is_there ? gids.path : uids.path, IDS, options,
                      user[0] != '\0' ? user : "<user>");
}

static lt_rc write_map(pid_t pid, const char *file, uint32_t own, uint64_t first,
                       struct lt_err *err)
{
    char path[64], text[96];
    snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
    int len = snprintf(text, sizeof(text), "0 %u 1\n1 %llu %d\n", own, (unsigned long long)first,
                       IDS);
    return ctl_file_write(path, lt_str_make(text, (size_t)len), 0644, err);
}

/* newuidmap and newgidmap are setuid root and check /etc/subuid themselves. */
static lt_rc run_mapper(const char *program, pid_t pid, uint32_t own, uint64_t first,
                        struct lt_err *err)
{
    char target[16], outside[16], range[24], count[16];
    snprintf(target, sizeof(target), "%d", pid);
    snprintf(outside, sizeof(outside), "%u", own);
    snprintf(range, sizeof(range), "%llu", (unsigned long long)first);
    snprintf(count, sizeof(count), "%d", IDS);
    pid_t child = fork();
    if (child == 0) {
        execlp(program, program, target, "0", outside, "1", "1", range, count, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return lt_err_errno(err, "%s", program);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return lt_err_set(err, LT_E_NOT_FOUND,
                          "%s is missing; this installs it:\n    sudo apt-get install uidmap",
                          program);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return lt_err_set(err, LT_E_DENIED, "%s refused to map %llu and the %d ids behind it",
                          program, (unsigned long long)first, IDS);
    return LT_OK;
}

lt_rc ctl_userns_map(pid_t pid, struct lt_err *err)
{
    if (geteuid() == 0) {
        LT_TRY(write_map(pid, "uid_map", 0, ROOT_RANGE, err));
        return write_map(pid, "gid_map", 0, ROOT_RANGE, err);
    }
    uint64_t first_uid = 0, first_gid = 0;
    LT_TRY(find_lent(&first_uid, &first_gid, err));
    LT_TRY(run_mapper("newuidmap", pid, getuid(), first_uid, err));
    return run_mapper("newgidmap", pid, getgid(), first_gid, err);
}

static lt_rc read_number(const char *path, uint64_t *ret)
{
    char *text = NULL;
    size_t len = 0;
    LT_TRY(ctl_file_read(path, 64, &text, &len, NULL));
    lt_rc rc = lt_str_to_u64(lt_str_trim(lt_str_make(text, len)), ret);
    free(text);
    return rc;
}

lt_rc ctl_userns_check(struct lt_err *err)
{
    static const struct {
        const char *path;
        const char *fix;
    } switches[] = {
        {"/proc/sys/user/max_user_namespaces", "sysctl -w user.max_user_namespaces=10000"},
        {"/proc/sys/user/max_net_namespaces", "sysctl -w user.max_net_namespaces=10000"},
        {"/proc/sys/kernel/unprivileged_userns_clone",
         "sysctl -w kernel.unprivileged_userns_clone=1"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(switches); i++) {
        uint64_t value;
        bool is_for_users_only = i == 2;
        if (read_number(switches[i].path, &value) != LT_OK || value > 0 ||
            (is_for_users_only && geteuid() == 0))
            continue;
        return lt_err_set(
            err, LT_E_UNSUPPORTED,
            "this machine does not allow new namespaces (%s is 0); this allows them:\n"
            "    sudo %s",
            switches[i].path, switches[i].fix);
    }
    if (access("/proc/self/ns/user", F_OK) < 0)
        return lt_err_set(err, LT_E_UNSUPPORTED,
                          "this kernel has no user namespaces (CONFIG_USER_NS)");
    if (geteuid() != 0) {
        uint64_t first_uid, first_gid;
        return find_lent(&first_uid, &first_gid, err);
    }
    return LT_OK;
}
