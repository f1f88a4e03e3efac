/*
 * ctl/host_port.c - listening on the host for somebody inside.
 */
#include "ctl/host_port.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctl/proc.h"
#include "net/fd_pass.h"

enum {
    BACKLOG = 1024,
    TABLE_BYTES_MAX = 16 << 20,
    STATE_LISTEN = 0x0a,
    REQUEST_BYTES = 2,
    REPLY_BYTES_MAX = 1 + LT_ERR_TEXT_MAX,
    COMM_BYTES = 64,
    PARENTS_MAX = 16,
};

/* --- who holds a port --- */

/* The inode of a listening socket on this port in /proc/net/tcp or tcp6; 0 when there is none. */
static unsigned long find_listener(const char *table, uint16_t port)
{
    char *text = NULL;
    size_t len;
    unsigned long found = 0;
    if (ctl_file_read(table, TABLE_BYTES_MAX, &text, &len, NULL) != LT_OK)
        return 0;
    for (lt_str rest = lt_str_make(text, len), line;
         found == 0 && lt_str_split(&rest, '\n', &line);) {
        unsigned at, state;
        unsigned long inode;
        char row[512];
        snprintf(row, sizeof(row), "%.*s", LT_STR_ARG(line));
        if (sscanf(row, " %*d: %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*d %*d %lu", &at, &state,
                   &inode) == 3 &&
            at == port && state == STATE_LISTEN)
            found = inode;
    }
    free(text);
    return found;
}

static bool holds(const char *pid, const char *link)
{
    char path[300], to[64];
    snprintf(path, sizeof(path), "/proc/%s/fd", pid);
    DIR *dir = opendir(path);
    bool found = false;
    if (dir == NULL)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(dir)) != NULL;) {
        ssize_t len = readlinkat(dirfd(dir), entry->d_name, to, sizeof(to) - 1);
        found = len > 0 && (to[len] = '\0', strcmp(to, link) == 0);
    }
    closedir(dir);
    return found;
}

/* The name of a process and its parent; false: it has gone. */
static bool read_stat(unsigned long pid, char name[COMM_BYTES], unsigned long *ret_parent)
{
    char path[64], *text = NULL;
    size_t len;
    snprintf(path, sizeof(path), "/proc/%lu/stat", pid);
    if (ctl_file_read(path, 4096, &text, &len, NULL) != LT_OK)
        return false;
    const char *open = strchr(text, '('), *end = strrchr(text, ')');
    bool is_good = open != NULL && end != NULL && sscanf(end, ") %*c %lu", ret_parent) == 1;
    if (is_good)
        snprintf(name, COMM_BYTES, "%.*s", (int)(end - open - 1), open + 1);
    free(text);
    return is_good;
}

/* A process of some mesh hangs on a `lateen up DIR`, which a person knows better. */
static void describe_mesh(unsigned long pid, char *out, size_t size)
{
    char name[COMM_BYTES], path[64], *text = NULL;
    size_t len = 0;
    out[0] = '\0';
    for (int depth = 0; depth < PARENTS_MAX && pid > 1; depth++) {
        unsigned long parent = 0;
        if (!read_stat(pid, name, &parent))
            return;
        snprintf(path, sizeof(path), "/proc/%lu/cmdline", pid);
        pid = parent;
        if (strcmp(name, "lateen") != 0 || ctl_file_read(path, 8192, &text, &len, NULL) != LT_OK)
            continue;
        for (size_t i = 0; i + 1 < len; i++)
            text[i] = text[i] == '\0' ? ' ' : text[i];
        snprintf(out, size, ", of \"%.200s\"", text);
        free(text);
        return;
    }
}

static void describe_process(const char *pid, char *out, size_t size)
{
    char name[COMM_BYTES], mesh[256];
    unsigned long number = strtoul(pid, NULL, 10), parent;
    if (!read_stat(number, name, &parent))
        return;
    describe_mesh(number, mesh, sizeof(mesh));
    snprintf(out, size, "%s (pid %lu%s)", name, number, mesh);
}

