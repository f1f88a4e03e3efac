/*
 * ctl/state.c - state directories.
 */
#include "ctl/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/proc.h"

enum { LOCK_POLL_MS = 10, LOCK_WAIT_MS = 10000 };

/*
 * Directories that containers get a /run or /tmp of their own over, so that no workload sees a
 * state directory.
 */
static lt_rc find_base(char out[PATH_MAX], struct lt_err *err)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    struct stat st;
    if (geteuid() == 0)
        snprintf(out, PATH_MAX, "/run/lateen");
    else if (runtime != NULL && strncmp(runtime, "/run/", 5) == 0)
        snprintf(out, PATH_MAX, "%s/lateen", runtime);
    else
        snprintf(out, PATH_MAX, "/tmp/lateen-%u", geteuid());
    LT_TRY(ctl_mkdirs(out, 0700, err));
    /* in /tmp somebody else could have been first */
    if (lstat(out, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
        (st.st_mode & 077) != 0)
        return lt_err_set(err, LT_E_DENIED, "%s: expected a directory of yours with mode 0700",
                          out);
    return LT_OK;
}

const char *ctl_state_path(const struct ctl_state *state, const char *name, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s", state->path, name);
    return out;
}

static lt_rc locate(const char *manifests, struct ctl_state *state, struct lt_err *err)
{
    char base[PATH_MAX], real[PATH_MAX];
    *state = (struct ctl_state){.lock_fd = -1};
    LT_TRY(find_base(base, err));
    if (realpath(manifests, real) == NULL)
        return lt_err_errno(err, "%s", manifests);
    uint64_t id = lt_hash64(real, strlen(real), 0);
    if (snprintf(state->path, sizeof(state->path), "%s/%012llx", base,
                 (unsigned long long)(id >> 16)) >= (int)sizeof(state->path) ||
        snprintf(state->dir, sizeof(state->dir), "%s", real) >= (int)sizeof(state->dir))
        return lt_err_set(err, LT_E_LIMIT, "%s: path too long", real);
    return LT_OK;
}

/* The lock file lives outside of what is cleared, or two could hold "the" lock. */
static const char *lock_path(const struct ctl_state *state, char out[PATH_MAX])
{
    int len = snprintf(out, PATH_MAX, "%s.lock", state->path);
    LT_ASSERT(len > 0 && len < PATH_MAX);
    return out;
}

/*
 * `lateen up` writes its pid into the lock, and all that it starts keeps the lock to the last
 * process. Held without a pid that lives, it is given back soon: a mesh was killed, or what one
 * left is being cleared.
 */
static bool is_owned(int lock_fd)
{
    char text[24] = "";
    uint64_t pid = 0;
    ssize_t len = pread(lock_fd, text, sizeof(text) - 1, 0);
    return len > 0 && lt_str_to_u64(lt_str_make(text, (size_t)len), &pid) == LT_OK && pid > 0 &&
           pid < INT32_MAX && (kill((pid_t)pid, 0) == 0 || errno != ESRCH);
}

static lt_rc own_lock(const struct ctl_state *state, struct lt_err *err)
{
    char text[24];
    int len = snprintf(text, sizeof(text), "%d", getpid());
    if (ftruncate(state->lock_fd, 0) < 0 || pwrite(state->lock_fd, text, (size_t)len, 0) != len)
        return lt_err_errno(err, "%s.lock", state->path);
    return LT_OK;
}

/*
 * LT_AGAIN: look once more. Who releases it removes the file, too: a lock on a file that has gone
 * is none.
 */
