/*
 * net/handover.c - the messages: id, port and address in network byte order; hello is one byte.
 */
#include "net/handover.h"

#include <unistd.h>

#include "net/fd_pass.h"

enum { MESSAGE_BYTES = 8, HELLO = 'H' };

lt_rc lt_handover_send(int sock, const struct lt_handover *message, int fd)
{
    const uint8_t bytes[MESSAGE_BYTES] = {
        (uint8_t)(message->id >> 8), (uint8_t)message->id,         (uint8_t)(message->port >> 8),
        (uint8_t)message->port,      (uint8_t)(message->ip >> 24), (uint8_t)(message->ip >> 16),
        (uint8_t)(message->ip >> 8), (uint8_t)message->ip,
    };
    return lt_fd_send(sock, lt_str_make((const char *)bytes, sizeof(bytes)), fd);
}

lt_rc lt_handover_receive(int sock, struct lt_handover *ret, int *ret_fd)
{
    uint8_t b[MESSAGE_BYTES];
    size_t len = 0;
    LT_TRY(lt_fd_receive(sock, b, sizeof(b), &len, ret_fd));
    if (len != sizeof(b)) {
        if (*ret_fd >= 0)
            close(*ret_fd);
        return LT_E_BAD;
    }
    *ret = (struct lt_handover){
        .id = (uint16_t)(b[0] << 8 | b[1]),
        .port = (uint16_t)(b[2] << 8 | b[3]),
        .ip = (uint32_t)b[4] << 24 | (uint32_t)b[5] << 16 | (uint32_t)b[6] << 8 | b[7],
    };
    return LT_OK;
}

lt_rc lt_handover_send_hello(int sock)
{
    const char hello = HELLO;
    return lt_fd_send(sock, lt_str_make(&hello, 1), -1);
}

lt_rc lt_handover_receive_hello(int sock)
{
    char hello = 0;
    size_t len = 0;
    int fd = -1;
    LT_TRY(lt_fd_receive(sock, &hello, sizeof(hello), &len, &fd));
    if (fd >= 0)
        close(fd);
    return hello == HELLO ? LT_OK : LT_E_BAD;
}
