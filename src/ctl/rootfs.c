/*
 * ctl/rootfs.c - building a container's root.
 *
 *   <stage>           tmpfs, the new root: one bind for each entry of the host's "/", read-only with all below
 *   <stage>/proc ...  fresh ones
 *   <stage>/etc       overlay: <stage>/.lateen/over/N in front of the host's directory, wherever a mount's target is missing
 *
 * Start at: ctl_rootfs_enter().
 */
#include "ctl/rootfs.h"

#include <dirent.h>
#include <errno.h>
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
    const struct ctl_mount *mounts;
    size_t count;
    char (*targets)[PATH_MAX]; /* owned; of each mount, without the host's symlinks */
    struct overlay {
        char under[PATH_MAX]; /* the host's directory */
        char front[PATH_MAX]; /* ours, laid over it */
    } overlays[CTL_MOUNTS_MAX];
    size_t overlay_count;
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

static lt_rc mount_at(const struct stage *stage, const char *source, const char *path, const char *type,
                      unsigned long flags, const char *options)
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
    if (syscall(SYS_mount_setattr, AT_FDCWD, at, is_recursive ? AT_RECURSIVE : 0, &attr, sizeof(attr)) < 0)
        return lt_err_errno(stage->err, "making %s read-only", path);
    return LT_OK;
}

static lt_rc bind_read_only(const struct stage *stage, const char *source, const char *path)
{
    LT_TRY(mount_at(stage, source, path, NULL, MS_BIND | MS_REC, NULL));
    return set_read_only(stage, path, true);
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

/* --- the host's top level --- */

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

static bool is_own_dir(const char *name)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(own_dirs); i++) {
        if (strcmp(own_dirs[i], name) == 0)
            return true;
    }
    return false;
}

static lt_rc take_entry(const struct stage *stage, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof(path), "/%s", name);
    if (lstat(path, &st) < 0)
        return LT_OK; /* gone meanwhile */
    if (S_ISLNK(st.st_mode))
        return copy_link(stage, path);
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return LT_OK;
    LT_TRY(S_ISDIR(st.st_mode) ? make_dir(stage, path) : make_file(stage, path));
    return bind_read_only(stage, path, path);
}

static lt_rc take_host(const struct stage *stage)
{
    DIR *dir = opendir("/");
    if (dir == NULL)
        return lt_err_errno(stage->err, "/");
    lt_rc rc = LT_OK;
    for (struct dirent *entry; rc == LT_OK && (entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && !is_own_dir(entry->d_name))
            rc = take_entry(stage, entry->d_name);
    }
    closedir(dir);
    return rc;
}

/* --- what is the container's own --- */

static lt_rc make_dev(const struct stage *stage)
{
    static const char *const nodes[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"};
    static const char *const links[][2] = {
        {"/dev/fd", "/proc/self/fd"},        {"/dev/stdin", "/proc/self/fd/0"}, {"/dev/stdout", "/proc/self/fd/1"},
        {"/dev/stderr", "/proc/self/fd/2"}, {"/dev/ptmx", "pts/ptmx"},
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
    LT_TRY(mount_at(stage, "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620"));
    LT_TRY(make_dir(stage, "/dev/shm"));
    return mount_at(stage, "tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=64m");
}

static lt_rc make_own(const struct stage *stage)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(own_dirs); i++) {
        char path[16];
        snprintf(path, sizeof(path), "/%s", own_dirs[i]);
        LT_TRY(make_dir(stage, path));
    }
    LT_TRY(mount_at(stage, "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    LT_TRY(mount_at(stage, "sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL));
    LT_TRY(mount_at(stage, "tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=16m"));
    LT_TRY(mount_at(stage, "tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=50%"));
    return make_dev(stage);
}

/* --- the pod's mounts --- */

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

static lt_rc add_overlay(struct stage *stage, const char *under, size_t len, struct overlay **ret)
{
    for (size_t i = 0; i < stage->overlay_count; i++) {
        if (strlen(stage->overlays[i].under) == len && memcmp(stage->overlays[i].under, under, len) == 0) {
            *ret = &stage->overlays[i];
            return LT_OK;
        }
    }
    struct overlay *overlay = &stage->overlays[stage->overlay_count];
    snprintf(overlay->under, sizeof(overlay->under), "%.*s", (int)len, under);
    if (strpbrk(overlay->under, ":,\\") != NULL)
        return lt_err_set(stage->err, LT_E_BAD, "cannot mount below %s: ':', ',' and '\\' are not possible in its path",
                          overlay->under);
    int n = snprintf(overlay->front, sizeof(overlay->front), "%s/.lateen/over/%zu", stage->root, stage->overlay_count);
    if (n >= PATH_MAX)
        return lt_err_set(stage->err, LT_E_LIMIT, "%s: path too long", stage->root);
    stage->overlay_count++;
    *ret = overlay;
    return ctl_mkdirs(overlay->front, 0755, stage->err);
}

/* The directories of `path` below front, the last one too unless it is a file, which is made with its text. */
static lt_rc fill_front(struct stage *stage, const char *front, const char *path, const struct ctl_mount *m)
{
    char at[PATH_MAX];
    struct stat st;
    bool is_file = m->kind == CTL_MOUNT_FILE ||
                   (m->kind == CTL_MOUNT_BIND && stat(m->source, &st) == 0 && !S_ISDIR(st.st_mode));
    if (snprintf(at, sizeof(at), "%s%s", front, path) >= (int)sizeof(at))
        return lt_err_set(stage->err, LT_E_LIMIT, "%s: path too long", path);
    if (!is_file)
        return ctl_mkdirs(at, 0755, stage->err);
    char *slash = strrchr(at, '/');
    *slash = '\0';
    LT_TRY(ctl_mkdirs(at, 0755, stage->err));
    *slash = '/';
    return ctl_file_write(at, m->kind == CTL_MOUNT_FILE ? m->text : LT_STR(""), 0644, stage->err);
}

