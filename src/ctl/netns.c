/*
 * ctl/netns.c - making and visiting network namespaces.
 */
#include "ctl/netns.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

static int open_own(void)
{
    return open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
}

lt_rc ctl_netns_new(int *ret_fd, struct lt_err *err)
{
    int back = open_own();
    if (back < 0)
        return lt_err_errno(err, "/proc/self/ns/net");
    if (unshare(CLONE_NEWNET) < 0) {
        close(back);
        return lt_err_errno(err, "a new network namespace");
    }
    *ret_fd = open_own();
    ctl_netns_leave(&back);
    return *ret_fd < 0 ? lt_err_errno(err, "/proc/self/ns/net") : LT_OK;
}

lt_rc ctl_netns_enter(int fd, int *ret_back_fd, struct lt_err *err)
{
    int back = open_own();
    if (back < 0)
        return lt_err_errno(err, "/proc/self/ns/net");
    if (setns(fd, CLONE_NEWNET) < 0) {
        close(back);
        return lt_err_errno(err, "entering a network namespace");
    }
    *ret_back_fd = back;
    return LT_OK;
}

void ctl_netns_leave(int *back_fd)
{
    /*
     * our own namespace cannot be refused; going on in the wrong one would be worse than stopping
     */
    LT_ASSERT(setns(*back_fd, CLONE_NEWNET) == 0);
    close(*back_fd);
    *back_fd = -1;
}
