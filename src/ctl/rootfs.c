/*
 * ctl/rootfs.c - building a container's root.
 *
 * A directory of the host where something must be put that the host does not have is *mirrored*: a
 * tmpfs with a bind of each of the host's entries, where more can be made. "/" always is. (An
 * overlay would be one mount instead of many, but the kernel refuses one over a directory with
 * mounts in it that our user namespace may not lift, as /etc in a Docker container.)
 *
 *   <stage>           mirror of "/"; with /proc, /sys, /dev, /run, /tmp of its own
 *   <stage>/etc ...   mirrors, wherever the target of a mount is missing or is replaced
 *
 * Start at: ctl_rootfs_enter().
 */
#include "ctl/rootfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctl/proc.h"

struct stage {
    const char *root;
    const char *volumes; /* of the Pod */
    const struct ctl_mount *mounts;
    size_t count;
    char (*targets)[PATH_MAX];           /* owned; of each mount, without the host's symlinks */
    const char *mirrors[CTL_MOUNTS_MAX]; /* owned; directories to mirror besides "/" */
    size_t mirror_count;
    struct lt_err *err;
};

/* Top-level directories that the container has of its own. */
static const char *const own_dirs[] = {"proc", "sys", "dev", "run", "tmp"};

static lt_rc join(const struct stage *stage, const char *path, char out[PATH_MAX])
{
    if (snprintf(out, PATH_MAX, "%s%s", stage->root, path) >= PATH_MAX)
        return lt_err_set(stage->err, LT_E_LIMIT, "%s: path too long", path);
    return LT_OK;
}

static lt_rc mount_at(const struct stage *stage, const char *source, const char *path,
                      const char *type, unsigned long flags, const char *options)
{
    char at[PATH_MAX];
    LT_TRY(join(stage, path, at));
    if (mount(source, at, type, flags, options) < 0)
        return lt_err_errno(stage->err, "mounting %s on %s", type != NULL ? type : source, path);
    return LT_OK;
}

static lt_rc set_read_only(const struct stage *stage, const char *path, bool is_recursive)
{
    char at[PATH_MAX];
    LT_TRY(join(stage, path, at));
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
    if (syscall(SYS_mount_setattr, AT_FDCWD, at, is_recursive ? AT_RECURSIVE : 0, &attr,
                sizeof(attr)) < 0)
        return lt_err_errno(stage->err, "making %s read-only", path);
    return LT_OK;
}

static lt_rc make_file(const struct stage *stage, const char *path)
{
    char at[PATH_MAX];
    LT_TRY(join(stage, path, at));
    int fd = open(at, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return lt_err_errno(stage->err, "%s", path);
    close(fd);
    return LT_OK;
}

static lt_rc make_dir(const struct stage *stage, const char *path)
{
    char at[PATH_MAX];
    LT_TRY(join(stage, path, at));
    return ctl_mkdirs(at, 0755, stage->err);
}

/* --- the host's directories --- */

static lt_rc copy_link(const struct stage *stage, const char *path)
{
    char at[PATH_MAX], to[PATH_MAX];
    ssize_t len = readlink(path, to, sizeof(to) - 1);
    if (len < 0)
        return lt_err_errno(stage->err, "%s", path);
    to[len] = '\0';
    LT_TRY(join(stage, path, at));
    return symlink(to, at) < 0 ? lt_err_errno(stage->err, "%s", path) : LT_OK;
}

static bool is_own_dir(const char *path)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(own_dirs); i++) {
        if (strcmp(own_dirs[i], path + 1) == 0)
            return true;
    }
    return false;
}

/* In a tmpfs of ours, where what is missing is simply made; the top level is one too. */
static bool is_inside_own(const char *target)
{
    lt_str rest = lt_str_from(lt_str_of(target), 1);
    for (size_t i = 0; i < LT_ARRAY_LEN(own_dirs); i++) {
        lt_str name = lt_str_of(own_dirs[i]);
        if (lt_str_starts(rest, name) && (rest.len == name.len || rest.ptr[name.len] == '/'))
            return true;
    }
    return lt_str_find_char(rest, '/') < 0;
}

/*
 * Stands where a mount will put something else than a mount over it: a file's text, or anything in
 * a link's place.
 */
static bool is_replaced(const struct stage *stage, const char *path)
{
    struct stat st;
    for (size_t i = 0; i < stage->count; i++) {
        if (strcmp(stage->targets[i], path) == 0)
            return stage->mounts[i].kind == CTL_MOUNT_FILE || lstat(path, &st) < 0 ||
                   S_ISLNK(st.st_mode);
    }
    return false;
}

static lt_rc take_entry(const struct stage *stage, const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
        return lt_err_set(stage->err, LT_E_LIMIT, "%s: path too long", dir);
    if (is_own_dir(path) || is_replaced(stage, path) || lstat(path, &st) < 0)
        return LT_OK;
    if (S_ISLNK(st.st_mode))
        return copy_link(stage, path);
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return LT_OK;
    LT_TRY(S_ISDIR(st.st_mode) ? make_dir(stage, path) : make_file(stage, path));
    return mount_at(stage, path, path, NULL, MS_BIND | MS_REC, NULL);
}

