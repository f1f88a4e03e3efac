/*
 * base/file.c - small files.
 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static lt_rc read_all(int fd, struct lt_arena *arena, size_t size_hint, size_t bytes_max,
                      lt_str *ret_text)
{
    size_t cap = LT_MIN(size_hint, bytes_max) + 1, len = 0;
    char *text = lt_arena_bytes(arena, cap);
    for (;;) {
        ssize_t got = read(fd, text + len, cap - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return LT_E_IO;
        if (got == 0)
            break;
        len += (size_t)got;
        if (len < cap)
            continue;
        if (cap > bytes_max)
            return LT_E_LIMIT;
        /* it grew, or it is a file of /proc, which has no size */
        char *larger = lt_arena_bytes(arena, cap * 2 + 4096);
        memcpy(larger, text, len);
        explicit_bzero(text, len);
        text = larger;
        cap = cap * 2 + 4096;
    }
    text[len] = '\0';
    *ret_text = lt_str_make(text, len);
    return LT_OK;
}

lt_rc lt_file_read(struct lt_arena *arena, const char *path, lt_str *ret_text, struct lt_err *err)
{
    return lt_file_read_max(arena, path, LT_FILE_BYTES_MAX, ret_text, err);
}

lt_rc lt_file_read_max(struct lt_arena *arena, const char *path, size_t bytes_max, lt_str *ret_text,
                       struct lt_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return lt_err_set(err, LT_E_NOT_FOUND, "%s does not exist", path);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) {
        lt_rc rc = lt_err_errno(err, "cannot open %s", path);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    lt_rc rc = S_ISDIR(info.st_mode)
                   ? LT_E_IO
                   : read_all(fd, arena, (size_t)LT_MAX(info.st_size, 0), bytes_max, ret_text);
    close(fd);
    return rc == LT_OK ? LT_OK : lt_err_set(err, rc, "cannot read %s: %s", path, lt_rc_name(rc));
}

lt_rc lt_file_make_parents(const char *path, struct lt_err *err)
{
    char part[PATH_MAX];
    if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
        return lt_err_set(err, LT_E_LIMIT, "path too long: %s", path);
    for (char *slash = strchr(part + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return lt_err_errno(err, "cannot make %s", part);
        *slash = '/';
    }
    return LT_OK;
}

lt_rc lt_fd_write_all(int fd, lt_str text)
{
    while (text.len > 0) {
        ssize_t put = write(fd, text.ptr, text.len);
        if (put < 0 && errno != EINTR)
            return LT_E_IO;
        text = lt_str_from(text, put > 0 ? (size_t)put : 0);
    }
    return LT_OK;
}

lt_rc lt_file_write(const char *path, lt_str text, unsigned mode, struct lt_err *err)
{
    char fresh[PATH_MAX];
    LT_TRY(lt_file_make_parents(path, err));
    if (snprintf(fresh, sizeof(fresh), "%s.new", path) >= (int)sizeof(fresh))
        return lt_err_set(err, LT_E_LIMIT, "path too long: %s", path);
    (void)unlink(fresh);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return lt_err_errno(err, "cannot write %s", fresh);
    lt_rc rc = lt_fd_write_all(fd, text);
    close(fd);
    if (rc != LT_OK || rename(fresh, path) != 0) {
        rc = lt_err_errno(err, "cannot write %s", path);
        (void)unlink(fresh);
    }
    return rc;
}

uint64_t lt_file_stamp(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return 0;
    const int64_t parts[] = {(int64_t)info.st_dev, (int64_t)info.st_ino, (int64_t)info.st_size,
                             info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
    uint64_t stamp = lt_hash64(parts, sizeof(parts), 0);
    return stamp != 0 ? stamp : 1;
}
