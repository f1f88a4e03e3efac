/*
 * proxy/run/pressure.c - limits, measuring, and what follows from it.
 * Start at: px_pressure_measure().
 */
#include "proxy/run/pressure.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, CGROUP_BYTES = 8192 };

/* Of the ceiling, in percent. */
static const uint8_t begins[PX_ACTS] = {
    [PX_ACT_SHRINK] = 70, [PX_ACT_NO_KEEPALIVE] = 75,       [PX_ACT_REFUSE_REQUESTS] = 80,
    [PX_ACT_SHED] = 85,   [PX_ACT_REJECT_CONNECTIONS] = 90, [PX_ACT_PAUSE_CONNECTIONS] = 0,
};

/* Envoy's names, where it has one. */
const char *px_act_name(px_act act)
{
    static const char *const names[PX_ACTS] = {
        [PX_ACT_SHRINK] = "envoy.overload_actions.shrink_heap",
        [PX_ACT_NO_KEEPALIVE] = "envoy.overload_actions.disable_http_keepalive",
        [PX_ACT_REFUSE_REQUESTS] = "envoy.overload_actions.stop_accepting_requests",
        [PX_ACT_SHED] = "envoy.overload_actions.reset_high_memory_stream",
        [PX_ACT_REJECT_CONNECTIONS] = "envoy.overload_actions.reject_incoming_connections",
        [PX_ACT_PAUSE_CONNECTIONS] = "envoy.overload_actions.stop_accepting_connections",
    };
    return names[act];
}

void px_pressure_conf_init(struct px_pressure_conf *conf)
{
    *conf = (struct px_pressure_conf){0};
    for (int act = 0; act < PX_ACTS; act++)
        conf->at_bytes[act] = UINT64_MAX;
}

void px_pressure_conf_limit(struct px_pressure_conf *conf, uint64_t limit_bytes)
{
    conf->limit_bytes = limit_bytes;
    for (int act = 0; act < PX_ACTS && limit_bytes > 0; act++) {
        if (begins[act] > 0)
            conf->at_bytes[act] = LT_MIN(conf->at_bytes[act], limit_bytes / 100 * begins[act]);
    }
}

bool px_pressure_conf_is_on(const struct px_pressure_conf *conf)
{
    for (int act = 0; act < PX_ACTS; act++) {
        if (conf->at_bytes[act] != UINT64_MAX)
            return true;
    }
    return false;
}

uint32_t px_pressure_acts(const struct px_pressure_conf *conf, uint64_t used_bytes)
{
    uint32_t acts = 0;
    for (int act = 0; act < PX_ACTS; act++)
        acts |= (uint32_t)(used_bytes >= conf->at_bytes[act]) << act;
    return acts;
}

lt_rc px_pressure_parse(lt_str text, uint64_t *ret_bytes)
{
    static const struct {
        const char *suffix;
        uint64_t factor;
    } units[] = {{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30},   {"k", 1000},
                 {"K", 1000},     {"M", 1000000},  {"G", 1000000000}, {"", 1}};
    for (size_t i = 0; i < LT_ARRAY_LEN(units); i++) {
        lt_str suffix = lt_str_of(units[i].suffix);
        uint64_t number = 0;
        if (text.len <= suffix.len ||
            !lt_str_eq(lt_str_from(text, text.len - suffix.len), suffix) ||
            lt_str_to_u64(lt_str_slice(text, 0, text.len - suffix.len), &number) != LT_OK)
            continue;
        return __builtin_mul_overflow(number, units[i].factor, ret_bytes) ? LT_E_LIMIT : LT_OK;
    }
    return LT_E_BAD;
}

/* --- control groups --- */

static size_t read_file(const char *path, char *out, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, out, room - 1) : 0;
    if (fd >= 0)
        close(fd);
    out[LT_MAX(got, 0)] = '\0';
    return (size_t)LT_MAX(got, 0);
}

/* UINT64_MAX: "max", a number that means none, or no such file. */
static uint64_t read_limit(const char *path)
{
    char text[64];
    uint64_t limit = 0;
    size_t len = read_file(path, text, sizeof(text));
    if (lt_str_to_u64(lt_str_trim(lt_str_make(text, len)), &limit) != LT_OK || limit >> 60 != 0)
        return UINT64_MAX;
    return limit;
}

/* The least of a group's own limit and those above it. */
static uint64_t least_of(const char *root, const char *mount, lt_str group, const char *file)
{
    uint64_t least = UINT64_MAX;
    char path[PATH_BYTES];
    for (;;) {
        snprintf(path, sizeof(path), "%s%s%.*s/%s", root, mount, LT_STR_ARG(group), file);
        least = LT_MIN(least, read_limit(path));
        ptrdiff_t slash = lt_str_rfind_char(group, '/');
        if (slash < 0)
            return least;
        group = lt_str_slice(group, 0, (size_t)slash);
    }
}

static bool names_memory(lt_str controllers)
{
    lt_str one;
    while (lt_str_split(&controllers, ',', &one)) {
        if (lt_str_eqz(one, "memory"))
            return true;
    }
    return false;
}

uint64_t px_pressure_cgroup_limit(const char *root)
{
    char path[PATH_BYTES], text[CGROUP_BYTES];
    uint64_t least = UINT64_MAX;
    snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    lt_str rest = lt_str_make(text, read_file(path, text, sizeof(text))), line, part;
    while (lt_str_split(&rest, '\n', &line)) {
        lt_str controllers = LT_STR_NULL;
        if (!lt_str_split(&line, ':', &part) || !lt_str_split(&line, ':', &controllers))
            continue;
        lt_str group = lt_str_eqz(line, "/") ? LT_STR_NULL : line;
        if (controllers.len == 0)
            least = LT_MIN(least, least_of(root, "/sys/fs/cgroup", group, "memory.max"));
        else if (names_memory(controllers))
            least = LT_MIN(least,
                           least_of(root, "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"));
    }
    return least == UINT64_MAX ? 0 : least;
}

/* --- measuring --- */

void px_pressure_init(struct px_pressure *pressure, const struct px_pressure_conf *conf)
{
    pressure->conf = *conf;
    pressure->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    pressure->statm_fd = px_pressure_conf_is_on(conf)
                             ? open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
                             : -1;
    atomic_store(&pressure->acts, 0);
    atomic_store(&pressure->used_bytes, 0);
}

void px_pressure_fini(struct px_pressure *pressure)
{
    if (pressure->statm_fd >= 0)
        close(pressure->statm_fd);
    pressure->statm_fd = -1;
}

uint32_t px_pressure_measure(struct px_pressure *pressure)
{
    char text[128];
    lt_str size, resident;
    uint64_t pages = 0;
    if (pressure->statm_fd < 0)
        return 0;
    ssize_t got = pread(pressure->statm_fd, text, sizeof(text), 0);
    lt_str rest = lt_str_make(text, (size_t)LT_MAX(got, 0));
    if (!lt_str_split(&rest, ' ', &size) || !lt_str_split(&rest, ' ', &resident) ||
        lt_str_to_u64(resident, &pages) != LT_OK)
        return 0;
    uint64_t used = pages * pressure->page_bytes;
    uint32_t acts = px_pressure_acts(&pressure->conf, used);
    atomic_store_explicit(&pressure->used_bytes, used, memory_order_relaxed);
    atomic_store_explicit(&pressure->acts, acts, memory_order_relaxed);
    return acts;
}