/* dir: "" for the root. */
static lt_rc mirror(const struct stage *stage, const char *dir)
{
    LT_TRY(mount_at(stage, "tmpfs", dir, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=16m"));
    DIR *entries = opendir(dir[0] == '\0' ? "/" : dir);
    if (entries == NULL)
        return lt_err_errno(stage->err, "%s", dir);
    lt_rc rc = LT_OK;
    for (struct dirent *entry; rc == LT_OK && (entry = readdir(entries)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = take_entry(stage, dir, entry->d_name);
    }
    closedir(entries);
    return rc;
}

/* --- what is the container's own --- */

static lt_rc make_dev(const struct stage *stage)
{
    static const char *const nodes[] = {"/dev/null",   "/dev/zero",    "/dev/full",
                                        "/dev/random", "/dev/urandom", "/dev/tty"};
    static const char *const links[][2] = {
        {"/dev/fd", "/proc/self/fd"},       {"/dev/stdin", "/proc/self/fd/0"},
        {"/dev/stdout", "/proc/self/fd/1"}, {"/dev/stderr", "/proc/self/fd/2"},
        {"/dev/ptmx", "pts/ptmx"},
    };
    LT_TRY(mount_at(stage, "tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755,size=1m"));
    for (size_t i = 0; i < LT_ARRAY_LEN(nodes); i++) {
        LT_TRY(make_file(stage, nodes[i]));
        LT_TRY(mount_at(stage, nodes[i], nodes[i], NULL, MS_BIND, NULL));
    }
    for (size_t i = 0; i < LT_ARRAY_LEN(links); i++) {
        char at[PATH_MAX];
        LT_TRY(join(stage, links[i][0], at));
        if (symlink(links[i][1], at) < 0)
            return lt_err_errno(stage->err, "%s", links[i][0]);
    }
    LT_TRY(make_dir(stage, "/dev/pts"));
    LT_TRY(mount_at(stage, "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
                    "newinstance,ptmxmode=0666,mode=620"));
    LT_TRY(make_dir(stage, "/dev/shm"));
    return mount_at(stage, "tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV,
                    "mode=1777,size=64m");
}

static lt_rc make_own_dirs(const struct stage *stage)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(own_dirs); i++) {
        char path[16];
        snprintf(path, sizeof(path), "/%s", own_dirs[i]);
        LT_TRY(make_dir(stage, path));
    }
    return LT_OK;
}

static lt_rc mount_own(const struct stage *stage)
{
    LT_TRY(mount_at(stage, "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    LT_TRY(mount_at(stage, "sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
                    NULL));
    LT_TRY(mount_at(stage, "tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=16m"));
    LT_TRY(mount_at(stage, "tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=50%"));
    return make_dev(stage);
}

/* --- the pod's mounts --- */

/* The longest directory of the host that is part of target; *ret_len is its length. */
static void find_existing(const char *target, size_t *ret_len)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof(path), "%s", target);
    for (;;) {
        char *slash = strrchr(path, '/');
        if (slash == path) {
            *ret_len = 0;
            return;
        }
        *slash = '\0';
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            *ret_len = strlen(path);
            return;
        }
    }
}

static lt_rc check_target(const struct stage *stage, const char *target)
{
    lt_str path = lt_str_of(target), part;
    bool is_good = path.len > 1 && path.len < PATH_MAX / 2 && path.ptr[0] == '/' &&
                   path.ptr[path.len - 1] != '/';
    for (lt_str rest = lt_str_from(path, 1); is_good && lt_str_split(&rest, '/', &part);)
        is_good = part.len > 0 && !lt_str_eqz(part, ".") && !lt_str_eqz(part, "..");
    if (!is_good)
        return lt_err_set(stage->err, LT_E_BAD,
                          "mount path \"%s\": expected an absolute path without \".\" and \"..\"",
                          target);
    return LT_OK;
}

/*
 * /var/run/x becomes /run/x where the one is a link to the other: a link would lead out of the
 * stage.
 */
static lt_rc resolve_target(const struct stage *stage, const char *target, char out[PATH_MAX])
{
    char prefix[PATH_MAX], real[PATH_MAX];
    LT_TRY(check_target(stage, target));
    size_t len;
    find_existing(target, &len);
    snprintf(prefix, sizeof(prefix), "%.*s", (int)len, target);
    if (len == 0 || realpath(prefix, real) == NULL)
        real[0] = '\0';
    if (snprintf(out, PATH_MAX, "%s%s", real, target + len) >= PATH_MAX)
        return lt_err_set(stage->err, LT_E_LIMIT, "%s: path too long", target);
    return LT_OK;
}

static void add_mirror(struct stage *stage, const char *target)
{
    char dir[PATH_MAX];
    size_t len;
    find_existing(target, &len);
    if (len == 0)
        return; /* the root: a mirror anyway */
    snprintf(dir, sizeof(dir), "%.*s", (int)len, target);
    for (size_t i = 0; i < stage->mirror_count; i++) {
        if (strcmp(stage->mirrors[i], dir) == 0)
            return;
    }
    stage->mirrors[stage->mirror_count++] = lt_strdup(dir);
}

