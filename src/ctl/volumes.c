/*
 * ctl/volumes.c - mounts in the node's namespace, from which containers have theirs.
 */
#include "ctl/volumes.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/proc.h"

/* Calls fn for each; stops at the first that fails. */
static lt_rc each(const char *dir, const struct ctl_pod_plan *plan,
                  lt_rc (*fn)(const char *dir, const struct ctl_mount *mount, struct lt_err *err),
                  struct lt_err *err)
{
    for (size_t i = 0; i < plan->container_count; i++) {
        for (size_t k = 0; k < plan->containers[i].mount_count; k++) {
            const struct ctl_mount *mount = &plan->containers[i].mounts[k];
            if (mount->kind == CTL_MOUNT_VOLUME)
                LT_TRY(fn(dir, mount, err));
        }
    }
    return LT_OK;
}

/* The tmpfs that a mount's directory is in. */
static const char *tmpfs_of(const char *dir, const struct ctl_mount *mount, char out[PATH_MAX])
{
    lt_str rest = lt_str_of(mount->source), first;
    (void)lt_str_split(&rest, '/', &first);
    int len = snprintf(out, PATH_MAX, "%s/%.*s", dir, LT_STR_ARG(first));
    LT_ASSERT(len > 0 && len < PATH_MAX);
    return out;
}

static lt_rc write_files(const char *dir, const struct ctl_mount *volume, struct lt_err *err)
{
    for (size_t i = 0; i < volume->file_count; i++) {
        char path[PATH_MAX];
        int len = snprintf(path, sizeof(path), "%s/%s", dir, volume->files[i].path);
        if (len <= 0 || len >= PATH_MAX)
            return lt_err_set(err, LT_E_LIMIT, "%s: path too long", volume->files[i].path);
        char *slash = strrchr(path, '/');
        *slash = '\0';
        LT_TRY(ctl_mkdirs(path, 0755, err));
        *slash = '/';
        LT_TRY(ctl_file_write(path, volume->files[i].text, 0644, err));
    }
    return LT_OK;
}

static lt_rc make(const char *dir, const struct ctl_mount *volume, struct lt_err *err)
{
    char path[PATH_MAX];
    struct stat st;
    if (stat(tmpfs_of(dir, volume, path), &st) < 0) {
        LT_TRY(ctl_mkdirs(path, 0755, err));
        /* an application may fill its own, and nobody else's */
        bool is_empty_dir = lt_str_starts(lt_str_of(volume->source), LT_STR(CTL_EMPTY_DIRS "/"));
        if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV,
                  is_empty_dir ? "mode=755,size=50%" : "mode=755,size=64m") < 0)
            return lt_err_errno(err, "mounting a volume");
    }
    int len = snprintf(path, sizeof(path), "%s/%s", dir, volume->source);
    LT_ASSERT(len > 0 && len < PATH_MAX);
    if (stat(path, &st) == 0)
        return LT_OK; /* of another container, too */
    LT_TRY(ctl_mkdirs(path, 0755, err));
    if (chown(path, volume->uid, volume->gid) < 0 || chmod(path, volume->mode) < 0)
        return lt_err_errno(err, "a volume");
    return write_files(path, volume, err);
}

static lt_rc take_down(const char *dir, const struct ctl_mount *volume,
                       struct lt_err *err LT_UNUSED)
{
    char path[PATH_MAX];
    /* the second of two mounts of one tmpfs finds nothing any more */
    (void)umount2(tmpfs_of(dir, volume, path), MNT_DETACH);
    (void)rmdir(path);
    return LT_OK;
}

lt_rc ctl_volumes_make(const char *dir, const struct ctl_pod_plan *plan, struct lt_err *err)
{
    return each(dir, plan, make, err);
}

void ctl_volumes_remove(const char *dir, const struct ctl_pod_plan *plan)
{
    (void)each(dir, plan, take_down, NULL);
    (void)rmdir(dir);
}