static void describe_holder(uint16_t port, char *out, size_t size)
{
    unsigned long inode = find_listener("/proc/net/tcp", port);
    if (inode == 0)
        inode = find_listener("/proc/net/tcp6", port);
    char link[64];
    snprintf(link, sizeof(link), "socket:[%lu]", inode);
    snprintf(out, size, "a process that you may not see; `sudo ss -ltnp sport = %u` names it",
             port);
    DIR *dir = inode == 0 ? NULL : opendir("/proc");
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (!isdigit((unsigned char)entry->d_name[0]) || !holds(entry->d_name, link))
            continue;
        describe_process(entry->d_name, out, size);
        break;
    }
    closedir(dir);
}

/* What a person can do about a port that the system keeps for root. */
static lt_rc refuse_low_port(uint16_t port, struct lt_err *err)
{
    char *text = NULL;
    size_t len;
    int first = 1024;
    if (ctl_file_read("/proc/sys/net/ipv4/ip_unprivileged_port_start", 64, &text, &len, NULL) ==
        LT_OK)
        (void)sscanf(text, "%d", &first);
    free(text);
    return lt_err_set(err, LT_E_DENIED,
                      "nodePort %u: ports below %d are root's on this machine; name one from %d on "
                      "(30000 to 32767 in a cluster), or run lateen as root",
                      port, first, first);
}

lt_rc ctl_host_port_listen(uint16_t port, int *ret_fd, struct lt_err *err)
{
    const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return lt_err_errno(err, "nodePort %u", port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&any, sizeof(any)) == 0 && listen(fd, BACKLOG) == 0) {
        *ret_fd = fd;
        return LT_OK;
    }
    lt_rc rc;
    if (errno == EADDRINUSE) {
        char holder[400];
        describe_holder(port, holder, sizeof(holder));
        rc = lt_err_set(err, LT_E_EXISTS, "nodePort %u is taken on this machine by %s", port,
                        holder);
    } else if (errno == EACCES) {
        rc = refuse_low_port(port, err);
    } else {
        rc = lt_err_errno(err, "nodePort %u", port);
    }
    close(fd);
    return rc;
}

/* --- the two ends --- */

/*
 * Request: the port, two bytes. Reply: one byte (an lt_rc), then text when it isn't LT_OK, else the
 * descriptor.
 */

lt_rc ctl_host_port_serve(int sock)
{
    uint8_t request[REQUEST_BYTES];
    struct lt_err err = {0};
    size_t len;
    int fd = -1;
    LT_TRY(lt_fd_receive(sock, request, sizeof(request), &len, &fd));
    if (fd >= 0)
        close(fd);
    if (len != sizeof(request))
        return LT_E_BAD;
    fd = -1;
    char reply[REPLY_BYTES_MAX];
    reply[0] = (char)ctl_host_port_listen((uint16_t)(request[0] << 8 | request[1]), &fd, &err);
    snprintf(reply + 1, sizeof(reply) - 1, "%s", err.text);
    lt_rc rc = lt_fd_send(sock, lt_str_make(reply, 1 + strlen(reply + 1)), fd);
    if (fd >= 0)
        close(fd);
    return rc;
}

lt_rc ctl_host_port_ask(int sock, uint16_t port, int *ret_fd, struct lt_err *err)
{
    const uint8_t request[REQUEST_BYTES] = {(uint8_t)(port >> 8), (uint8_t)port};
    char reply[REPLY_BYTES_MAX];
    size_t len = 0;
    int fd = -1;
    lt_rc rc = lt_fd_send(sock, lt_str_make(request, sizeof(request)), -1);
    if (rc == LT_OK)
        rc = lt_fd_receive(sock, reply, sizeof(reply) - 1, &len, &fd);
    if (rc != LT_OK)
        return lt_err_set(err, LT_E_CLOSED, "nodePort %u: the supervisor does not answer", port);
    reply[len] = '\0';
    if (reply[0] != LT_OK)
        return lt_err_set(err, (lt_rc)reply[0], "%s", reply + 1);
    *ret_fd = fd;
    return LT_OK;
}