static lt_rc try_lock(struct ctl_state *state, struct lt_err *err)
{
    char path[PATH_MAX];
    struct stat mine, there;
    int fd = open(lock_path(state, path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return lt_err_errno(err, "%s", path);
    lt_rc rc = LT_OK;
    struct flock whole = {.l_type = F_WRLCK};
    if (fcntl(fd, F_OFD_SETLK, &whole) < 0)
        rc = is_owned(fd) ? LT_E_EXISTS : LT_AGAIN;
    else if (fstat(fd, &mine) < 0 || stat(path, &there) < 0 || mine.st_ino != there.st_ino)
        rc = LT_AGAIN;
    if (rc == LT_OK)
        state->lock_fd = fd;
    else
        close(fd);
    return rc;
}

/* LT_E_EXISTS: a mesh runs. Who will give it back soon is waited for, at most wait_ms. */
static lt_rc take_lock(struct ctl_state *state, unsigned wait_ms, struct lt_err *err)
{
    lt_rc rc = LT_AGAIN;
    for (unsigned waited = 0; (rc = try_lock(state, err)) == LT_AGAIN && waited <= wait_ms;
         waited += LOCK_POLL_MS)
        usleep(LOCK_POLL_MS * 1000);
    if (rc != LT_AGAIN && rc != LT_E_EXISTS)
        return rc;
    return lt_err_set(err, LT_E_EXISTS, "a mesh of %s runs already; `lateen down %s` ends it",
                      state->dir, state->dir);
}

lt_rc ctl_state_claim(const char *manifests, struct ctl_state *ret_state, struct lt_err *err)
{
    static const char *const parts[] = {"logs", "live", "istiod", "stage"};
    struct ctl_state state;
    char path[PATH_MAX];
    LT_TRY(locate(manifests, &state, err));
    LT_TRY(take_lock(&state, LOCK_WAIT_MS, err));
    ctl_remove_tree(state.path);
    lt_rc rc = own_lock(&state, err);
    for (size_t i = 0; rc == LT_OK && i < LT_ARRAY_LEN(parts); i++)
        rc = ctl_mkdirs(ctl_state_path(&state, parts[i], path), 0700, err);
    if (rc == LT_OK)
        rc = ctl_file_write(ctl_state_path(&state, "dir", path), lt_str_of(state.dir), 0600, err);
    if (rc != LT_OK) {
        ctl_state_release(&state);
        return rc;
    }
    *ret_state = state;
    return LT_OK;
}

void ctl_state_release(struct ctl_state *state)
{
    char path[PATH_MAX];
    ctl_remove_tree(state->path);
    unlink(lock_path(state, path));
    if (state->lock_fd >= 0)
        close(state->lock_fd);
    state->lock_fd = -1;
}

lt_rc ctl_state_find(const char *manifests, struct ctl_state *ret_state, struct lt_err *err)
{
    struct ctl_state state;
    LT_TRY(locate(manifests, &state, err));
    if (access(state.path, F_OK) < 0)
        return lt_err_set(err, LT_E_NOT_FOUND, "no mesh of %s runs", state.dir);
    *ret_state = state;
    return LT_OK;
}

bool ctl_state_is_running(const struct ctl_state *state)
{
    char path[PATH_MAX];
    int fd = open(lock_path(state, path), O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return false;
    struct flock whole = {.l_type = F_WRLCK}; /* asking takes nothing, even for a moment */
    bool is_held = fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
    bool is_running = is_held && is_owned(fd);
    close(fd);
    return is_running;
}

/* Calls visit for each state directory of this user, until it says false. */
static void each_state(bool (*visit)(void *ctx, struct ctl_state *state), void *ctx)
{
    char base[PATH_MAX];
    DIR *dir = find_base(base, NULL) == LT_OK ? opendir(base) : NULL;
    if (dir == NULL)
        return;
    bool goes_on = true;
    for (struct dirent *entry; goes_on && (entry = readdir(dir)) != NULL;) {
        struct ctl_state state = {.lock_fd = -1};
        char path[PATH_MAX], *text = NULL;
        size_t len;
        if (strchr(entry->d_name, '.') != NULL ||
            snprintf(state.path, sizeof(state.path), "%s/%s", base, entry->d_name) >=
                (int)sizeof(state.path))
            continue;
        if (ctl_file_read(ctl_state_path(&state, "dir", path), sizeof(state.dir) - 1, &text, &len,
                          NULL) == LT_OK)
            snprintf(state.dir, sizeof(state.dir), "%s", text);
        free(text);
        goes_on = visit(ctx, &state);
    }
    closedir(dir);
}

static bool clear_if_dead(void *ctx, struct ctl_state *state)
{
    unsigned *count = ctx;
    if (take_lock(state, 0, NULL) == LT_OK) {
        ctl_state_release(state);
        ++*count;
    }
    return true;
}

lt_rc ctl_state_clear(struct ctl_state *state, struct lt_err *err)
{
    LT_TRY(take_lock(state, LOCK_WAIT_MS, err));
    ctl_state_release(state);
    return LT_OK;
}

unsigned ctl_state_clear_dead(void)
{
    unsigned count = 0;
    each_state(clear_if_dead, &count);
    return count;
}

/* The running meshes of this user. */
struct running {
    struct ctl_state states[64];
    size_t count;
};

static bool add_running(void *ctx, struct ctl_state *state)
{
    struct running *running = ctx;
    if (state->dir[0] != '\0' && ctl_state_is_running(state))
        running->states[running->count++] = *state;
    return running->count < LT_ARRAY_LEN(running->states);
}

static bool is_at_or_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static lt_rc refuse_choice(const struct running *running, struct lt_err *err)
{
    if (running->count == 0)
        return lt_err_set(err, LT_E_NOT_FOUND, "no mesh runs; `lateen up DIR` starts one");
    lt_rc rc = lt_err_set(err, LT_E_BAD, "several meshes run; say which with --mesh DIR:");
    for (size_t i = running->count; i-- > 0;) {
        size_t len = strlen(err->text);
        snprintf(err->text + len, sizeof(err->text) - len, "\n    %s", running->states[i].dir);
    }
    return rc;
}

lt_rc ctl_state_find_running(const char *manifests, struct ctl_state *ret_state, struct lt_err *err)
{
    if (manifests != NULL) {
        LT_TRY(ctl_state_find(manifests, ret_state, err));
        if (!ctl_state_is_running(ret_state))
            return lt_err_set(err, LT_E_NOT_FOUND, "no mesh of %s runs", ret_state->dir);
        return LT_OK;
    }
    struct running *running = lt_new(struct running);
    char here[PATH_MAX];
    const struct ctl_state *found = NULL;
    running->count = 0;
    each_state(add_running, running);
    if (running->count == 1)
        found = &running->states[0];
    for (size_t i = 0; found == NULL && getcwd(here, sizeof(here)) != NULL && i < running->count;
         i++) {
        if (is_at_or_below(here, running->states[i].dir))
            found = &running->states[i];
    }
    lt_rc rc = LT_OK;
    if (found != NULL)
        *ret_state = *found;
    else
        rc = refuse_choice(running, err);
    free(running);
    return rc;
}
