/*
 * ctl/link.c - rtnetlink requests, one at a time, each with its acknowledgement.
 */
#include "ctl/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>

#include "ctl/proc.h"

enum { MESSAGE_BYTES = 1024 };

/* Sends one request and waits for the kernel's yes or no; errno is the kernel's. */
static int talk(struct nlmsghdr *request)
{
    char answer[8192];
    struct mnl_socket *sock = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    if (sock == NULL)
        return -1;
    request->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
    request->nlmsg_seq = 1;
    int rc = -1;
    if (mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) == 0 &&
        mnl_socket_sendto(sock, request, request->nlmsg_len) > 0) {
        ssize_t len = mnl_socket_recvfrom(sock, answer, sizeof(answer));
        rc = len < 0 ? -1
                     : mnl_cb_run(answer, (size_t)len, 1, mnl_socket_get_portid(sock), NULL, NULL);
    }
    int saved = errno;
    mnl_socket_close(sock);
    errno = saved;
    return rc < 0 ? -1 : 0;
}

static struct nlmsghdr *begin(char *room, uint16_t type, uint16_t flags)
{
    struct nlmsghdr *header = mnl_nlmsg_put_header(room);
    header->nlmsg_type = type;
    header->nlmsg_flags = flags;
    return header;
}

lt_rc ctl_link_add_veth(const char *name, const char *peer, int peer_netns_fd, struct lt_err *err)
{
    char room[MESSAGE_BYTES];
    struct nlmsghdr *header = begin(room, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    mnl_nlmsg_put_extra_header(header, sizeof(struct ifinfomsg));
    mnl_attr_put_strz(header, IFLA_IFNAME, name);
    struct nlattr *info = mnl_attr_nest_start(header, IFLA_LINKINFO);
    mnl_attr_put_strz(header, IFLA_INFO_KIND, "veth");
    struct nlattr *data = mnl_attr_nest_start(header, IFLA_INFO_DATA);
    struct nlattr *other = mnl_attr_nest_start(header, VETH_INFO_PEER);
    mnl_nlmsg_put_extra_header(header, sizeof(struct ifinfomsg));
    mnl_attr_put_strz(header, IFLA_IFNAME, peer);
    mnl_attr_put_u32(header, IFLA_NET_NS_FD, (uint32_t)peer_netns_fd);
    mnl_attr_nest_end(header, other);
    mnl_attr_nest_end(header, data);
    mnl_attr_nest_end(header, info);
    return talk(header) < 0 ? lt_err_errno(err, "adding interface %s", name) : LT_OK;
}

static struct ifinfomsg *put_link(struct nlmsghdr *header, const char *name)
{
    struct ifinfomsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));
    info->ifi_index = (int)if_nametoindex(name);
    return info;
}

void ctl_link_delete(const char *name)
{
    char room[MESSAGE_BYTES];
    struct nlmsghdr *header = begin(room, RTM_DELLINK, 0);
    put_link(header, name);
    talk(header);
}

lt_rc ctl_link_up(const char *name, struct lt_err *err)
{
    char room[MESSAGE_BYTES];
    struct nlmsghdr *header = begin(room, RTM_NEWLINK, 0);
    struct ifinfomsg *info = put_link(header, name);
    info->ifi_flags = info->ifi_change = IFF_UP;
    return talk(header) < 0 ? lt_err_errno(err, "bringing interface %s up", name) : LT_OK;
}

lt_rc ctl_link_add_address(const char *name, uint32_t ip, unsigned prefix_bits, struct lt_err *err)
{
    char room[MESSAGE_BYTES];
    struct nlmsghdr *header = begin(room, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
    struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));
    info->ifa_family = AF_INET;
    info->ifa_prefixlen = (uint8_t)prefix_bits;
    info->ifa_index = if_nametoindex(name);
    mnl_attr_put_u32(header, IFA_LOCAL, htonl(ip));
    mnl_attr_put_u32(header, IFA_ADDRESS, htonl(ip));
    return talk(header) < 0 ? lt_err_errno(err, "adding an address to %s", name) : LT_OK;
}

lt_rc ctl_link_add_route(const char *name, uint32_t dst, unsigned prefix_bits, uint32_t gateway,
                         uint32_t source, struct lt_err *err)
{
    char room[MESSAGE_BYTES];
    struct nlmsghdr *header = begin(room, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
    struct rtmsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));
    *info = (struct rtmsg){
        .rtm_family = AF_INET,
        .rtm_dst_len = (uint8_t)prefix_bits,
        .rtm_table = RT_TABLE_MAIN,
        .rtm_protocol = RTPROT_STATIC,
        .rtm_scope = gateway == 0 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
        .rtm_type = RTN_UNICAST,
        .rtm_flags = gateway == 0 ? 0 : RTNH_F_ONLINK,
    };
    if (prefix_bits > 0)
        mnl_attr_put_u32(header, RTA_DST, htonl(dst));
    if (gateway != 0)
        mnl_attr_put_u32(header, RTA_GATEWAY, htonl(gateway));
    if (source != 0)
        mnl_attr_put_u32(header, RTA_PREFSRC, htonl(source));
    mnl_attr_put_u32(header, RTA_OIF, if_nametoindex(name));
    return talk(header) < 0 ? lt_err_errno(err, "adding a route over %s", name) : LT_OK;
}

lt_rc ctl_sysctl_set(const char *name, const char *value, struct lt_err *err)
{
    char path[256];
    int len = snprintf(path, sizeof(path), "/proc/sys/%s", name);
    LT_ASSERT(len > 0 && (size_t)len < sizeof(path));
    for (char *at = path + sizeof("/proc/sys/") - 1; *at != '\0'; at++)
        *at = *at == '.' ? '/' : *at;
    return ctl_file_write(path, lt_str_of(value), 0644, err);
}