static lt_rc check_target(const struct stage *stage, const char *target)
{
    lt_str path = lt_str_of(target), part;
    bool is_good = path.len > 1 && path.len < PATH_MAX / 2 && path.ptr[0] == '/' && path.ptr[path.len - 1] != '/';
    for (lt_str rest = lt_str_from(path, 1); is_good && lt_str_split(&rest, '/', &part);)
        is_good = part.len > 0 && !lt_str_eqz(part, ".") && !lt_str_eqz(part, "..");
    if (!is_good)
        return lt_err_set(stage->err, LT_E_BAD, "mount path \"%s\": expected an absolute path without \".\" and \"..\"", target);
    return LT_OK;
}

/* /var/run/x becomes /run/x where the one is a link to the other: a link would lead out of the stage. */
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

/* First all that is missing goes into the overlays, then these are mounted: an overlay cannot be changed from below later. */
static lt_rc plan_overlays(struct stage *stage)
{
    for (size_t i = 0; i < stage->count; i++) {
        const struct ctl_mount *m = &stage->mounts[i];
        struct overlay *overlay = NULL;
        struct stat st;
        char *target = stage->targets[i];
        LT_TRY(resolve_target(stage, m->target, target));
        if (is_inside_own(target) || (m->kind != CTL_MOUNT_FILE && lstat(target, &st) == 0 && S_ISDIR(st.st_mode)))
            continue;
        size_t len;
        find_existing(target, &len);
        if (len == 0)
            continue; /* the top level is a tmpfs: simply made there */
        LT_TRY(add_overlay(stage, target, len, &overlay));
        LT_TRY(fill_front(stage, overlay->front, target + len, m));
    }
    return LT_OK;
}

static lt_rc mount_overlays(const struct stage *stage)
{
    for (size_t i = 0; i < stage->overlay_count; i++) {
        char options[2 * PATH_MAX + 32];
        const struct overlay *overlay = &stage->overlays[i];
        snprintf(options, sizeof(options), "lowerdir=%s:%s", overlay->front, overlay->under);
        LT_TRY(mount_at(stage, "overlay", overlay->under, "overlay", MS_RDONLY, options));
    }
    return LT_OK;
}

static lt_rc mount_one(struct stage *stage, const struct ctl_mount *m, const char *target)
{
    char at[PATH_MAX], options[96];
    struct stat st;
    LT_TRY(join(stage, target, at));
    bool is_missing = stat(at, &st) < 0;
    if (is_missing)
        LT_TRY(fill_front(stage, stage->root, target, m));
    switch (m->kind) {
    case CTL_MOUNT_FILE:
        return LT_OK; /* its text is in the overlay, or was just written */
    case CTL_MOUNT_TMPFS:
        snprintf(options, sizeof(options), "mode=755,uid=%u,gid=%u,size=64m", m->uid, m->gid);
        return mount_at(stage, "tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, options);
    case CTL_MOUNT_BIND:
        if (m->is_read_only)
            return bind_read_only(stage, m->source, target);
        return mount_at(stage, m->source, target, NULL, MS_BIND | MS_REC, NULL);
    }
    LT_UNREACHABLE();
}

static lt_rc mount_all(struct stage *stage)
{
    LT_TRY(plan_overlays(stage));
    LT_TRY(mount_overlays(stage));
    for (size_t i = 0; i < stage->count; i++)
        LT_TRY(mount_one(stage, &stage->mounts[i], stage->targets[i]));
    return LT_OK;
}

/* pivot_root(".", "."): the old root ends up on top of the new one and is let go (pivot_root(2)). */
static lt_rc pivot(const struct stage *stage)
{
    if (chdir(stage->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return lt_err_errno(stage->err, "pivot_root to %s", stage->root);
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return lt_err_errno(stage->err, "leaving the host's root");
    const struct stage here = {.root = "", .err = stage->err};
    LT_TRY(set_read_only(&here, "/", false));
    return set_read_only(&here, "/run", false);
}

lt_rc ctl_rootfs_enter(const char *stage_dir, const struct ctl_mount *mounts, size_t count, struct lt_err *err)
{
    LT_ASSERT(count <= CTL_MOUNTS_MAX);
    struct stage *stage = lt_new(struct stage);
    *stage = (struct stage){.root = stage_dir, .mounts = mounts, .count = count, .err = err};
    stage->targets = lt_calloc(CTL_MOUNTS_MAX, PATH_MAX);
    umask(022);
    lt_rc rc = LT_E_IO;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        rc = lt_err_errno(err, "making mounts private");
    else
        rc = mount_at(stage, "tmpfs", "", "tmpfs", 0, "mode=755,size=16m");
    if (rc == LT_OK)
        rc = take_host(stage);
    if (rc == LT_OK)
        rc = make_own(stage);
    if (rc == LT_OK)
        rc = mount_all(stage);
    if (rc == LT_OK)
        rc = pivot(stage);
    free(stage->targets);
    free(stage);
    return rc;
}