static int compare_lengths(const void *a, const void *b)
{
    size_t left = strlen(*(const char *const *)a), right = strlen(*(const char *const *)b);
    return left < right ? -1 : left > right;
}

static lt_rc plan(struct stage *stage)
{
    for (size_t i = 0; i < stage->count; i++)
        LT_TRY(resolve_target(stage, stage->mounts[i].target, stage->targets[i]));
    for (size_t i = 0; i < stage->count; i++) {
        struct stat st;
        const char *target = stage->targets[i];
        if (!is_inside_own(target) && (is_replaced(stage, target) || lstat(target, &st) < 0))
            add_mirror(stage, target);
    }
    /* a directory before those in it */
    qsort(stage->mirrors, stage->mirror_count, sizeof(*stage->mirrors), compare_lengths);
    return LT_OK;
}

/*
 * What a mount needs to stand on: its directories, and itself if it isn't there; a file with its
 * text.
 */
static lt_rc make_target(const struct stage *stage, const struct ctl_mount *m, const char *target)
{
    char at[PATH_MAX];
    struct stat st;
    bool is_file = m->kind == CTL_MOUNT_FILE ||
                   (m->kind == CTL_MOUNT_BIND && stat(m->source, &st) == 0 && !S_ISDIR(st.st_mode));
    LT_TRY(join(stage, target, at));
    if (m->kind != CTL_MOUNT_FILE && stat(at, &st) == 0)
        return LT_OK;
    if (!is_file)
        return ctl_mkdirs(at, 0755, stage->err);
    char *slash = strrchr(at, '/');
    *slash = '\0';
    LT_TRY(ctl_mkdirs(at, 0755, stage->err));
    *slash = '/';
    return ctl_file_write(at, m->kind == CTL_MOUNT_FILE ? m->text : LT_STR(""), 0644, stage->err);
}

static lt_rc mount_one(const struct stage *stage, const struct ctl_mount *m, const char *target)
{
    char volume[PATH_MAX];
    const char *source = m->source;
    if (m->kind == CTL_MOUNT_FILE)
        return LT_OK; /* written already */
    if (m->kind == CTL_MOUNT_VOLUME) {
        int len = snprintf(volume, sizeof(volume), "%s/%s", stage->volumes, m->source);
        LT_ASSERT(len > 0 && len < PATH_MAX);
        source = volume;
    }
    LT_TRY(mount_at(stage, source, target, NULL, MS_BIND | MS_REC, NULL));
    return m->is_read_only ? set_read_only(stage, target, true) : LT_OK;
}

/* The host's part is closed for writing before anything that may be written comes in. */
static lt_rc build(struct stage *stage)
{
    LT_TRY(plan(stage));
    LT_TRY(mirror(stage, ""));
    for (size_t i = 0; i < stage->mirror_count; i++)
        LT_TRY(mirror(stage, stage->mirrors[i]));
    LT_TRY(make_own_dirs(stage));
    for (size_t i = 0; i < stage->count; i++) {
        if (!is_inside_own(stage->targets[i]) ||
            lt_str_find_char(lt_str_of(stage->targets[i] + 1), '/') < 0)
            LT_TRY(make_target(stage, &stage->mounts[i], stage->targets[i]));
    }
    LT_TRY(set_read_only(stage, "", true));
    LT_TRY(mount_own(stage));
    for (size_t i = 0; i < stage->count; i++) {
        if (is_inside_own(stage->targets[i]))
            LT_TRY(make_target(stage, &stage->mounts[i], stage->targets[i]));
        LT_TRY(mount_one(stage, &stage->mounts[i], stage->targets[i]));
    }
    return set_read_only(stage, "/run", false);
}

/*
 * pivot_root(".", "."): the old root ends up on top of the new one and is let go (pivot_root(2)).
 */
static lt_rc pivot(const struct stage *stage)
{
    if (chdir(stage->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return lt_err_errno(stage->err, "pivot_root to %s", stage->root);
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return lt_err_errno(stage->err, "leaving the host's root");
    return LT_OK;
}

lt_rc ctl_rootfs_enter(const char *stage_dir, const char *volumes, const struct ctl_mount *mounts,
                       size_t count, struct lt_err *err)
{
    LT_ASSERT(count <= CTL_MOUNTS_MAX);
    struct stage stage = {
        .root = stage_dir, .volumes = volumes, .mounts = mounts, .count = count, .err = err};
    stage.targets = lt_calloc(CTL_MOUNTS_MAX, PATH_MAX);
    umask(022);
    lt_rc rc = mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0
                   ? lt_err_errno(err, "making mounts private")
                   : build(&stage);
    if (rc == LT_OK)
        rc = pivot(&stage);
    for (size_t i = 0; i < stage.mirror_count; i++)
        free((void *)(uintptr_t)stage.mirrors[i]);
    free(stage.targets);
    return rc;
}
